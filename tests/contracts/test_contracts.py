"""Both ends of what features promise each other: what one writes is what the other reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import cluster, mesh, proxy, serving
from ondol.controllers.endpoints import slices
from ondol.mesh import bootstrap, conditions, definitions
from ondol.mesh.config import MeshConfig
from ondol.mesh.ingress import expansion
from ondol.mesh.ingress.expansion import Surroundings
from ondol.mesh.ingress.feed import ingress_class
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Progress
from ondol.mesh.model import kube
from ondol.mesh.model.validation import Subject
from ondol.mesh.translate.credentials import Certificate
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import World
from ondol.mesh.xds import types
from ondol.node.config import NodeConfig
from ondol.node.network import services
from ondol.observe.traces import spans
from ondol.serverless.activator.throttler import Endpoint
from ondol.serverless.autoscaler import envoy_admin, metrics, reconciler
from ondol.serverless.serving import documents, mappings, rollout, routing, verdicts
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.routing import Target

CONFIG: Final = MeshConfig(Path("/run/netns"), "unix:/xds", "unix:/admin", Path("/envoy.json"))
REVISION: Final[dict[str, Any]] = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Revision",
    "metadata": {
        "name": "hello-00001",
        "namespace": "shop",
        "uid": "r1",
        "generation": 1,
        "resourceVersion": "1",
        "labels": {serving.SERVICE_LABEL: "hello"},
    },
    "spec": {"containers": [{"image": "hello", "ports": [{"name": "h2c", "containerPort": 9000}]}]},
}
CLUSTER: Final = proxy.revision_cluster("hello-00001", "shop", serving.HTTP_PORT)


def with_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    """The object as the API would have stored it."""
    metadata = {**obj["metadata"], "uid": obj["metadata"]["name"], "resourceVersion": "1", "generation": 1}
    return {**obj, "metadata": metadata}


def translated() -> types.Snapshot:
    """What the mesh makes of a revision's Service and of the endpoints the autoscaler gives it."""
    scaler = with_metadata(documents.pod_autoscaler(REVISION))
    slice_ = with_metadata(reconciler.endpoint_slice(scaler, [Endpoint("10.100.0.1", 9000)]))
    service = with_metadata(documents.revision_service(REVISION))
    service["spec"]["clusterIP"] = "10.101.0.1"
    world = World(services=[service], endpoint_slices=[slice_])
    return Translator(CONFIG).translate(world).snapshot


def test_the_mesh_makes_the_cluster_that_the_autoscaler_asks_for() -> None:
    """By its whole name, with the endpoints of the slice that the autoscaler wrote."""
    snapshot = translated()
    assert CLUSTER in snapshot.of(types.CLUSTER)
    assert b"10.100.0.1" in snapshot.of(types.ENDPOINTS)[CLUSTER].body


@pytest.mark.parametrize("name", proxy.REQUESTS)
def test_the_proxy_keeps_and_shows_the_statistics_that_the_autoscaler_reads(name: str) -> None:
    """Its inclusion list has them, its tag takes the name out of them, the admin filter lets them through."""
    config = bootstrap.document(CONFIG)["stats_config"]
    statistic = proxy.statistic(CLUSTER, name)
    patterns = config["stats_matcher"]["inclusion_list"]["patterns"]
    assert any(re.search(each["safe_regex"]["regex"], statistic) for each in patterns)
    tags = {each["tag_name"]: each["regex"] for each in config["stats_tags"]}
    tag = re.search(tags[proxy.CLUSTER_TAG], statistic)
    assert tag is not None
    assert tag[2] == CLUSTER
    assert re.search(envoy_admin._FILTER, statistic)
    assert not re.search(envoy_admin._FILTER, statistic.replace("|80|", "|81|"))


def test_the_autoscaler_reads_the_page_by_the_same_names() -> None:
    """In Prometheus' form, where a dot is an underscore and a histogram a sum and a count."""
    names = (proxy.ACTIVE, proxy.TOTAL, f"{proxy.TIME}_sum", f"{proxy.TIME}_count")
    lines = [
        f'envoy_cluster_{name}{{{proxy.CLUSTER_LABEL}="{CLUSTER}"}} {value}'
        for value, name in enumerate(names, start=1)
    ]
    assert metrics.prometheus_text("\n".join(lines)) == {CLUSTER: metrics.Counters(1, 2, 3, 4)}


names = st.text(alphabet="abcdefghij0123456789-.", min_size=1, max_size=20)


@given(names, st.integers(1, 65535), st.just("") | names, st.just("") | names)
def test_a_cluster_is_read_as_it_was_named(host: str, port: int, subset: str, scope: str) -> None:
    """Naming and reading are each other's inverse."""
    name = proxy.cluster_name(host, port, subset, scope)
    assert proxy.destination(name) == proxy.Destination(host, port, subset, scope)


@pytest.mark.parametrize("name", ["", "PassthroughCluster", "otlp", "inspect|a/b|c", "outbound|80|x"])
def test_what_is_no_services_cluster_is_not_read_as_one(name: str) -> None:
    """The proxy has others, of its own."""
    assert proxy.destination(name) is None


@pytest.mark.parametrize(("subset", "callee"), [("", "reviews"), ("v2", "reviews/v2")])
def test_a_span_names_the_service_by_its_cluster(subset: str, callee: str) -> None:
    """Whichever attribute has it."""
    name = proxy.cluster_name(cluster.service_host("reviews", "shop"), 80, subset)
    assert [spans.callee({key: name}) for key in proxy.CLUSTER_ATTRIBUTES] == [callee, callee]


def test_pods_of_a_revision_are_traced_as_its_service() -> None:
    """The labels Serving puts on them are those the mesh goes by, before all other names."""
    pod = documents.deployment(REVISION, progress_deadline_s=600)["spec"]["template"]
    pod["metadata"]["name"] = "hello-00001-deployment-abc"
    assert (kube.canonical_name(pod), kube.canonical_revision(pod)) == ("hello", "hello-00001")
    assert pod["metadata"]["labels"][serving.REVISION_LABEL] == "hello-00001"


@pytest.mark.parametrize(("name", "protocol"), [("http1", kube.Protocol.HTTP), ("h2c", kube.Protocol.HTTP2)])
def test_the_mesh_reads_what_a_revision_speaks(name: str, protocol: kube.Protocol) -> None:
    """The ports Serving declares are of the protocols the mesh knows by them."""
    containers = [{"image": "hello", "ports": [{"name": name, "containerPort": 9000}]}]
    port = documents.revision_service({**REVISION, "spec": {"containers": containers}})["spec"]["ports"][0]
    assert (kube.protocol(port), port["port"]) == (protocol, serving.HTTP_PORT)


def test_the_rules_of_a_route_are_sound_for_the_mesh() -> None:
    """Gateway, hosts, header values and retries: the mesh's validation finds no mistake in them."""
    metadata = {"name": "hello", "namespace": "shop", "uid": "r"}
    route = {"apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": metadata}
    targets = [Target("hello-00001", 100), Target("hello-00002", 0, tag="next")]
    traffic = routing.traffic(targets, rollout.Rollout())
    rule = routing.virtual_service(route, traffic, Naming("example.com"), by_header=True)
    kind = KINDS["VirtualService"]
    kind.check(kind.rule(rule).spec, Subject("shop", "hello"))
    assert rule["apiVersion"] == mesh.API_VERSION
    assert set(rule["spec"]["gateways"]) == {mesh.MESH_GATEWAY, mesh.INGRESS}


def test_a_route_refers_to_the_gateway_that_the_mesh_makes() -> None:
    """By namespace and name."""
    gateway = definitions.default_gateway(CONFIG.ingress_namespace)
    assert str(objects.key(gateway)) == mesh.INGRESS
    assert gateway["apiVersion"] == mesh.API_VERSION


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(Progress.RUNNING, "True"), (Progress.PENDING, "Unknown")],
)
def test_serving_reads_the_conditions_that_the_mesh_writes(progress: Progress, expected: str) -> None:
    """A Route is ready when the mesh says that its rules run."""
    rule: dict[str, Any] = {"metadata": {"name": "hello", "namespace": "shop", "generation": 3}}
    listed = conditions.of_rule(rule, refusal=None, progress=progress, findings=(), now=0.0)
    verdict = verdicts.ingress_verdict({**rule, "status": {"conditions": listed}}, reported=True)
    assert verdict.status == expected


def test_everybody_has_the_same_cluster_domain_and_label_of_slices() -> None:
    """Mesh, node's DNS, Serving's hosts; who writes slices and who reads them."""
    domains = {CONFIG.cluster_domain, NodeConfig.__dataclass_fields__["cluster_domain"].default}
    assert domains == {cluster.DOMAIN}
    slice_ = {"metadata": {"namespace": "shop", "labels": {slices.SERVICE_NAME: "web"}}}
    assert services.service_of(slice_) == objects.Key("shop", "web")


def test_the_mark_tells_instance_and_passthrough() -> None:
    """What the node's rules look at stays apart from what tells instances."""
    assert proxy.mark("00ab12") & proxy.MARK_MASK == proxy.MARK
    assert proxy.mark("00ab12", passthrough=True) & proxy.MARK_MASK == proxy.MARK
    assert proxy.mark("00ab12") & proxy.INSTANCE_MASK == 0x00AB12
    assert proxy.mark("00ab12") != proxy.mark("00ab12", passthrough=True)


def test_a_mapped_name_is_served_by_both_gateways_with_its_certificate() -> None:
    """The rules of a DomainMapping hold at HTTP and at HTTPS, which its Ingress opens for the name."""
    mapping = with_metadata(
        {
            "apiVersion": "serving.knative.dev/v1beta1",
            "kind": "DomainMapping",
            "metadata": {"name": "shop.example", "namespace": "shop"},
            "spec": {"ref": {}, "tls": {"secretName": "own"}},
        }
    )
    service = with_metadata(documents.revision_service(REVISION))
    service["spec"]["clusterIP"] = "10.101.0.1"
    backend = mappings.backend_of_service(service)
    assert backend is not None
    rule = with_metadata(mappings.virtual_service(mapping, backend, Naming()))
    kind = KINDS["VirtualService"]
    kind.check(kind.rule(rule).spec, Subject("shop", "shop.example"))
    shown = with_metadata(mappings.certificate_ingress(mapping))
    around = Surroundings(
        {objects.key(service): service},
        {Key("shop", "own"): Certificate("shop/own", "1", b"CHAIN", b"KEY")},
    )
    expanded = expansion.expand([shown], [ingress_class(is_default=True)], around)
    assert expanded.problems == {objects.key(shown): []}
    rules: dict[str, list[Any]] = {name: [] for name in KINDS} | {
        "VirtualService": [KINDS["VirtualService"].rule(rule)],
        "Gateway": [KINDS["Gateway"].rule(with_metadata(definitions.default_gateway("ondol-system")))],
    }
    world = World(
        namespaces=[{"metadata": {"name": "shop"}}],
        services=[service],
        rules=expanded.beside(rules),
        terminations=expanded.terminations,
    )
    routes = Translator(CONFIG).translate(world).snapshot.of(types.ROUTES)
    names = [
        name
        for name, table in routes.items()
        if b"hello-00001.shop" in table.body and b"shop.example" in table.body
    ]
    assert sorted(names) == ["ingress-tls", "ingress|80"]
