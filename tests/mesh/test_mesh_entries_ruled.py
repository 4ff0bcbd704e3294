"""Entries of the outside beside rules for connections, guarded pods, chosen callers and places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from google.protobuf import json_format
from tests.mesh.test_mesh_entries import HTTP, SQL, TLS, cluster, entry, goes, vip
from tests.mesh.test_mesh_guards import DENY, marked

from ondol.api.objects import Key
from ondol.contracts import mesh
from ondol.mesh import analysis
from ondol.mesh.evaluate import Call
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
TO_API: Final = "outbound|443||api.example.com|default"
TO_GATE: Final = "outbound|443||gate.default.svc.cluster.local"
ANYWHERE: Final = "198.51.100.9"


def by_name(*names: str, host: str = "gate") -> dict[str, Any]:
    """A route for TLS that asks for one of these names."""
    port = {"number": 443}
    return {"match": [{"sniHosts": list(names)}], "route": [{"destination": {"host": host, "port": port}}]}


def to(translation: Translation, name: str, address: str = ANYWHERE, port: int = 443) -> str:
    return goes(translation, Call(address, port, sni=name)).partition(" ")[0]


@pytest.fixture
def gate(objs: Any) -> Any:
    objs.pod("client")
    objs.service("gate", ("tls", 443), ip="10.101.0.9", endpoints=[("10.100.0.9", 443)])
    return objs


# Rules for TLS


@pytest.mark.parametrize("hosts", [["api.example.com"], ["*.example.com"]])
def test_a_rule_for_tls_comes_before_an_entrys_own_name(
    gate: Any, translate: Translate, hosts: list[str]
) -> None:
    """Whichever is older, at any address and at the entry's own, by the name or a wildcard."""
    gate.service_entry("api", entry())
    assert to(translate(gate), "api.example.com") == TO_API
    gate.virtual_service("api", {"hosts": hosts, "tls": [by_name(*hosts)]})
    translation = translate(gate)
    assert to(translation, "api.example.com") == TO_GATE
    assert to(translation, "API.example.com", vip(translation, "api.example.com")) == TO_GATE
    assert to(translation, "other.test") == "PassthroughCluster"
    assert to(translation, "other.test", vip(translation, "api.example.com")) == "BlackHoleCluster"


def test_a_rule_for_one_name_of_a_wildcard_leaves_the_others(gate: Any, translate: Translate) -> None:
    """The entry has what no rule speaks of; a rule for a host outside the wildcard is nothing to it."""
    gate.service_entry("all", {"hosts": ["*.example.com"], "ports": [TLS], "resolution": "NONE"})
    gate.virtual_service("one", {"hosts": ["a.example.com", "a.test"], "tls": [by_name("a.example.com")]})
    translation = translate(gate)
    assert to(translation, "a.example.com") == TO_GATE
    assert to(translation, "b.example.com") == "outbound|443||*.example.com|default"
    assert to(translation, "a.test") == "PassthroughCluster"


def test_names_of_a_service_hold_at_its_address_alone(gate: Any, translate: Translate) -> None:
    """A rule for a Service takes no connections from an entry at the same port, and the other way."""
    gate.service("web", ("https", 443), ip="10.101.0.8", endpoints=[("10.100.0.8", 443)])
    gate.virtual_service("web", {"hosts": ["web"], "tls": [by_name("web")]})
    gate.service_entry("api", entry())
    translation = translate(gate)
    assert to(translation, "web", "10.101.0.8") == TO_GATE
    assert to(translation, "api.example.com", "10.101.0.8") == "BlackHoleCluster"
    assert to(translation, "api.example.com") == TO_API
    assert to(translation, "web") == "PassthroughCluster"
    assert len(translation.pods[Key("default", "client")].inspectors) == 2


def test_entries_that_share_an_address_are_told_apart_by_rules_too(gate: Any, translate: Translate) -> None:
    """One goes by its own name, the other by its rule's."""
    shared = {"addresses": ["192.0.2.9"], "ports": [TLS], "resolution": "DNS"}
    gate.service_entry("a", {"hosts": ["a.example"], **shared})
    gate.service_entry("b", {"hosts": ["b.example"], **shared})
    gate.virtual_service("a", {"hosts": ["a.example"], "tls": [by_name("a.example")]})
    translation = translate(gate)
    assert to(translation, "a.example", "192.0.2.9") == TO_GATE
    assert to(translation, "b.example", "192.0.2.9") == "outbound|443||b.example|default"


def test_a_rule_leads_to_names_that_are_resolved_anew(gate: Any, translate: Translate) -> None:
    """The chain of the rule resolves the name with which each connection begins."""
    dynamic = {"hosts": ["*.example.com"], "ports": [TLS], "resolution": "DYNAMIC_DNS"}
    gate.service_entry("all", dynamic)
    gate.virtual_service("gate", {"hosts": ["gate"], "tls": [by_name("gate", host="*.example.com")]})
    translation = translate(gate)
    (inspector,) = (
        n for n in translation.pods[Key("default", "client")].inspectors if n.startswith("names|")
    )
    listener = m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[inspector].body)
    (chain,) = listener.filter_chains
    assert chain.filters[0].name == "envoy.filters.network.sni_dynamic_forward_proxy"


# Rules for bytes


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ({"addresses": ["192.0.2.100"]}, "192.0.2.100"),
        ({"addresses": ["203.0.113.0/24"]}, "203.0.113.77"),
        ({}, ANYWHERE),
    ],
)
def test_a_rule_for_bytes_comes_before_the_entry(
    gate: Any, translate: Translate, place: dict[str, Any], address: str
) -> None:
    """At its address, in its network, or at whatever address; subnets that are elsewhere do not hold."""
    gate.service("db", ("tcp-sql", 5432), ip="10.101.0.7", endpoints=[("10.100.0.7", 5432)])
    outside = {"endpoints": [{"address": "192.0.2.7"}], "resolution": "STATIC"} if place else {}
    gate.service_entry(
        "sql", {"hosts": ["sql.example"], "ports": [SQL], "resolution": "NONE", **place, **outside}
    )
    there = {"route": [{"destination": {"host": "db"}}]}
    elsewhere = {
        "match": [{"destinationSubnets": ["192.168.0.0/16"]}],
        "route": [{"destination": {"host": "gate"}}],
    }
    gate.virtual_service("sql", {"hosts": ["sql.example"], "tcp": [elsewhere, there]})
    translation = translate(gate)
    assert to(translation, "", address, 5432) == "outbound|5432||db.default.svc.cluster.local"
    assert "OND0009" not in {each.code for each in analysis.findings(gate.world(), translation)}


# How endpoints are dialled


def machine(objs: Any, **more: Any) -> None:
    labels = {"labels": {"app": "web"}}
    objs.put("WorkloadEntry", "vm", "default", {"address": "192.0.2.5", **labels, **more})


def dialled(translation: Translation, name: str) -> dict[str, bool]:
    """By address of the cluster's endpoints, whether they are dialled with mutual TLS."""
    body = translation.snapshot.of(types.ENDPOINTS)[name].body
    assigned: dict[str, Any] = json_format.MessageToDict(m.endpoint.ClusterLoadAssignment.FromString(body))
    return {
        each["endpoint"]["address"]["socketAddress"]["address"]: "metadata" in each
        for group in assigned["endpoints"]
        for each in group["lbEndpoints"]
    }


@pytest.fixture
def guarded(objs: Any) -> Any:
    objs.pod("client")
    objs.pod("web")["status"]["podIP"] = "10.0.0.1"
    objs.put("AuthorizationPolicy", "deny", "default", DENY)
    marked(objs, "web", mesh.POD_PROGRAMMED, mesh.POD_GUARDED, mesh.POD_ARRIVALS_TURNED, "Ready")
    return objs


def test_machines_are_dialled_as_they_are_beside_guarded_pods(guarded: Any, translate: Translate) -> None:
    """Of one Service, pods that are guarded have mutual TLS, and a WorkloadEntry has none."""
    guarded.service("web", endpoints=[("10.0.0.1", 80)], pods=["web"])
    guarded.objects["Service"]["default", "web"]["spec"]["selector"] = {"app": "web"}
    machine(guarded, weight=3, locality="eu/west")
    translation = translate(guarded)
    name = "outbound|80||web.default.svc.cluster.local"
    assert dialled(translation, name) == {"10.0.0.1": True, "192.0.2.5": False}
    matches = cluster(translation, name).transport_socket_matches
    assert [each.name for each in matches][-1] == "plain"


def test_pods_that_an_entry_selects_are_dialled_as_guarded(guarded: Any, translate: Translate) -> None:
    """By the identity of the entry's namespace; what is no pod, and what is resolved, is dialled as it is."""
    selecting = {"workloadSelector": {"labels": {"app": "web"}}, "resolution": "STATIC"}
    guarded.service_entry("web", {"hosts": ["web.test"], "ports": [HTTP], **selecting})
    guarded.service_entry("api", entry())
    machine(guarded)
    translation = translate(guarded)
    name = "outbound|80||web.test|default"
    assert dialled(translation, name) == {"10.0.0.1": True, "192.0.2.5": False}
    assert "spiffe://cluster.local/ns/default/" in str(cluster(translation, name))
    assert not cluster(translation, "outbound|80||api.example.com|default").transport_socket_matches


# Policies


def upstream_tls(translation: Translation, name: str) -> m.tls.UpstreamTlsContext:
    context = m.tls.UpstreamTlsContext()
    assert cluster(translation, name).transport_socket.typed_config.Unpack(context)
    return context


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        ({"mode": "SIMPLE"}, ["entry.example", "spiffe://x/y"]),
        ({"mode": "SIMPLE", "subjectAltNames": ["rule.example"]}, ["rule.example"]),
        ({"mode": "MUTUAL", "credentialName": "own"}, ["entry.example", "spiffe://x/y"]),
    ],
)
def test_a_policys_names_come_before_the_entrys(
    gate: Any, translate: Translate, policy: dict[str, Any], names: list[str]
) -> None:
    """Also where whom to trust is in a Secret."""
    gate.service_entry("api", entry(subjectAltNames=["entry.example", "spiffe://x/y"]))
    gate.destination_rule("api", {"host": "api.example.com", "trafficPolicy": {"tls": policy}})
    common = upstream_tls(translate(gate), TO_API).common_tls_context
    context = common.combined_validation_context.default_validation_context
    if "credentialName" not in policy:
        context = common.validation_context
    assert [each.matcher.exact for each in context.match_typed_subject_alt_names] == names


@pytest.mark.parametrize("more", [{}, {"credentialName": "own"}, {"subjectAltNames": ["a.example"]}])
def test_whom_a_request_is_for_is_checked_behind_a_wildcard(
    gate: Any, translate: Translate, more: dict[str, Any]
) -> None:
    """Unless a policy says which names; the proxy takes no cluster of resolved names without a word on it."""
    dynamic = {"hosts": ["*.example.com"], "ports": [HTTP], "resolution": "DYNAMIC_DNS"}
    gate.service_entry("all", dynamic)
    gate.destination_rule(
        "all", {"host": "*.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE", **more}}}
    )
    name = "outbound|80||*.example.com|default"
    translation = translate(gate)
    dialled = cluster(translation, name)
    options, resolving = m.http_options.HttpProtocolOptions(), m.dynamic_cluster.ClusterConfig()
    (packed,) = dialled.typed_extension_protocol_options.values()
    packed.Unpack(options)
    dialled.cluster_type.typed_config.Unpack(resolving)
    is_checked = "subjectAltNames" not in more
    assert options.upstream_http_protocol_options.auto_sni
    assert options.upstream_http_protocol_options.auto_san_validation is is_checked
    assert resolving.allow_insecure_cluster_options is not is_checked
    assert not upstream_tls(translation, name).sni


def test_a_rule_that_chooses_callers_holds_for_the_namespaces_own_entry(
    gate: Any, translate: Translate
) -> None:
    """Its cluster is for those pods of the namespace; the others have the namespace's."""
    gate.pod("other")
    gate.service_entry("api", entry())
    chosen = {"workloadSelector": {"matchLabels": {"app": "client"}}}
    policy = {"trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "3s"}}}}
    gate.destination_rule("api", {"host": "api.example.com", **policy, **chosen})
    translation = translate(gate)
    seen = {pod: goes(translation, Call(host="api.example.com"), pod) for pod in ("client", "other")}
    name = "outbound|80||api.example.com|default"
    assert seen["other"].partition(" ")[0] == name
    assert seen["client"].partition(" ")[0] == f"{name}~api"
    assert cluster(translation, f"{name}~api").connect_timeout.seconds == 3


def test_endpoints_of_entries_have_places(gate: Any, translate: Translate) -> None:
    """Where a rule asks, what was written of an endpoint's locality decides how near it is."""
    document = gate.objects["Pod"]["default", "client"]
    document["metadata"]["labels"]["istio-locality"] = "eu.west"
    listed = [
        {"address": "192.0.2.1", "locality": "us/east"},
        {"address": "192.0.2.2", "locality": "eu/west"},
    ]
    static = {"hosts": ["s.example"], "ports": [HTTP], "resolution": "STATIC", "endpoints": listed}
    gate.service_entry("s", static)
    gate.destination_rule("s", {"host": "s.example", "trafficPolicy": {"outlierDetection": {}}})
    translation = translate(gate)
    name = goes(translation, Call(host="s.example")).partition(" ")[0]
    assert name == "outbound|80||s.example|default@eu/west/"
    body = translation.snapshot.of(types.ENDPOINTS)[name].body
    groups = m.endpoint.ClusterLoadAssignment.FromString(body).endpoints
    assert [(each.priority, each.locality.region) for each in groups] == [(0, "eu"), (1, "us")]


def test_nobody_passes_through_the_ingress_to_hosts_outside(gate: Any, translate: Translate) -> None:
    """AUTO_PASSTHROUGH is for the mesh's own Services."""
    gate.service_entry("api", entry(), "istio-system")
    server = {"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "tls": {"mode": "AUTO_PASSTHROUGH"}}
    gate.gateway("pass", "istio-system", **server)
    listed = [str(each.body) for each in translate(gate).snapshot.of(types.LISTENER).values()]
    assert any("outbound_.443_._.gate" in each for each in listed)
    assert not any("_.api.example.com" in each for each in listed)
