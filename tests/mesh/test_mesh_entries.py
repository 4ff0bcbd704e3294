"""What ServiceEntries, WorkloadEntries and ExternalName Services are, and whose calls they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from ondol.api.objects import Key
from ondol.mesh import addresses, analysis, evaluate
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call
from ondol.mesh.kinds import KINDS
from ondol.mesh.model.istio import Refused
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
CONFIG: Final = MeshConfig(Path("/run/netns"), "unix:/xds", "unix:/admin", Path("/envoy.json"))
HTTP: Final = {"number": 80, "name": "http", "protocol": "HTTP"}
TLS: Final = {"number": 443, "name": "tls", "protocol": "TLS"}
SQL: Final = {"number": 5432, "name": "sql", "protocol": "TCP"}


def entry(**more: Any) -> dict[str, Any]:
    """A host outside, where the name leads."""
    return {"hosts": ["api.example.com"], "ports": [HTTP, TLS], "resolution": "DNS", **more}


def goes(translation: Translation, call: Call, pod: str = "client", namespace: str = "default") -> str:
    """The cluster of a call, and where it leads."""
    plan = translation.pods[Key(namespace, pod)]
    verdict = evaluate.from_pod(translation.snapshot, plan, call)
    (cluster,) = verdict.clusters or [str(verdict.status)]
    behind = verdict.endpoints.get(cluster, ())
    return f"{cluster} {' '.join(behind)}".strip()


def cluster(translation: Translation, name: str) -> m.cluster.Cluster:
    return m.cluster.Cluster.FromString(translation.snapshot.of(types.CLUSTER)[name].body)


def vip(translation: Translation, host: str, namespace: str = "default") -> str:
    service = translation.registry.service(host, namespace)
    assert service is not None
    return service.addresses[0]


# How its addresses are known

RESOLUTIONS: Final = [
    ({"resolution": "DNS"}, "api.example.com:80", m.cluster.Cluster.STRICT_DNS),
    ({"resolution": "DNS_ROUND_ROBIN"}, "api.example.com:80", m.cluster.Cluster.LOGICAL_DNS),
    (
        {"resolution": "DNS", "endpoints": [{"address": "eu.example.com", "ports": {"http": 8080}}]},
        "eu.example.com:8080",
        m.cluster.Cluster.STRICT_DNS,
    ),
    (
        {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.7"}, {"address": "192.0.2.8"}]},
        "192.0.2.7:80 192.0.2.8:80",
        m.cluster.Cluster.EDS,
    ),
    ({"resolution": "NONE"}, "where the caller goes", m.cluster.Cluster.ORIGINAL_DST),
]


@pytest.mark.parametrize(("more", "behind", "type_"), RESOLUTIONS)
def test_each_resolution_has_its_cluster(
    objs: Any, translate: Translate, more: dict[str, Any], behind: str, type_: int
) -> None:
    """HTTP goes by the Host header, to the addresses that the resolution says."""
    objs.pod("client")
    objs.service_entry("api", entry(**more))
    translation = translate(objs)
    assert goes(translation, Call(host="api.example.com")) == f"outbound|80||api.example.com|default {behind}"
    assert cluster(translation, "outbound|80||api.example.com|default").type == type_


def test_a_target_port_is_dialled(objs: Any, translate: Translate) -> None:
    """TLS origination: HTTP on 80 goes to 443, by TLS where a rule says so, under the host's name."""
    objs.pod("client")
    objs.service_entry("api", entry(ports=[{**HTTP, "targetPort": 443}]))
    tls = {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]}
    objs.destination_rule("api", {"host": "api.example.com", "trafficPolicy": tls})
    translation = translate(objs)
    assert goes(translation, Call(host="api.example.com")).endswith(" api.example.com:443")
    context = m.tls.UpstreamTlsContext()
    socket = cluster(translation, "outbound|80||api.example.com|default").transport_socket
    assert socket.typed_config.Unpack(context)
    assert context.sni == "api.example.com"


def test_names_in_certificates_are_those_of_the_entry(objs: Any, translate: Translate) -> None:
    """SubjectAltNames replace the host's own name where TLS begins in the mesh."""
    objs.pod("client")
    objs.service_entry("api", entry(subjectAltNames=["edge.example.net"]))
    tls = {"tls": {"mode": "SIMPLE"}}
    objs.destination_rule("api", {"host": "api.example.com", "trafficPolicy": tls})
    context = m.tls.UpstreamTlsContext()
    changed = cluster(translate(objs), "outbound|80||api.example.com|default")
    changed.transport_socket.typed_config.Unpack(context)
    names = context.common_tls_context.validation_context.match_typed_subject_alt_names
    assert [each.matcher.exact for each in names] == ["edge.example.net"]


def test_connections_carry_the_mark_of_what_a_user_chose(objs: Any, translate: Translate) -> None:
    """So the kernel keeps those of the ingress from the machine's own addresses."""
    objs.pod("client")
    objs.service_entry("api", entry())
    bind = cluster(translate(objs), "outbound|80||api.example.com|default").upstream_bind_config
    assert bind.socket_options[0].int_value == CONFIG.passthrough_mark


def test_traces_call_it_by_its_whole_name(objs: Any, translate: Translate) -> None:
    """Not by the first label, as a Service; and statistics know whose it is."""
    objs.pod("client")
    objs.service_entry("api", entry())
    metadata = cluster(translate(objs), "outbound|80||api.example.com|default").metadata
    assert dict(metadata.filter_metadata["istio"]) == {
        "canonical_service": "api.example.com",
        "namespace": "default",
    }


def test_the_resolvers_of_the_platform_are_asked(objs: Any) -> None:
    """Names inside the cluster are names for entries, too."""
    objs.pod("client")
    objs.service_entry("api", entry())
    config = MeshConfig(
        Path("/"), "unix:/xds", "unix:/admin", Path("/envoy.json"), resolvers=("10.100.0.1:53",)
    )
    changed = cluster(Translator(config).translate(objs.world()), "outbound|80||api.example.com|default")
    resolver = m.cares.CaresDnsResolverConfig()
    assert changed.typed_dns_resolver_config.typed_config.Unpack(resolver)
    assert resolver.resolvers[0].socket_address.address == "10.100.0.1"


# How its connections are known


def test_tls_goes_by_address_and_by_server_name(objs: Any, translate: Translate) -> None:
    """By the entry's own address, or by the name with which TLS begins at any address."""
    objs.pod("client")
    objs.service_entry("api", entry())
    translation = translate(objs)
    to_api = "outbound|443||api.example.com|default api.example.com:443"
    assert goes(translation, Call(vip(translation, "api.example.com"), 443)) == to_api
    assert goes(translation, Call("198.51.100.9", 443, sni="api.example.com")) == to_api
    assert goes(translation, Call("198.51.100.9", 443, sni="other.example")) == "PassthroughCluster"


def test_a_wildcard_of_servers_names(objs: Any, translate: Translate) -> None:
    """Hosts that the caller resolves itself: all below the domain, and not the domain."""
    objs.pod("client")
    objs.service_entry("wiki", {"hosts": ["*.wikipedia.org"], "ports": [TLS], "resolution": "NONE"})
    translation = translate(objs)
    to_wiki = "outbound|443||*.wikipedia.org|default where the caller goes"
    assert goes(translation, Call("198.51.100.9", 443, sni="en.wikipedia.org")) == to_wiki
    assert goes(translation, Call("198.51.100.9", 443, sni="wikipedia.org")) == "PassthroughCluster"


def test_an_exact_name_comes_before_a_wildcard(objs: Any, translate: Translate) -> None:
    """Whichever entry is older."""
    objs.pod("client")
    objs.service_entry("all", {"hosts": ["*.example.com"], "ports": [TLS], "resolution": "NONE"})
    objs.service_entry("api", entry())
    seen = goes(translate(objs), Call("198.51.100.9", 443, sni="api.example.com"))
    assert seen.startswith("outbound|443||api.example.com|default")


def test_bytes_go_by_address_network_or_port(objs: Any, translate: Translate) -> None:
    """The written address, any in the written network, else every address at the port that is nobody's."""
    objs.pod("client")
    objs.service("mine", ("tcp-sql", 5432), ip="10.101.0.9", endpoints=[("10.100.0.9", 5432)])
    static = {"ports": [SQL], "resolution": "STATIC", "endpoints": [{"address": "192.0.2.7"}]}
    objs.service_entry("one", {"hosts": ["one.example"], "addresses": ["192.0.2.100"], **static})
    objs.service_entry("net", {"hosts": ["net.example"], "addresses": ["203.0.113.0/24"], **static})
    objs.service_entry("all", {"hosts": ["all.example"], "ports": [SQL], "resolution": "NONE"})
    translation = translate(objs)

    def to(address: str) -> str:
        return goes(translation, Call(address, 5432)).partition(" ")[0]

    assert to("10.101.0.9") == "outbound|5432||mine.default.svc.cluster.local"
    assert to("192.0.2.100") == "outbound|5432||one.example|default"
    assert to("203.0.113.77") == "outbound|5432||net.example|default"
    assert to("198.51.100.1") == "outbound|5432||all.example|default"
    assert to("127.0.0.1") == "BlackHoleCluster"


def test_hosts_that_share_an_address_are_told_apart_by_name(objs: Any, translate: Translate) -> None:
    """TLS says whom it is for."""
    objs.pod("client")
    shared = {"hosts": ["a.example", "b.example"], "addresses": ["192.0.2.9"], "ports": [TLS]}
    objs.service_entry("two", {**shared, "resolution": "DNS"})
    translation = translate(objs)
    for host in ("a.example", "b.example"):
        seen = goes(translation, Call("192.0.2.9", 443, sni=host))
        assert seen == f"outbound|443||{host}|default {host}:443"


def test_undeclared_ports_of_entries_are_looked_at(objs: Any, translate: Translate) -> None:
    """HTTP by its host, what is none by address."""
    objs.pod("client")
    plain = {"ports": [{"number": 9000, "name": "x"}], "resolution": "DNS", "hosts": ["x.example"]}
    objs.service_entry("x", plain)
    translation = translate(objs)
    name = "outbound|9000||x.example|default x.example:9000"
    assert goes(translation, Call("198.51.100.9", 9000, host="x.example")) == name
    assert goes(translation, Call(vip(translation, "x.example"), 9000)) == name


def test_names_that_are_resolved_when_they_are_called(objs: Any, translate: Translate) -> None:
    """DYNAMIC_DNS: the proxy resolves the Host header, or the name with which TLS begins."""
    objs.pod("client")
    dynamic = {"hosts": ["*.example.com"], "ports": [HTTP, TLS], "resolution": "DYNAMIC_DNS"}
    objs.service_entry("all", dynamic)
    translation = translate(objs)
    called = "the name that is called"
    assert goes(translation, Call(host="a.example.com")) == f"outbound|80||*.example.com|default {called}"
    by_name = Call(vip(translation, "*.example.com"), 443, sni="a.example.com")
    assert goes(translation, by_name) == f"outbound|443||*.example.com|default {called}"
    plan = translation.pods[Key("default", "client")]
    listener = m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[plan.listener].body)
    (chain,) = (each for each in listener.filter_chains if each.name == "http|80")
    manager = m.hcm.HttpConnectionManager()
    chain.filters[-1].typed_config.Unpack(manager)
    assert "envoy.filters.http.dynamic_forward_proxy" in [each.name for each in manager.http_filters]


# Rules for it


def test_rules_work_on_hosts_outside_as_on_services(objs: Any, translate: Translate) -> None:
    """Routes, subsets by the labels of endpoints, and shares by their weights."""
    objs.pod("client")
    endpoints = [
        {"address": "192.0.2.1", "labels": {"version": "v1"}, "weight": 3},
        {"address": "192.0.2.2", "labels": {"version": "v2"}},
    ]
    objs.service_entry("api", entry(resolution="STATIC", endpoints=endpoints))
    subsets = [{"name": each, "labels": {"version": each}} for each in ("v1", "v2")]
    objs.destination_rule("api", {"host": "api.example.com", "subsets": subsets})
    to_v2 = {"destination": {"host": "api.example.com", "subset": "v2", "port": {"number": 80}}}
    objs.virtual_service(
        "api",
        {
            "hosts": ["api.example.com"],
            "http": [
                {"match": [{"uri": {"prefix": "/2"}}], "route": [to_v2]},
                {"directResponse": {"status": 418}},
            ],
        },
    )
    translation = translate(objs)
    seen = goes(translation, Call(host="api.example.com", path="/2"))
    assert seen == "outbound|80|v2|api.example.com|default 192.0.2.2:80"
    assert goes(translation, Call(host="api.example.com", path="/")) == "418"
    body = translation.snapshot.of(types.ENDPOINTS)["outbound|80||api.example.com|default"].body
    listed = m.endpoint.ClusterLoadAssignment.FromString(body).endpoints[0].lb_endpoints
    assert [each.load_balancing_weight.value for each in listed] == [3, 1]
    assert analysis.findings(objs.world(), translation) == []


# Whose calls


def test_an_entry_is_for_its_own_namespace(objs: Any, translate: Translate) -> None:
    """A tenant's entry takes no other tenant's calls, whatever it exports."""
    objs.pod("client")
    objs.pod("guest", namespace="other")
    objs.service_entry("bank", entry(exportTo=["*"]))
    translation = translate(objs)
    assert goes(translation, Call(host="api.example.com")).startswith("outbound|80||api.example.com|default")
    assert goes(translation, Call(host="api.example.com"), "guest", "other") == "PassthroughCluster"
    codes = [finding.code for finding in analysis.findings(objs.world(), translation)]
    assert codes == ["OND0010"]


def test_an_entry_of_a_root_namespace_is_for_all_it_exports_to(objs: Any, translate: Translate) -> None:
    """By default everybody; where a namespace has its own, that comes first there."""
    objs.pod("client")
    objs.pod("guest", namespace="other")
    objs.service_entry("all", entry(), namespace="istio-system")
    few = {"hosts": ["few.example"], "ports": [HTTP], "resolution": "DNS", "exportTo": ["other"]}
    objs.service_entry("few", few, namespace="istio-system")
    own = entry(resolution="STATIC", endpoints=[{"address": "192.0.2.7"}])
    objs.service_entry("own", own, namespace="other")
    translation = translate(objs)
    call, few_call = Call(host="api.example.com"), Call(host="few.example")
    assert goes(translation, call) == "outbound|80||api.example.com api.example.com:80"
    assert goes(translation, call, "guest", "other") == "outbound|80||api.example.com|other 192.0.2.7:80"
    assert goes(translation, few_call) == "PassthroughCluster"
    assert goes(translation, few_call, "guest", "other").startswith("outbound|80||few.example|other")


def test_a_service_of_kubernetes_and_its_address_come_first(objs: Any, translate: Translate) -> None:
    """Neither by name nor by address does an entry take a Service's calls, even from its namespace."""
    objs.pod("client")
    objs.service("web", ip="10.101.0.1", endpoints=[("10.100.0.1", 8080)])
    static = {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.9"}]}
    objs.service_entry("name", {"hosts": ["web.default.svc.cluster.local"], "ports": [HTTP], **static})
    address = {"hosts": ["x.example"], "addresses": ["10.101.0.1"], "ports": [{**SQL, "number": 80}]}
    objs.service_entry("address", {**address, **static})
    translation = translate(objs)
    web = "outbound|80||web.default.svc.cluster.local 10.100.0.1:8080"
    assert goes(translation, Call("10.101.0.1", host="web")) == web
    assert goes(translation, Call("10.101.0.1", host="web.default.svc.cluster.local")) == web
    codes = {finding.origin.name: finding.code for finding in analysis.findings(objs.world(), translation)}
    assert codes["name"] == "OND0010"


def test_the_namespace_in_a_name_owns_it(objs: Any, translate: Translate) -> None:
    """An entry for a name of another namespace is for its own calls; the owner's is for all."""
    objs.pod("client")
    host = {"hosts": ["db.other.svc.cluster.local"], "ports": [HTTP], "resolution": "STATIC"}
    objs.service_entry("thief", {**host, "endpoints": [{"address": "192.0.2.66"}]}, namespace="third")
    objs.service_entry("owner", {**host, "endpoints": [{"address": "192.0.2.1"}]}, namespace="other")
    assert goes(translate(objs), Call(host="db.other")).endswith(" 192.0.2.1:80")


def test_entries_of_one_host_are_joined(objs: Any, translate: Translate) -> None:
    """The younger adds ports and endpoints; resolved otherwise, it has no effect and is told."""
    objs.pod("client")
    for number in (1, 2):
        spec = entry(resolution="STATIC", endpoints=[{"address": f"192.0.2.{number}"}])
        objs.service_entry(f"api-{number}", spec)
    objs.service_entry("odd", entry(ports=[{**TLS, "number": 80, "name": "http"}]))
    translation = translate(objs)
    assert goes(translation, Call(host="api.example.com")).endswith(" 192.0.2.1:80 192.0.2.2:80")
    codes = {(each.origin.name, each.code) for each in analysis.findings(objs.world(), translation)}
    assert ("odd", "OND0010") in codes
    assert {name for name, code in codes if code == "IST0177"} == {"api-1", "api-2", "odd"}


# Workloads


def test_a_workload_is_an_endpoint_of_services_and_entries(objs: Any, translate: Translate) -> None:
    """A Service's selector takes it beside the pods, by the names of ports; an entry's takes both."""
    objs.pod("client")
    ready = [{"type": "Ready", "status": "True"}]
    objs.put(
        "Pod",
        "db-0",
        "default",
        {},
        labels={"app": "db"},
        status={"podIP": "10.100.0.5", "conditions": ready},
    )
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    objs.put(
        "Service", "db", "default", {"clusterIP": "10.101.0.7", "ports": ports, "selector": {"app": "db"}}
    )
    machine = {"address": "192.0.2.5", "labels": {"app": "db", "version": "v2"}, "ports": {"web": 8080}}
    objs.put("WorkloadEntry", "vm", "default", machine)
    selecting = {"workloadSelector": {"labels": {"app": "db"}}, "resolution": "STATIC"}
    objs.service_entry("db", {"hosts": ["db.example"], "ports": [{**HTTP, "targetPort": 8080}], **selecting})
    subset = {"host": "db", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}
    objs.destination_rule("db", subset)
    translation = translate(objs)
    assert goes(translation, Call("10.101.0.7", host="db")).endswith(" 192.0.2.5:8080")
    assert goes(translation, Call(host="db.example")).endswith(" 10.100.0.5:8080 192.0.2.5:8080")
    body = translation.snapshot.of(types.ENDPOINTS)["outbound|80|v2|db.default.svc.cluster.local"].body
    assert b"192.0.2.5" in body
    marked = cluster(translation, "outbound|80||db.default.svc.cluster.local").upstream_bind_config
    assert marked.socket_options[0].int_value == CONFIG.passthrough_mark
    objs.drop("WorkloadEntry", "vm")
    assert not goes(translate(objs), Call("10.101.0.7", host="db")).endswith("8080")


def test_a_workload_that_nothing_selects_is_told(objs: Any, translate: Translate) -> None:
    """Also an entry that selects nothing."""
    objs.put("WorkloadEntry", "vm", "default", {"address": "192.0.2.5", "labels": {"app": "db"}})
    selecting = {"workloadSelector": {"labels": {"app": "x"}}, "resolution": "STATIC"}
    objs.service_entry("db", {"hosts": ["db.example"], "ports": [HTTP], **selecting})
    listed = analysis.findings(objs.world(), translate(objs))
    assert {(each.origin.name, each.code) for each in listed} == {("vm", "KIA0004"), ("db", "KIA0004")}


def test_an_external_name_is_a_service(objs: Any, translate: Translate) -> None:
    """Its endpoint is the name, at the Service's port; without ports it stays a mere name."""
    objs.pod("client")
    named = {"type": "ExternalName", "externalName": "api.example.com"}
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    objs.put("Service", "ext", "default", {**named, "ports": ports})
    objs.put("Service", "bare", "default", named)
    translation = translate(objs)
    seen = goes(translation, Call(host="ext"))
    assert seen == "outbound|80||ext.default.svc.cluster.local api.example.com:8080"
    assert goes(translation, Call(host="bare")) == "PassthroughCluster"


def test_at_the_ingress_a_rule_reaches_its_own_namespaces_entries(objs: Any, translate: Translate) -> None:
    """Callers there are of no namespace, so the rule's own is meant."""
    objs.gateway()
    objs.service_entry("api", entry())
    route = [{"destination": {"host": "api.example.com", "port": {"number": 80}}}]
    hosts = {"hosts": ["shop.example"], "gateways": ["ondol-system/ingress"]}
    objs.virtual_service("shop", {**hosts, "http": [{"route": route}]})
    verdict = evaluate.from_outside(translate(objs).snapshot, Call(host="shop.example"))
    assert verdict.endpoints == {"outbound|80||api.example.com|default": ("api.example.com:80",)}


# Addresses


def test_addresses_stay_and_are_nobody_elses(objs: Any) -> None:
    """What the status has is kept, others get free ones; who writes one or wants none gets none."""
    one = objs.service_entry("one", entry())
    (first,) = addresses.allocated([one])["ServiceEntry", "default", "one"].values()
    assert first.startswith("240.240.")
    status = {"addresses": [{"value": "240.240.0.9", "host": "api.example.com"}]}
    objs.put("ServiceEntry", "kept", "default", entry(), status=status)
    objs.put("ServiceEntry", "late", "default", entry(), status=status)
    written = entry(addresses=["240.240.0.10"])
    objs.service_entry("written", written)
    objs.service_entry("none", entry(), **{"networking.istio.io/enable-autoallocate-ip": "false"})
    objs.service_entry("caller", entry(resolution="NONE"))
    wild = {"hosts": ["*.example.com", "api.example.com"], "endpoints": [{"address": "192.0.2.1"}]}
    objs.service_entry("wild", entry(resolution="STATIC", **wild))
    shares = addresses.allocated(objs.of("ServiceEntry"))
    assert shares["ServiceEntry", "default", "kept"] == {"api.example.com": "240.240.0.9"}
    assert set(shares["ServiceEntry", "default", "wild"]) == {"api.example.com"}
    values = [value for by_host in shares.values() for value in by_host.values()]
    assert len(values) == len(set(values)) == 4
    assert addresses.allocated(
        [one], earlier={("ServiceEntry", "default", "one"): {"api.example.com": "240.240.7.7"}}
    )["ServiceEntry", "default", "one"] == {"api.example.com": "240.240.7.7"}


# Changes


def test_changes_are_translated_like_a_new_world(objs: Any, mesh_config: MeshConfig) -> None:
    """Whatever was translated before: entries, workloads and Services that come, change and go."""
    objs.pod("client")
    objs.pod("guest", namespace="other")
    translator = Translator(mesh_config)

    def look() -> None:
        after = translator.translate(objs.world()).snapshot
        assert after == Translator(mesh_config).translate(objs.world()).snapshot

    static = entry(resolution="STATIC", endpoints=[{"address": "192.0.2.7"}])
    objs.service_entry("api", static)
    look()
    objs.service_entry("wide", {"hosts": ["*.example.com"], "ports": [TLS], "resolution": "NONE"})
    look()
    objs.service_entry("api", entry())
    look()
    objs.service_entry("api", entry(), namespace="istio-system")
    look()
    objs.put(
        "Service",
        "db",
        "default",
        {"clusterIP": "10.101.0.7", "ports": [{"port": 80}], "selector": {"a": "b"}},
    )
    look()
    objs.put("WorkloadEntry", "vm", "default", {"address": "192.0.2.5", "labels": {"a": "b"}})
    look()
    objs.drop("ServiceEntry", "api")
    look()
    objs.drop("WorkloadEntry", "vm")
    objs.drop("ServiceEntry", "wide")
    look()


# What is refused

MISTAKES: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    ("ServiceEntry", entry(hosts=["*"]), "Invalid", "* alone is no host"),
    ("ServiceEntry", entry(addresses=["10.0.0.0/8"]), "Invalid", "only for NONE/STATIC"),
    ("ServiceEntry", entry(addresses=["127.0.0.1"]), "Invalid", "loopback"),
    ("ServiceEntry", entry(addresses=["2001:db8::1"]), "Unsupported", "IPv6"),
    ("ServiceEntry", entry(hosts=["*.example.com"]), "Invalid", "hosts must be FQDN"),
    ("ServiceEntry", entry(ports=[HTTP, HTTP]), "Invalid", "given twice"),
    ("ServiceEntry", entry(ports=[{**HTTP, "protocol": "SMTP"}]), "Invalid", "is none of HTTP"),
    ("ServiceEntry", entry(ports=[{**HTTP, "protocol": "UDP"}]), "Unsupported", "UDP"),
    ("ServiceEntry", entry(hosts=["a.example", "b.example"], ports=[SQL]), "Invalid", "multiple hosts"),
    ("ServiceEntry", entry(resolution="NONE", endpoints=[{"address": "192.0.2.1"}]), "Invalid", "type NONE"),
    (
        "ServiceEntry",
        entry(resolution="DNS_ROUND_ROBIN", endpoints=[{"address": "a.b"}, {"address": "c.d"}]),
        "Invalid",
        "0 or 1 endpoint",
    ),
    (
        "ServiceEntry",
        entry(resolution="STATIC", endpoints=[{"address": "a.b"}]),
        "Invalid",
        "valid IP address",
    ),
    ("ServiceEntry", entry(endpoints=[{"address": "127.0.0.1"}]), "Invalid", "machine's own address"),
    ("ServiceEntry", entry(endpoints=[{"address": "localhost"}]), "Invalid", "loopback"),
    (
        "ServiceEntry",
        entry(resolution="STATIC", endpoints=[{"address": "unix:///run/x.sock"}]),
        "Unsupported",
        "sockets of Unix",
    ),
    ("ServiceEntry", entry(endpoints=[{"address": "a.b", "ports": {"x": 1}}]), "Invalid", "not defined"),
    (
        "ServiceEntry",
        entry(endpoints=[{"address": "a.b", "network": "n"}]),
        "Unsupported",
        "endpoints[0].network is not supported",
    ),
    (
        "ServiceEntry",
        entry(endpoints=[{"address": "a.b"}], workloadSelector={"labels": {"a": "b"}}),
        "Invalid",
        "only one of",
    ),
    ("ServiceEntry", entry(resolution="DYNAMIC_DNS"), "Invalid", "must be wildcarded"),
    ("ServiceEntry", entry(exportTo=["~", "x"]), "Invalid", "stands alone"),
    ("WorkloadEntry", {}, "Invalid", "address is required"),
    ("WorkloadEntry", {"address": "169.254.1.1"}, "Invalid", "link"),
    ("WorkloadGroup", {"template": {}, "probe": {"tcpSocket": {"port": 1}}}, "Unsupported", "probe"),
]


@pytest.mark.parametrize(("kind", "spec", "reason", "words"), MISTAKES)
def test_mistakes_are_told_in_words(
    objs: Any, kind: str, spec: dict[str, Any], reason: str, words: str
) -> None:
    """What Istio refuses, and what this machine cannot do."""
    document = objs.put(kind, "x", "default", spec)
    with pytest.raises(Refused, match=r".") as refused:
        KINDS[kind].check(KINDS[kind].rule(document).spec)
    assert (refused.value.reason, words in str(refused.value)) == (reason, True), str(refused.value)
