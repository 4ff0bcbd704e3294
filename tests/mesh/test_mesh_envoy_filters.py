"""EnvoyFilters: what each patch does to what was translated, for whom, and what only root namespaces may."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tests.mesh.envoy_filters import (
    BUFFER,
    HCM,
    LIMIT,
    LUA,
    OWN,
    ROOT,
    TYPE,
    clusters,
    http,
    manager,
    put,
    routes,
)

from ondol.api.objects import Key
from ondol.mesh import analysis, process
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.config import MeshConfig
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]


@pytest.fixture
def shop(objs: Any) -> Any:
    objs.pod("client")
    objs.pod("client", namespace="other")
    objs.service("web", ip="10.101.0.5", endpoints=[("10.100.0.1", 80)])
    objs.service("plain", ("p", 81), ip="10.101.0.6", endpoints=[("10.100.0.1", 81)])
    objs.gateway()
    at_ingress = {"hosts": ["web.example"], "gateways": ["ondol-system/ingress"]}
    to = {"route": [{"destination": {"host": "web"}}]}
    objs.virtual_service("web", {**at_ingress, "http": [to]})
    return objs


def listener(
    translation: Translation, pod: str = "client", namespace: str = "default"
) -> m.listener.Listener:
    name = translation.pods[Key(namespace, pod)].listener
    return m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[name].body)


def chain(of: m.listener.Listener, name: str = "http|80") -> m.hcm.HttpConnectionManager:
    manager_of = m.hcm.HttpConnectionManager()
    filters = next(each for each in of.filter_chains if each.name == name).filters
    next(each for each in filters if each.name == HCM).typed_config.Unpack(manager_of)
    return manager_of


def names(of: m.hcm.HttpConnectionManager) -> list[str]:
    return [each.name.removeprefix("envoy.filters.http.") for each in of.http_filters]


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (http(BUFFER), ["cors", "fault", "grpc_stats", "buffer", "router"]),
        (
            http(BUFFER, "INSERT_AFTER", "envoy.filters.http.cors"),
            ["cors", "buffer", "fault", "grpc_stats", "router"],
        ),
        (http(BUFFER, "INSERT_FIRST"), ["buffer", "cors", "fault", "grpc_stats", "router"]),
        (http(BUFFER, "ADD"), ["cors", "fault", "grpc_stats", "router", "buffer"]),
        (http(None, "REMOVE", "envoy.filters.http.cors"), ["fault", "grpc_stats", "router"]),
        (http(BUFFER, "REPLACE", "envoy.filters.http.cors"), ["buffer", "fault", "grpc_stats", "router"]),
        (http(BUFFER, "INSERT_BEFORE", "nothing"), ["cors", "fault", "grpc_stats", "router"]),
        (http(BUFFER, portNumber=81), ["cors", "fault", "grpc_stats", "router"]),
        (http(BUFFER, portNumber=80), ["cors", "fault", "grpc_stats", "buffer", "router"]),
        (http(BUFFER, name="0.0.0.0_80"), ["cors", "fault", "grpc_stats", "buffer", "router"]),
        (http(BUFFER, name="virtualOutbound"), ["cors", "fault", "grpc_stats", "buffer", "router"]),
        (http(BUFFER, name="virtualInbound"), ["cors", "fault", "grpc_stats", "router"]),
    ],
)
def test_http_filters_are_put_where_they_belong(
    shop: Any, translate: Translate, patch: Any, expected: list[str]
) -> None:
    """By operation, filter and port; who matches nothing changes nothing and is on nothing."""
    put(shop, patch, namespace=ROOT)
    translation = translate(shop)
    assert names(chain(listener(translation))) == expected
    resource = translation.snapshot.of(types.LISTENER)[translation.pods[Key("default", "client")].listener]
    is_ours = any(origin.kind == "EnvoyFilter" for origin in resource.origins)
    assert is_ours is (expected != ["cors", "fault", "grpc_stats", "router"])


def test_it_holds_for_its_own_namespace_and_a_roots_for_all(shop: Any, translate: Translate) -> None:
    """The ingress gateway is a workload of a root namespace; what is undeclared is patched, too."""
    put(shop, http(BUFFER))
    translation = translate(shop)
    assert "buffer" in names(chain(listener(translation)))
    assert "buffer" not in names(chain(listener(translation, namespace="other")))
    own = translation.pods[Key("default", "client")]
    inside = m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[own.inspectors[0]].body)
    assert "buffer" in names(chain(inside, "http|81"))

    def at_ingress(of: Translation) -> list[str]:
        body = of.snapshot.of(types.LISTENER)["ingress|80"].body
        return names(chain(m.listener.Listener.FromString(body), "ingress|80"))

    assert "buffer" not in at_ingress(translation)
    put(shop, http(LUA), name="all", namespace=ROOT)
    translation = translate(shop)
    assert "lua" in names(chain(listener(translation, namespace="other")))
    assert "lua" in at_ingress(translation)
    selector: dict[str, Any] = {"workloadSelector": {"labels": {"istio": "ingressgateway"}}}
    put(shop, http(LUA), name="all", namespace=ROOT, **selector)
    translation = translate(shop)
    assert "lua" not in names(chain(listener(translation, namespace="other")))
    assert "lua" in at_ingress(translation)


def test_the_roots_come_first_then_priority_then_age(shop: Any, translate: Translate) -> None:
    """Each is applied to what those before it left."""
    for name, priority in (("second", 0), ("third", 5), ("first", -5)):
        put(shop, http({**BUFFER, "name": name}), name=name, priority=priority)
    put(shop, http({**BUFFER, "name": "root"}), name="root", namespace=ROOT, priority=9)
    expected = ["cors", "fault", "grpc_stats", "root", "first", "second", "third", "router"]
    assert names(chain(listener(translate(shop)))) == expected


def test_a_merge_goes_into_a_typed_configuration(shop: Any, translate: Translate) -> None:
    """Of a filter inside the chain, and of one inside the manager."""
    put(shop, manager(server_name="shop", stream_idle_timeout="7s", server_header_transformation="OVERWRITE"))
    merged = chain(listener(translate(shop)))
    assert (merged.stream_idle_timeout.seconds, merged.rds.route_config_name) == (7, "80|default")
    cors = {"typed_config": {"@type": f"{TYPE}.http.fault.v3.HTTPFault", "max_active_faults": 3}}
    put(shop, http(cors, "MERGE", "envoy.filters.http.fault"))
    fault = m.fault.HTTPFault()
    chain(listener(translate(shop))).http_filters[1].typed_config.Unpack(fault)
    assert json_format.MessageToDict(fault) == {"maxActiveFaults": 3}


@pytest.mark.parametrize(
    ("patch", "path", "expected"),
    [
        (
            routes("ROUTE_CONFIGURATION", {"requestHeadersToRemove": ["x"]}),
            ("requestHeadersToRemove",),
            ["x"],
        ),
        (
            routes("ROUTE_CONFIGURATION", {"requestHeadersToRemove": ["x"]}, portNumber=81),
            ("requestHeadersToRemove",),
            None,
        ),
        (
            routes(
                "VIRTUAL_HOST",
                {"requestHeadersToRemove": ["x"]},
                name="80",
                vhost={"name": "web.default.svc.cluster.local:80"},
            ),
            ("virtualHosts", "0", "requestHeadersToRemove"),
            ["x"],
        ),
        (
            routes(
                "HTTP_ROUTE",
                {"route": {"timeout": "3s"}},
                vhost={"domainName": "web", "route": {"name": "default"}},
            ),
            ("virtualHosts", "0", "routes", "0", "route", "timeout"),
            "3s",
        ),
        (
            routes(
                "HTTP_ROUTE",
                {"name": "stop", "match": {"prefix": "/stop"}, "directResponse": {"status": 418}},
                "INSERT_FIRST",
                vhost={"name": "web.default.svc.cluster.local:80"},
            ),
            ("virtualHosts", "0", "routes", "0", "name"),
            "stop",
        ),
        (
            routes("HTTP_ROUTE", {"metadata": {}}, "REMOVE", vhost={"route": {"action": "ROUTE"}}),
            ("virtualHosts", "0", "routes"),
            None,
        ),
        (
            routes("VIRTUAL_HOST", {"name": "n", "domains": ["n.example"]}, "ADD"),
            ("virtualHosts", "-1", "name"),
            "n",
        ),
        (
            routes("VIRTUAL_HOST", None, "REMOVE", vhost={"name": "allow_any"}),
            ("virtualHosts", "-1", "name"),
            "web.default.svc.cluster.local",
        ),
    ],
)
def test_routes_are_patched(
    shop: Any, translate: Translate, patch: Any, path: tuple[str, ...], expected: Any
) -> None:
    """Tables, hosts and routes by Istio's names for them; another namespace's table stays as it was."""
    before = translate(shop).snapshot.of(types.ROUTES)["80|other"]
    put(shop, patch)
    tables = translate(shop).snapshot.of(types.ROUTES)
    document: Any = json_format.MessageToDict(
        m.route.RouteConfiguration.FromString(tables["80|default"].body)
    )
    for name in path:
        document = document.get(name) if isinstance(document, dict) else document[int(name)]
    assert document == expected
    assert tables["80|other"] == before


def test_tables_of_workloads_are_patched_for_them_alone(
    shop: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """A selector gives its pods tables of their own."""
    shop.pod("old", tier="old")
    selector: dict[str, Any] = {"workloadSelector": {"labels": {"tier": "old"}}}
    put(shop, routes("ROUTE_CONFIGURATION", {"requestHeadersToRemove": ["x"]}), **selector)
    translation = translate(shop)
    tables = translation.snapshot.of(types.ROUTES)
    own, others = (translation.pods[Key("default", pod)].tables for pod in ("old", "client"))
    assert own[0] == "80|default~!default/f"
    assert b"\x01x" in tables[own[0]].body
    assert all(not tables[name].origins or name != own[0] for name in others)
    assert set(own).isdisjoint(others)
    assert translation.snapshot == Translator(mesh_config).translate(shop.world()).snapshot


def test_the_ingress_tables_are_patched_by_their_gateway(shop: Any, translate: Translate) -> None:
    """By the context and the Gateway's name."""
    value = {"requestHeadersToRemove": ["x"]}
    patch = routes("ROUTE_CONFIGURATION", value, gateway="ondol-system/ingress", name="http.80")
    patch["match"]["context"] = "GATEWAY"
    put(shop, patch, namespace=ROOT)
    tables = translate(shop).snapshot.of(types.ROUTES)
    patched = {name for name, each in tables.items() if any(o.kind == "EnvoyFilter" for o in each.origins)}
    assert patched == {"ingress|80"}


def test_clusters_are_patched_added_and_removed(shop: Any, translate: Translate) -> None:
    """For all who call; no object takes the name of a cluster that there is."""
    web, plain = (
        f"outbound|{port}||{name}.default.svc.cluster.local" for port, name in ((80, "web"), (81, "plain"))
    )
    added = {"name": "extra", "type": "STATIC", "connectTimeout": "1s"}
    put(
        shop,
        clusters({"connectTimeout": "33s"}, service="web.default.svc.cluster.local", portNumber=80),
        clusters(None, "REMOVE", service="plain.default.svc.cluster.local"),
        clusters(added, "ADD"),
        clusters({**added, "name": web}, "ADD"),
        clusters({**added, "name": "xds"}, "ADD"),
        namespace=ROOT,
    )
    resources = translate(shop).snapshot.of(types.CLUSTER)
    assert m.cluster.Cluster.FromString(resources[web].body).connect_timeout.seconds == 33
    assert plain not in resources
    assert "extra" in resources
    assert "xds" not in resources


def test_extensions_are_resources_of_their_own(shop: Any, translate: Translate) -> None:
    """A filter that names one is told of it by discovery."""
    patch = {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "ADD", "value": LUA}}
    put(shop, patch, namespace=ROOT)
    (resource,) = translate(shop).snapshot.of(types.EXTENSION).values()
    assert (resource.name, resource.origins[0].kind) == ("lua", "EnvoyFilter")


def test_a_change_is_translated_like_a_new_world(
    shop: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """Filters come, change and go, among pods that do."""
    for step in range(4):
        if step < 3:
            put(shop, http({**BUFFER, "name": f"b{step}"}), manager(stream_idle_timeout=f"{step + 1}s"))
        else:
            shop.drop("EnvoyFilter", "f")
        shop.pod(f"p{step}")
        assert translate(shop).snapshot == Translator(mesh_config).translate(shop.world()).snapshot


def test_a_pod_changes_no_other_pods_listener(shop: Any, translate: Translate) -> None:
    """What is patched is made once for each workload."""
    put(shop, http(BUFFER))
    before = translate(shop)
    shop.pod("late")
    after = translate(shop)
    name = before.pods[Key("default", "client")].listener
    assert before.snapshot.of(types.LISTENER)[name] is after.snapshot.of(types.LISTENER)[name]


def test_the_proxy_takes_what_is_made(shop: Any, translate: Translate, tmp_path: Path) -> None:
    """Envoy reads a listener with the filters that people use most, each validated by its own type."""
    grpc = {"envoy_grpc": {"cluster_name": OWN}}
    used = [
        LUA,
        LIMIT,
        BUFFER,
        {"name": "web", "typed_config": {"@type": f"{TYPE}.http.grpc_web.v3.GrpcWeb"}},
        {"name": "stats", "typed_config": {"@type": f"{TYPE}.http.grpc_stats.v3.FilterConfig"}},
        {
            "name": "mutation",
            "typed_config": {
                "@type": f"{TYPE}.http.header_mutation.v3.HeaderMutation",
                "mutations": {"response_mutations": [{"remove": "server"}]},
            },
        },
        {
            "name": "gzip",
            "typed_config": {
                "@type": f"{TYPE}.http.compressor.v3.Compressor",
                "compressor_library": {
                    "name": "gzip",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"
                    },
                },
            },
        },
        {
            "name": "authz",
            "typed_config": {"@type": f"{TYPE}.http.ext_authz.v3.ExtAuthz", "grpc_service": grpc},
        },
        {
            "name": "proc",
            "typed_config": {"@type": f"{TYPE}.http.ext_proc.v3.ExternalProcessor", "grpc_service": grpc},
        },
    ]
    put(shop, *map(http, used), manager(server_name="shop", stream_idle_timeout="1s"), namespace=ROOT)
    put(shop, *(http(each) for each in used if each is not LUA), name="own")
    document = json_format.MessageToDict(listener(translate(shop)), preserving_proto_field_name=True)
    text = json.dumps(document).replace(
        str(document["address"]["socket_address"]["network_namespace_filepath"]), ""
    )
    authz = {"name": OWN, "type": "STATIC", "connect_timeout": "1s"}
    static = {"listeners": [json.loads(text)], "clusters": [authz]}
    node = {"id": "a", "cluster": "b"}
    ads = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [grpc]}
    file = tmp_path / "envoy.json"
    dynamic = {"ads_config": ads}
    file.write_text(json.dumps({"node": node, "static_resources": static, "dynamic_resources": dynamic}))
    words = [str(process.envoy_binary()), "--mode", "validate", "-c", str(file)]
    outcome = subprocess.run(words, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_findings_and_progress_tell_who_is_met(shop: Any, translate: Translate) -> None:
    """A selector of nobody; an object that changes nothing is on no resource."""
    put(shop, http(BUFFER), workloadSelector={"labels": {"app": "nobody"}})
    world = shop.world()
    listed = [each.code for each in analysis.findings(world, translate(shop))]
    assert listed == ["KIA0004", "IST0151"]


def test_a_pod_whose_listener_fails_blames_no_filter_that_runs_elsewhere(shop: Any) -> None:
    """A namespace that is gone is nobody's fault; a filter that runs nowhere yet is blamed."""
    acceptance = Acceptance()
    put(shop, http(BUFFER))
    (rule,) = acceptance.admit("EnvoyFilter", shop.of("EnvoyFilter"))
    pod = types.Origin("Pod", "default", "client", "1")
    running = types.Resource("pod|a", "1", b"", (pod, rule.origin))
    acceptance.observe([types.Accepted(types.LISTENER, (running,))])
    failing = types.Resource("pod|b", "1", b"", (pod, rule.origin))
    assert not acceptance.observe([types.Rejected(types.LISTENER, failing, "no such namespace")])
    put(shop, http({**BUFFER, "name": "b2"}))
    (newer,) = acceptance.admit("EnvoyFilter", shop.of("EnvoyFilter"))
    failing = types.Resource("pod|a", "2", b"", (pod, newer.origin))
    assert acceptance.observe([types.Rejected(types.LISTENER, failing, "bad filter", accepted=running)])
    assert acceptance.admit("EnvoyFilter", shop.of("EnvoyFilter")) == [rule]


def test_proxies_are_matched_by_version(shop: Any, translate: Translate) -> None:
    """Ours answers to one of Istio's, and has no metadata."""
    for match, is_there in (({"proxyVersion": r"^1\.31.*"}, True), ({"proxyVersion": "^1.9"}, False)):
        patch = http(BUFFER)
        patch["match"]["proxy"] = match
        put(shop, patch)
        assert ("buffer" in names(chain(listener(translate(shop))))) is is_there


def test_a_merge_of_another_type_takes_nothing_away(shop: Any, translate: Translate) -> None:
    """What says whence a connection is dialled stays, whatever is merged over it."""
    before = listener(translate(shop))
    typed = {"@type": f"{TYPE}.network.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "x"}
    match = {"listener": {"filterChain": {"filter": {"name": "envoy.filters.network.set_filter_state"}}}}
    patch = {"operation": "MERGE", "value": {"typed_config": typed}}
    put(shop, {"applyTo": "NETWORK_FILTER", "match": match, "patch": patch})
    assert listener(translate(shop)).filter_chains == before.filter_chains
