"""The translation as a whole: what one change touches, what is consistent, the bytes of one world."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import mesh, proxy
from ondol.mesh import analysis, bootstrap, definitions
from ondol.mesh.config import MeshConfig
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import durations, istio, kube
from ondol.mesh.model.istio import Refused
from ondol.mesh.model.kube import Protocol, protocol
from ondol.mesh.translate import chains, layouts, observing, registry
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Snapshot

Translate = Callable[[Any], Translation]
GOLDEN = Path(__file__).with_name("golden")
MESSAGES: dict[str, type[m.Message]] = {
    types.CLUSTER: m.cluster.Cluster,
    types.ENDPOINTS: m.endpoint.ClusterLoadAssignment,
    types.LISTENER: m.listener.Listener,
    types.ROUTES: m.route.RouteConfiguration,
}


def changed(before: Snapshot, after: Snapshot) -> dict[str, set[str]]:
    """Names by short type whose version differs."""
    changes = {}
    for url in MESSAGES:
        old = {name: r.version for name, r in before.of(url).items()}
        new = {name: r.version for name, r in after.of(url).items()}
        names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        if names:
            changes[url.rpartition(".")[2]] = names
    return changes


def shop(objs: Any) -> None:
    """Two namespaces, three services, a rule of each kind."""
    objs.gateway()
    objs.pod("client")
    objs.pod("web-1", version="v1")
    objs.pod("guest", namespace="other")
    objs.service("web", ip="10.101.0.1", endpoints=[("10.100.0.1", 8080)], pods=["web-1"])
    objs.service("db", ("tcp-sql", 5432), ip="10.101.0.2", endpoints=[("10.100.0.3", 5432)])
    objs.service("api", ("grpc", 80), namespace="other", ip="10.101.0.3", endpoints=[("10.100.0.4", 9090)])
    objs.destination_rule("web", {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
    route = {"destination": {"host": "web", "subset": "v1"}}
    objs.virtual_service(
        "web", {"hosts": ["web"], "gateways": ["mesh", "ondol-system/ingress"], "http": [{"route": [route]}]}
    )


def test_a_new_pod_makes_its_listener_only(objs: Any, translate: Translate) -> None:
    """Nothing else is sent, and nothing else is even computed anew."""
    shop(objs)
    for number in range(20):
        objs.pod(f"more-{number}")
    before = translate(objs)
    again = translate(objs)
    assert changed(before.snapshot, again.snapshot) == {}
    pod = objs.pod("new")
    after = translate(objs)
    name = f"pod|default/new|{objects.uid(pod)}"
    assert changed(before.snapshot, after.snapshot) == {"Listener": {name}}


def test_what_is_made_for_one_change_is_counted(objs: Any, mesh_config: MeshConfig) -> None:
    """An endpoint's change makes its assignments; the hundred other services cost no translation."""
    shop(objs)
    for number in range(100):
        objs.service(f"s{number}", endpoints=[("10.100.1.1", 80)])
    translator = Translator(mesh_config)
    before = translator.translate(objs.world())
    misses = translator.cache.misses
    objs.endpoints("web", ("10.100.0.1", 8080), ("10.100.0.2", 8080), pods=["web-1"])
    after = translator.translate(objs.world())
    names = {"outbound|80||web.default.svc.cluster.local"}
    assert changed(before.snapshot, after.snapshot) == {"ClusterLoadAssignment": names}
    assert translator.cache.misses - misses <= 3


def test_a_cluster_has_the_name_by_which_traces_call_it(objs: Any, translate: Translate) -> None:
    """Where the service's label says one, as those of revisions do; spans bring it along."""
    for name, labels in (("web", {}), ("web-00001", {mesh.CANONICAL_NAME: "web"})):
        objs.service(name)
        objs.of("Service")[-1]["metadata"]["labels"] = labels
    resources = translate(objs).snapshot.of(types.CLUSTER)
    names = {}
    for name, resource in resources.items():
        metadata = json_format.MessageToDict(m.cluster.Cluster.FromString(resource.body).metadata)
        names[name] = metadata.get("filterMetadata", {}).get("istio")
    assert names["outbound|80||web-00001.default.svc.cluster.local"] == {"canonical_service": "web"}
    assert names["outbound|80||web.default.svc.cluster.local"] is None


def test_a_rules_status_is_no_change(objs: Any, translate: Translate) -> None:
    """Writing conditions on an object does not make its configuration anew."""
    shop(objs)
    before = translate(objs)
    objs.of("VirtualService")[0]["metadata"]["resourceVersion"] = "999999"
    assert changed(before.snapshot, translate(objs).snapshot) == {}


def test_a_remembering_translator_says_what_a_fresh_one_says(
    objs: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """Memory saves work and changes nothing."""
    shop(objs)
    translate(objs)
    objs.service("late", endpoints=[("10.100.0.9", 80)])
    objs.drop("DestinationRule", "web")
    objs.pod("web-1", version="v2")
    remembered = translate(objs).snapshot
    assert changed(remembered, Translator(mesh_config).translate(objs.world()).snapshot) == {}


def test_a_running_pod_keeps_its_listener_whatever_labels_say(objs: Any, translate: Translate) -> None:
    """Its calls go to the proxy until its sandbox ends: without a listener they would all fail."""
    pod = objs.pod("in")
    pod["status"]["conditions"].append({"type": mesh.POD_PROGRAMMED, "status": "True"})
    pod["metadata"]["labels"][mesh.MODE_LABEL] = "none"
    assert set(translate(objs).pods) == {Key("default", "in")}
    next_sandbox = copy.deepcopy(pod)
    next_sandbox["status"]["conditions"].pop()
    objs.objects["Pod"]["default", "in"] = next_sandbox
    assert set(translate(objs).pods) == set()


@pytest.mark.parametrize(
    ("name", "number"),
    [("", 5001), ("web", 80), ("http-web", 5002), ("tcp-redis", 6379), ("mysql", 3306), ("tcp-new", 7777)],
)
def test_a_new_port_leaves_connections_alone(objs: Any, translate: Translate, name: str, number: int) -> None:
    """Envoy keeps a listener's connections as long as nothing but its chains changes."""
    shop(objs)
    before = _pod_listener(translate(objs))
    objs.service("late", (name, number))
    after = _pod_listener(translate(objs))
    chains = {chain.name: chain for chain in after.filter_chains}
    assert [chains[chain.name] for chain in before.filter_chains] == list(before.filter_chains)
    assert after != before
    for each in (before, after):
        each.ClearField("filter_chains")
        each.ClearField("filter_chain_matcher")
    assert before == after


def test_limits_of_connections_reach_those_that_are_no_http(objs: Any, translate: Translate) -> None:
    """A policy's idle timeout and longest life hold for TCP ports; absurd ones cannot break the listener."""
    objs.pod("client")
    objs.service("db", ("tcp-sql", 5432))
    tcp = {"idleTimeout": "90s", "maxConnectionDuration": f"{10**16}h"}
    objs.destination_rule("db", {"host": "db", "trafficPolicy": {"connectionPool": {"tcp": tcp}}})
    layout = layouts.layout(_registry(objs), ())
    name = "outbound|5432||db.default.svc.cluster.local"
    assert layout.limits[name].idle_ms == 90_000
    chain = chains.tcp(name, name, observing.Observation(), layout.limits[name])
    proxy = m.tcp_proxy.TcpProxy()
    chain.filters[0].typed_config.Unpack(proxy)
    assert proxy.idle_timeout.ToMilliseconds() == 90_000
    assert proxy.max_downstream_connection_duration.seconds == 10 * 365 * 86_400


def _registry(objs: Any) -> registry.Registry:
    built = registry.Registry("cluster.local")
    for obj in objs.of("Service"):
        if (service := kube.service(obj, "cluster.local")) is not None:
            built.services[service.host] = service
    built.add_policies(objs.world().destination_rules)
    return built


def test_only_what_is_undeclared_is_looked_at(objs: Any, translate: Translate) -> None:
    """A pod's own listener waits for nobody's bytes; the one inside the proxy does, for its ports alone."""
    objs.pod("client")
    objs.service("mail", ("tcp-mail", 2525))
    objs.service("web", ("", 8080))
    translation = translate(objs)
    filters = [each.name for each in _pod_listener(translation).listener_filters]
    assert filters == ["envoy.filters.listener.original_dst"]
    plan = translation.pods[Key("default", "client")]
    inner = m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[plan.inspectors[0]].body)
    looks = [each.name.removeprefix("envoy.filters.listener.") for each in inner.listener_filters]
    assert looks == ["original_dst", "tls_inspector", "http_inspector"]
    assert set(inner.filter_chain_matcher.matcher_tree.exact_match_map.map) == {"8080"}
    assert plan.inspectors[0] in translation.snapshot.of(types.CLUSTER)


def test_pods_of_a_workload_share_what_looks_at_the_undeclared(objs: Any, translate: Translate) -> None:
    """One listener inside the proxy for those that nothing tells apart; none where all is declared."""
    objs.service("web", ("", 8080))
    for name in ("a", "b"):
        objs.pod(name)["metadata"]["labels"] = {"app": "same"}
    objs.pod("c")
    plans = translate(objs).pods
    assert plans[Key("default", "a")].inspectors == plans[Key("default", "b")].inspectors
    assert plans[Key("default", "c")].inspectors != plans[Key("default", "a")].inspectors
    objs.drop("Service", "web")
    assert translate(objs).pods[Key("default", "a")].inspectors == ()


def test_a_rule_for_some_callers_changes_no_listener(objs: Any, translate: Translate) -> None:
    """Labels are matched by the proxy: else a rule would close the connections of those it speaks of."""
    shop(objs)
    before = translate(objs)
    match = [{"sourceLabels": {"app": "client"}}]
    routes = [
        {"match": match, "directResponse": {"status": 403}},
        {"route": [{"destination": {"host": "web"}}]},
    ]
    objs.virtual_service("web", {"hosts": ["web"], "http": routes})
    after = translate(objs)
    assert set(changed(before.snapshot, after.snapshot)) == {"RouteConfiguration"}


def _pod_listener(translation: Translation) -> Any:
    name = next(iter(translation.pods.values())).listener
    return m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[name].body)


def test_the_snapshot_is_consistent(objs: Any, translate: Translate) -> None:
    """Every route table a listener names and every assignment a cluster waits for is there."""
    shop(objs)
    translation = translate(objs)
    tables = set()
    for resource in translation.snapshot.of(types.LISTENER).values():
        for chain in m.listener.Listener.FromString(resource.body).filter_chains:
            manager = m.hcm.HttpConnectionManager()
            if chain.filters[-1].typed_config.Unpack(manager):
                tables.add(manager.rds.route_config_name)
    assert tables == set(translation.snapshot.of(types.ROUTES))
    waiting = {
        name
        for name, resource in translation.snapshot.of(types.CLUSTER).items()
        if m.cluster.Cluster.FromString(resource.body).type == m.cluster.Cluster.EDS
    }
    assert waiting == set(translation.snapshot.of(types.ENDPOINTS))


def test_pods_outside_the_mesh_have_no_listener(objs: Any, translate: Translate) -> None:
    """Host network, the opt-out label on pod or namespace, no sandbox yet, or ended: no listener."""
    objs.pod("in")
    objs.put("Pod", "host", "default", {"hostNetwork": True}, status=objs.pod("in")["status"])
    objs.pod("out", **{"istio.io/dataplane-mode": "none"})
    objs.put("Namespace", "other", "", {}, labels={"istio.io/dataplane-mode": "none"})
    objs.pod("guest", namespace="other")
    objs.pod("early")["status"] = {"phase": "Pending"}
    objs.pod("done")["status"]["phase"] = "Succeeded"
    assert {str(key) for key in translate(objs).pods} == {"default/in"}


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"name": "http"}, Protocol.HTTP),
        ({"name": "http-metrics"}, Protocol.HTTP),
        ({"name": "http2-x"}, Protocol.HTTP2),
        ({"name": "grpc"}, Protocol.HTTP2),
        ({"name": "grpc-web-x"}, Protocol.HTTP),
        ({"name": "tcp-x"}, Protocol.TCP),
        ({"name": "https"}, Protocol.TLS),
        ({"name": "tcp", "appProtocol": "http"}, Protocol.HTTP),
        ({"name": "x", "appProtocol": "kubernetes.io/h2c"}, Protocol.HTTP2),
        ({"name": "web", "port": 8080}, Protocol.SNIFFED),
        ({"port": 3306}, Protocol.TCP),
    ],
)
def test_a_ports_protocol(port: dict[str, Any], expected: Protocol) -> None:
    """appProtocol, then the name's prefix, then ports that are known to speak first, then sniffing."""
    assert protocol(port) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1s", 1000), ("1.5s", 1500), ("1h30m", 5_400_000), ("250ms", 250), ("0s", 0)]
)
def test_durations(text: str, expected: int) -> None:
    """Durations are Go's."""
    assert durations.milliseconds(text) == expected


WEB = {"destination": {"host": "web"}}


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("VirtualService", {"hosts": ["a"]}, "at least one route"),
        ("VirtualService", {"hosts": ["a"], "http": [{}]}, "exactly one of"),
        ("VirtualService", {"hosts": ["a"], "http": [{"route": [WEB], "redirect": {}}]}, "exactly one of"),
        ("VirtualService", {"hosts": ["a"], "http": [{"route": [WEB, WEB]}]}, "add up to 0"),
        (
            "VirtualService",
            {"hosts": ["a"], "http": [{"route": [WEB], "timeout": "soon"}]},
            "spec.http[0].timeout",
        ),
        ("VirtualService", {"hosts": ["a"], "http": [{"rout": []}]}, "unknown field `rout`"),
        ("VirtualService", {"gateways": ["gw"], "http": [{"route": [WEB]}]}, "without hosts"),
        (
            "VirtualService",
            {"hosts": ["a"], "http": [{"route": [WEB], "match": [{"uri": {"exact": "/", "prefix": "/"}}]}]},
            "only one of exact and prefix",
        ),
        (
            "VirtualService",
            {"hosts": ["a"], "http": [{"route": [WEB], "headers": {"request": {"set": {"a b": "c"}}}}]},
            "not a header name",
        ),
        ("VirtualService", {"hosts": ["*"], "http": [{"route": [WEB]}]}, "* is for gateways"),
        (
            "VirtualService",
            {"hosts": ["*"], "gateways": ["a", "mesh"], "http": [{"route": [WEB]}]},
            "* is for gateways",
        ),
        (
            "VirtualService",
            {"hosts": ["a"], "http": [{"route": [WEB], "retries": {"retryOn": "5xx"}}]},
            "retryOn needs retries.attempts",
        ),
        (
            "VirtualService",
            {
                "hosts": ["a"],
                "http": [{"route": [WEB], "retries": {"attempts": 1, "retryOn": "5xx,gateway-eror"}}],
            },
            "'gateway-eror' is none of",
        ),
        (
            "VirtualService",
            {"hosts": ["a"], "http": [{"route": [WEB], "headers": {"request": {"add": {"Host": "b"}}}}]},
            "can only be set",
        ),
        ("DestinationRule", {"host": "a", "subsets": [{"name": "x"}, {"name": "x"}]}, "given twice"),
        (
            "DestinationRule",
            {
                "host": "a",
                "trafficPolicy": {
                    "loadBalancer": {"consistentHash": {"maglev": {"tableSize": 4}, "useSourceIp": True}}
                },
            },
            "not a prime",
        ),
        (
            "Gateway",
            {"servers": [{"port": {"number": 1, "name": "a", "protocol": "HTTP"}, "hosts": ["*-a.b"]}]},
            "first label",
        ),
        (
            "Gateway",
            {"servers": [{"port": {"number": 0, "name": "a", "protocol": "HTTP"}, "hosts": ["a"]}]},
            "number",
        ),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(kind: str, spec: dict[str, Any], words: str) -> None:
    """The message names the field or the contradiction."""
    with pytest.raises(Refused) as refused:
        KINDS[kind].check(istio.read(KINDS[kind].spec, {"spec": spec}))
    assert words in str(refused.value)


def test_a_failure_names_the_object_that_caused_it(objs: Any, translate: Translate) -> None:
    """What protobuf cannot hold is blamed on the rule or policy it stands in."""
    shop(objs)
    headers = {"request": {"set": {"x": "\ud800"}}}
    objs.virtual_service("bad", {"hosts": ["bad.x"], "http": [{"route": [WEB], "headers": headers}]})
    with pytest.raises(registry.Failed) as failed:
        translate(objs)
    assert failed.value.origin.name == "bad"
    objs.drop("VirtualService", "bad")
    forever = {"loadBalancer": {"warmupDurationSecs": f"{10**16}h"}}
    objs.destination_rule("long", {"host": "api.other", "trafficPolicy": forever})
    with pytest.raises(registry.Failed) as failed:
        translate(objs)
    assert failed.value.origin.name == "long"


def codes(objs: Any, translate: Translate) -> dict[str, set[str]]:
    by_owner: dict[str, set[str]] = {}
    for finding in analysis.findings(objs.world(), translate(objs)):
        by_owner.setdefault(finding.origin.name, set()).add(finding.code)
    return by_owner


def test_a_sound_world_has_no_findings(objs: Any, translate: Translate) -> None:
    """The analysis does not cry wolf."""
    shop(objs)
    assert codes(objs, translate) == {}


def test_findings(objs: Any, translate: Translate) -> None:
    """Unknown hosts, subsets, ports, gateways; duplicates; selectors that select nobody."""
    shop(objs)

    def rule(name: str, host: str, **more: Any) -> None:
        objs.virtual_service(
            name, {"hosts": [f"{name}.x"], "http": [{"route": [{"destination": {"host": host} | more}]}]}
        )

    rule("no-host", "nobody")
    rule("no-subset", "web", subset="v9")
    rule("no-port", "web", port={"number": 81})
    objs.virtual_service("twice", {"hosts": ["web"], "http": [{"route": [WEB]}]})
    objs.virtual_service("no-gate", {"hosts": ["g.x"], "gateways": ["gone"], "http": [{"route": [WEB]}]})
    objs.service("many", ("http", 80), ("http-admin", 81))
    two = {"http": [{"route": [{"destination": {"host": "many"}}]}]}
    objs.virtual_service("which", {"hosts": ["w.x"], "gateways": ["ondol-system/ingress"], **two})
    objs.virtual_service("follows", {"hosts": ["many"], **two})
    last = {"match": [{"uri": {"prefix": "/"}}], "route": [WEB]}
    objs.virtual_service("never", {"hosts": ["never.x"], "http": [{"route": [WEB]}, last]})
    objs.destination_rule("dr-twice", {"host": "web"})
    objs.destination_rule("dr-host", {"host": "nobody"})
    objs.destination_rule(
        "dr-labels", {"host": "api.other", "subsets": [{"name": "x", "labels": {"v": "1"}}]}
    )
    objs.endpoints("api", ("10.100.0.4", 9090), namespace="other", pods=["guest"], ports=["grpc"])
    objs.put(
        "Gateway", "lost", "default", objs.of("Gateway")[0]["spec"] | {"selector": {"istio": "elsewhere"}}
    )
    objs.gateway("shares-with-the-platform")
    objs.gateway("first", namespace="default", hosts=["a.example", "b.example"])
    objs.gateway("same", namespace="other", hosts=["b.example"])
    assert codes(objs, translate) == {
        "no-host": {"KIA1101", "IST0101"},
        "no-subset": {"KIA1107", "IST0101"},
        "no-port": {"IST0101"},
        "web": {"IST0109"},
        "twice": {"KIA1106", "IST0109"},
        "no-gate": {"KIA1102", "IST0101"},
        "which": {"IST0112"},
        "never": {"IST0130"},
        "dr-twice": {"KIA0201"},
        "dr-host": {"KIA0202", "IST0174"},
        "dr-labels": {"KIA0203", "IST0173", "OND0001"},
        "lost": {"KIA0302", "IST0101"},
        "first": {"IST0145"},
        "same": {"KIA0301", "IST0145"},
    }


FINDINGS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("IST0130", {"http": [{"match": [{"uri": {"prefix": "/"}}], "route": [WEB]}, {"route": [WEB]}]}, set()),
    (
        "IST0130",
        {"http": [{"match": [{"uri": {"exact": "/a"}}], "route": [WEB]}] * 2},
        {"IST0131"},
    ),
    (
        "IST0131",
        {
            "http": [
                {"match": [{"uri": {"prefix": "/a"}}], "route": [WEB]},
                {"match": [{"uri": {"prefix": "/ab"}}, {"uri": {"prefix": "/b"}}], "route": [WEB]},
            ]
        },
        set(),
    ),
    ("IST0132", {"hosts": ["a.elsewhere"], "gateways": ["narrow"]}, {"IST0140"}),
    ("IST0165", {"gateways": ["x-istio-autogenerated-k8s-gateway-y"]}, {"IST0140"}),
    ("IST0140", {"gateways": ["ondol-system/ingress"]}, set()),
    ("OND0003", {"hosts": ["db"]}, set()),
    ("IST0173", {"http": [{"route": [{"destination": {"host": "web", "subset": "canary"}}]}]}, set()),
]


@pytest.mark.parametrize(("code", "spec", "others"), FINDINGS)
def test_findings_of_one_rule(
    objs: Any, translate: Translate, code: str, spec: dict[str, Any], others: set[str]
) -> None:
    """What a rule can have wrong beside what does not exist, by Istio's codes."""
    shop(objs)
    objs.gateway("narrow", namespace="default", hosts=["*.example"])
    subsets = [{"name": "v1", "labels": {"version": "v1"}}, {"name": "canary", "labels": {"version": "v9"}}]
    objs.destination_rule("web", {"host": "web", "subsets": subsets})
    route = [{"destination": {"host": "web", "subset": "v1"}}]
    objs.virtual_service("web", {"hosts": ["web"], "http": [{"route": route}]})
    assert codes(objs, translate) == {"web": {"KIA0203", "IST0173"}}
    rule = {"hosts": ["a.example"], "http": [{"route": [WEB]}]} | spec
    objs.virtual_service("judged", rule)
    assert codes(objs, translate)["judged"] == {code} | others


def test_a_port_beside_the_ingress_is_told(objs: Any, translate: Translate) -> None:
    """It is served on this machine, but the Service of the ingress does not lead there."""
    shop(objs)
    objs.gateway("more", port={"number": 9000, "name": "http", "protocol": "HTTP"})
    assert codes(objs, translate) == {"more": {"IST0162"}}


def test_golden_snapshot(objs: Any, mesh_config: MeshConfig) -> None:
    """The bytes of a small world, readable; ONDOL_GOLDEN=write writes them anew after a wanted change."""
    shop(objs)
    for index, pod in enumerate(objs.of("Pod")):
        pod["metadata"]["uid"] = f"uid-{index}"
    config = dataclasses.replace(mesh_config, observe_address="127.0.0.1:4318", access_log=Path("/log"))
    snapshot = Translator(config).translate(objs.world()).snapshot
    readable = {
        url.rpartition(".")[2]: {
            name: json_format.MessageToDict(MESSAGES[url].FromString(r.body))
            for name, r in sorted(snapshot.of(url).items())
        }
        for url in MESSAGES
    }
    text = json.dumps(readable, indent=1, sort_keys=True) + "\n"
    file = GOLDEN / "shop.json"
    if os.environ.get("ONDOL_GOLDEN") == "write":
        file.write_text(text, encoding="utf-8")
    assert json.loads(text) == json.loads(file.read_text(encoding="utf-8"))


def test_connections_say_whose_they_are(objs: Any, mesh_config: MeshConfig) -> None:
    """By marks that the node's rules know: one for all, another where a pod chose the destination."""
    marks = proxy.mark("abcdef"), proxy.mark("abcdef", passthrough=True)
    config = dataclasses.replace(mesh_config, mark=marks[0], passthrough_mark=marks[1])
    objs.service("web")
    balancer = {"simple": "PASSTHROUGH"}
    objs.destination_rule("web", {"host": "web", "trafficPolicy": {"loadBalancer": balancer}})
    objs.service("db")
    (option,) = bootstrap.document(config)["cluster_manager"]["upstream_bind_config"]["socket_options"]
    assert option == {"level": socket.SOL_SOCKET, "name": socket.SO_MARK, "int_value": 0x0DABCDEF}
    snapshot = Translator(config).translate(objs.world()).snapshot
    for name in ("PassthroughCluster", "outbound|80||web.default.svc.cluster.local"):
        passing = m.cluster.Cluster.FromString(snapshot.of(types.CLUSTER)[name].body)
        (own,) = passing.upstream_bind_config.socket_options
        assert (own.level, own.name, own.int_value) == (socket.SOL_SOCKET, socket.SO_MARK, 0x2DABCDEF)
    usual = snapshot.of(types.CLUSTER)["outbound|80||db.default.svc.cluster.local"]
    assert not m.cluster.Cluster.FromString(usual.body).HasField("upstream_bind_config")


@pytest.mark.parametrize(("is_text", "part"), [(False, "json_format"), (True, "text_format_source")])
def test_the_access_log_is_written_as_asked(is_text: bool, part: str) -> None:
    """In JSON or as Istio's proxy writes it; none without a file."""
    observation = observing.Observation(access_log=Path("/log"), logs=(observing.Log(is_text),))
    log = m.file_log.FileAccessLog()
    proxy = m.tcp_proxy.TcpProxy()
    chains.tcp("a", "a", observation).filters[0].typed_config.Unpack(proxy)
    proxy.access_log[0].typed_config.Unpack(log)
    assert (log.path, log.log_format.WhichOneof("format")) == ("/log", part)
    chains.tcp("a", "a", observing.Observation()).filters[0].typed_config.Unpack(proxy)
    assert {each.name for each in proxy.access_log} == {"envoy.access_loggers.stats"}


@pytest.mark.parametrize(
    ("listens", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")]
)
def test_istios_instructions_find_the_ingress(listens: str, address: str) -> None:
    """By the Service's name, its port's name, and the address in its status."""
    service = definitions.ingress_service(18080, 18443)
    assert (objects.namespace(service), objects.name(service)) == ("istio-system", "istio-ingressgateway")
    named = {port["name"]: port["port"] for port in objects.spec(service)["ports"]}
    assert named == {"http2": 18080, "https": 18443}
    status = definitions.ingress_status(listens)
    assert status["loadBalancer"]["ingress"] == [{"ip": address}]


def test_parts_of_the_platform_have_listeners_once_they_call(
    objs: Any, mesh_config: MeshConfig, tmp_path: Path
) -> None:
    """One for each port of services, while a Service says so by its label, also one that had none before."""
    translator = Translator(dataclasses.replace(mesh_config, outbound_dir=tmp_path))
    shop(objs)

    def outbound() -> set[str]:
        listed = translator.translate(objs.world()).snapshot.of(types.LISTENER)
        return {name for name in listed if name.startswith("outbound|")}

    assert outbound() == set()
    spec = {"clusterIP": "10.101.9.9", "ports": [{"name": "http", "port": 80}]}
    for labels, expected in (({}, False), ({proxy.CALLS_OUT: "true"}, True), ({}, False)):
        objs.put("Service", "caller", "default", spec, labels=labels)
        assert ("outbound|80" in outbound()) is expected
