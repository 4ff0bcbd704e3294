"""What is refused before it is translated: Istio's own validation as a table, one bad thing a row."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio, syntax
from ondol.mesh.model.istio import Refused
from ondol.mesh.model.validation import Subject

TO_WEB = {"route": [{"destination": {"host": "web"}}]}
TO = TO_WEB["route"][0]
SERVER = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example"]}


def judge(kind: str, spec: dict[str, Any], name: str = "") -> None:
    of = KINDS[kind]
    of.check(istio.read(of.spec, {"spec": spec}), Subject("default", name))


def rule(**more: Any) -> dict[str, Any]:
    return {"hosts": ["web"], "http": [TO_WEB]} | more


def route(**more: Any) -> dict[str, Any]:
    return rule(http=[TO_WEB | more])


def match(**more: Any) -> dict[str, Any]:
    return route(match=[more])


def request(**more: Any) -> dict[str, Any]:
    return route(headers={"request": more})


def policy(**more: Any) -> dict[str, Any]:
    return {"host": "web", "trafficPolicy": more}


def tcp(**more: Any) -> dict[str, Any]:
    return policy(connectionPool={"tcp": more})


def server(**more: Any) -> dict[str, Any]:
    return {"servers": [SERVER | more]}


def port(**more: Any) -> dict[str, Any]:
    return server(port={"number": 80, "name": "http", "protocol": "HTTP"} | more)


def carried(**more: Any) -> dict[str, Any]:
    """A rule for connections with one route."""
    return {"hosts": ["web"]} | {each: [{"route": [TO], **route}] for each, route in more.items()}


def https(**more: Any) -> dict[str, Any]:
    tls = {"mode": "SIMPLE", "credentialName": "a"} | more
    return server(port={"number": 443, "name": "https", "protocol": "HTTPS"}, tls=tls)


CONNECTIONS: list[tuple[dict[str, Any], str]] = [
    (carried(tls={}), "match must be given"),
    (carried(tls={"match": [{"sniHosts": []}]}), "sniHosts must have a name"),
    (carried(tls={"match": [{"sniHosts": ["b.example"]}]}), "none of spec.hosts"),
    (carried(tls={"match": [{"sniHosts": ["a..b"]}]}), "not a label"),
    (carried(tcp={"route": []}), "route must be given"),
    (carried(tcp={"route": [TO, TO]}), "add up to 0"),
    (carried(tcp={"route": [TO | {"weight": 2**31 - 1}] * 3}), "add up to more"),
    (carried(tcp={"route": [{"destination": {"host": "*"}}]}), "* is no service"),
    (carried(tcp={"route": [{"destination": {"host": "a", "subset": "!"}}]}), "no name of a subset"),
    (carried(tcp={"route": [{"destination": {"host": "a", "port": {}}}]}), "port.number"),
    (carried(tcp={"match": [{"destinationSubnets": ["10.0.0.0/40"]}]}), "destinationSubnets"),
    (carried(tcp={"match": [{"sourceLabels": {"a": "!"}}]}), "not a label"),
    (carried(tcp={"match": [{"gateways": ["a/"]}]}), "gateways"),
    (carried(tcp={"match": [{"sourceNamespace": "a.b"}]}), "sourceNamespace"),
]
SERVERS: list[tuple[dict[str, Any], str]] = [
    (port(protocol="UDP"), "is none of"),
    (port(protocol="HTTPS"), "tls must be given"),
    (port(protocol="TLS"), "tls must be given"),
    (server(tls={"mode": "SIMPLE", "credentialName": "a"}), "only httpsRedirect"),
    (server(port={"number": 81, "name": "tcp", "protocol": "TCP"}, tls={}), "cannot stand"),
    (https(httpsRedirect=True), "for plain HTTP"),
    (https(credentialName=""), "needs credentialName"),
    (https(credentialNames=["b"]), "cannot stand together"),
    (https(credentialName="", credentialNames=["a", "b", "c"]), "at most 2"),
    (https(credentialName="", credentialNames=["a", "a"]), "given twice"),
    (https(credentialName="other/a"), "not the name of a Secret"),
    (https(credentialName="kubernetes://a"), "not the name of a Secret"),
    (https(mode="MUTUAL", caCertCredentialName="configmap://a"), "not the name of a Secret"),
    (https(subjectAltNames=["a"]), "clients are not asked"),
    (https(mode="PASSTHROUGH"), "TLS does not end here"),
    (https(mode="AUTO_PASSTHROUGH", credentialName="", minProtocolVersion="TLSV1_3"), "TLS does not end"),
    (https(cipherSuites=["DES-CBC3-SHA"]), "is none of"),
    (https(maxProtocolVersion="TLSV1_1"), "older than the oldest"),
    (https(mode="MUTUAL", verifyCertificateHash=["ab"]), "hexadecimal"),
    (https(mode="MUTUAL", verifyCertificateSpki=["!"]), "base64"),
]


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        *(("VirtualService", *each) for each in CONNECTIONS),
        *(("Gateway", *each) for each in SERVERS),
    ],
)
def test_connections_and_servers_are_validated(kind: str, spec: dict[str, Any], words: str) -> None:
    """What Istio refuses of tcp and tls rules and of servers, and what would have no effect."""
    with pytest.raises(Refused, match=re.escape(words)):
        judge(kind, spec)


RULES: list[tuple[dict[str, Any], str]] = [
    (rule(hosts=["foo.ba!r"]), "not a label"),
    (rule(hosts=["a..b"]), "not a label"),
    (rule(hosts=["a.*.b"]), "not a label"),
    (rule(hosts=["example.10"]), "is a number"),
    (rule(hosts=["web", "web"]), "given twice"),
    (rule(hosts=["*.example.com", "www.example.com"]), "given twice"),
    (rule(hosts=["*.com", "*.example.com"]), "given twice"),
    (rule(gateways=["b@d"]), "b@d"),
    (rule(gateways=["ns/*"]), "ns/*"),
    (rule(gateways=["ns/"]), "ns/"),
    (rule(exportTo=["~"]), "exportTo"),
    (rule(exportTo=["*", "other"]), "stands alone"),
    (rule(exportTo=[".", "default"]), "given twice"),
    (rule(http=[{"redirect": {}}]), "one of uri"),
    (rule(http=[{"redirect": {"redirectCode": 302}}]), "one of uri"),
    (rule(http=[{"redirect": {"uri": "/a"}, "fault": {"abort": {"httpStatus": 500}}}]), "fault cannot"),
    (rule(http=[{"directResponse": {"status": 200}, "rewrite": {"uri": "/"}}]), "rewrite cannot"),
    (
        rule(http=[{"directResponse": {"status": 200}, "fault": {"delay": {"fixedDelay": "1s"}}}]),
        "fault cannot",
    ),
    (rule(http=[{"directResponse": {"status": 200, "body": {"string": "x" * (1 << 20) + "x"}}}]), "1 MiB"),
    (rule(http=[{"route": [{"destination": {"host": "*"}}]}]), "no service"),
    (rule(http=[{"route": [{"destination": {"host": "we b"}}]}]), "not a host"),
    (rule(http=[{"route": [{"destination": {"host": "web", "subset": "v_1"}}]}]), "subset"),
    (rule(http=[{"route": [{"destination": {"host": "web", "port": {}}}]}]), "port.number"),
    (route(mirror={"host": "web!"}), "not a host"),
    (route(mirrors=[{"destination": {"host": "*"}}]), "no service"),
    (route(rewrite={}), "one of uri"),
    (route(rewrite={"uriRegexRewrite": {"match": "/a"}}), "both match and rewrite"),
    (route(timeout="0.5ms"), "whole milliseconds"),
    (route(timeout="1.0001s"), "whole milliseconds"),
    (route(retries={"attempts": 1, "retryOn": "600"}), "'600' is none of"),
    (route(retries={"attempts": 1, "perTryTimeout": "100us"}), "perTryTimeout"),
    (route(retries={"attempts": 1, "perTryTimeout": "0s"}), "perTryTimeout"),
    (route(retries={"attempts": 1, "backoff": "0s"}), "backoff"),
    (route(corsPolicy={"allowMethods": ["PUTT"]}), "PUTT"),
    (route(corsPolicy={"allowMethods": ["get"]}), "get"),
    (route(corsPolicy={"exposeHeaders": [""]}), "not a header name"),
    (route(corsPolicy={"allowHeaders": ["a b"]}), "not a header name"),
    (route(corsPolicy={"allowOrigins": [{}]}), "says nothing"),
    (route(corsPolicy={"allowOrigins": [{"exact": ""}]}), "says nothing"),
    (route(corsPolicy={"maxAge": "1500ms"}), "whole seconds"),
    (route(fault={}), "one of delay and abort"),
    (route(fault={"delay": {"fixedDelay": "0s"}}), "fixedDelay"),
    (match(headers={"x": {"prefix": ""}}), "empty prefix"),
    (match(withoutHeaders={"x": {"prefix": ""}}), "empty prefix"),
    (match(method={"prefix": ""}), "empty prefix"),
    (match(authority={"prefix": ""}), "empty prefix"),
    (match(queryParams={"x": {"prefix": ""}}), "empty prefix"),
    (match(uri={"regex": ""}), "empty regex"),
    (match(headers={"": {"exact": "a"}}), "not a header name"),
    (match(withoutHeaders={"a b": {"exact": "a"}}), "not a header name"),
    (match(sourceLabels={"a!": "b"}), "not a label"),
    (match(sourceNamespace="a.b"), "no namespace"),
    (match(gateways=["a/b/c"]), "a/b/c"),
    (request(set={":path": "/"}), "not a header name"),
    (request(remove=["host"]), "cannot be changed here"),
    (request(set={"x": "100%"}), "%"),
    (request(set={"x": "a\x01"}), "not a header value"),
    (request(set={"x": "%ENVIRONMENT(HOME)%"}), "%ENVIRONMENT%"),
    (request(add={"x": "%PROTOCOL% %FILE_CONTENT(/etc/shadow)%"}), "%FILE_CONTENT%"),
    (route(headers={"response": {"set": {"x": "%SECRET(key)%"}}}), "%SECRET%"),
    (request(set={"x": "%environment(HOME)%"}), "%environment%"),
    (request(set={"host": "a", ":authority": "b"}), "set twice"),
    (route(rewrite={"authority": "a"}, headers={"request": {"set": {"Host": "b"}}}), "set twice"),
    (route(headers={"response": {"set": {"host": "a"}}}), "cannot be changed here"),
    (route(headers={"response": {"add": {":status": "200"}}}), "not a header name"),
]
POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"host": "we b"}, "not a host"),
    ({"host": "web", "exportTo": ["a b"]}, "exportTo"),
    ({"host": "web", "subsets": [{"name": "v_1"}]}, "no name of a subset"),
    ({"host": "web", "subsets": [{"name": "v1", "labels": {"version": "a b"}}]}, "not a label"),
    ({"host": "web", "subsets": [{"name": "v1", "trafficPolicy": {}}]}, "nothing is said"),
    (policy(), "nothing is said"),
    (policy(connectionPool={}), "one of tcp and http"),
    (tcp(connectTimeout="0s"), "connectTimeout"),
    (tcp(maxConnectionDuration="1us"), "maxConnectionDuration"),
    (tcp(idleTimeout="1.5ms"), "idleTimeout"),
    (tcp(tcpKeepalive={"time": "0s"}), "tcpKeepalive.time"),
    (policy(connectionPool={"http": {"idleTimeout": "0s"}}), "idleTimeout"),
    (policy(outlierDetection={"interval": "0s"}), "interval"),
    (policy(outlierDetection={"baseEjectionTime": "500us"}), "baseEjectionTime"),
    (policy(outlierDetection={"consecutiveLocalOriginFailures": 3}), "splitExternalLocalOriginErrors"),
    (
        policy(loadBalancer={"consistentHash": {"httpCookie": {"name": "", "ttl": "0s"}}}),
        "name must be given",
    ),
    (
        policy(loadBalancer={"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 5_000_011}}}),
        "prime",
    ),
    (policy(portLevelSettings=[{"port": {"number": 80}}]), "nothing is said of the port"),
    (policy(portLevelSettings=[{"port": {}, "tls": {"mode": "DISABLE"}}]), "port.number"),
    (policy(portLevelSettings=[{"port": {"number": 80}, "connectionPool": {}}]), "one of tcp and http"),
]
GATEWAYS: list[tuple[dict[str, Any], str]] = [
    (server(hosts=["web"]), "in full"),
    (server(hosts=["a b/x.example"]), "no namespace"),
    (server(hosts=["*a.example"]), "first label"),
    (server(hosts=["a.*.example"]), "not a label"),
    (server(hosts=["ns/"]), "not a label"),
    (port(name=""), "name"),
    (port(protocol="HTPP"), "HTPP"),
    (port(protocol="HTTPS"), "HTTPS"),
    ({"servers": [SERVER, SERVER]}, "given twice"),
]


@pytest.mark.parametrize(
    ("kind", "spec", "word"),
    [
        *(("VirtualService", *row) for row in RULES),
        *(("DestinationRule", *row) for row in POLICIES),
        *(("Gateway", *row) for row in GATEWAYS),
    ],
)
def test_what_istio_refuses_is_refused(kind: str, spec: dict[str, Any], word: str) -> None:
    """Each row is sound but for one thing, which the message names."""
    with pytest.raises(Refused) as refused:
        judge(kind, spec)
    assert word in str(refused.value)
    assert refused.value.reason == "Invalid"


def test_a_gateways_name_is_one_label() -> None:
    """Names of Gateways are written as namespace/name, and dots mean something else."""
    with pytest.raises(Refused):
        judge("Gateway", server(), name="a.b")


def test_a_gateway_has_no_port_that_it_may_not_have() -> None:
    """The first server's whose port is somebody else's is named."""
    kind = KINDS["Gateway"]
    spec = istio.read(kind.spec, {"spec": port(number=6443)})
    kind.check(spec, Subject("default", "gw", lambda number: "no" if number == 53 else ""))
    with pytest.raises(Refused, match=r"servers\[0\].port.number: 6443 is taken") as refused:
        kind.check(spec, Subject("default", "gw", lambda number: f"{number} is taken"))
    assert refused.value.reason == "PortNotAllowed"


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("VirtualService", rule(hosts=["Web.Example.com", "10.0.0.1", "*.b.example", "istio.io."])),
        ("VirtualService", rule(hosts=["*"], gateways=["gw", "ns/gw", "gw.ns.svc.cluster.local"])),
        ("VirtualService", rule(exportTo=["."])),
        ("VirtualService", route(timeout="0s")),
        ("VirtualService", route(corsPolicy={"allowHeaders": ["*"], "allowMethods": ["*"], "maxAge": "24h"})),
        ("VirtualService", route(retries={"attempts": 3, "retryOn": "503,reset", "perTryTimeout": "1ms"})),
        ("VirtualService", match(headers={"x-a": {}, ":method": {"exact": "GET"}, "b": {"regex": "*"}})),
        ("VirtualService", match(uri={"prefix": ""})),
        ("VirtualService", request(set={"x": "%DOWNSTREAM_REMOTE_ADDRESS% 100%% %REQ(X-A?:PATH):5%"})),
        ("VirtualService", request(set={"x": "%START_TIME(%s)% %ROUTE_NAME% %UPSTREAM_METADATA(a:b)%"})),
        ("VirtualService", rule(http=[{"redirect": {"derivePort": "FROM_REQUEST_PORT"}}])),
        ("VirtualService", rule(http=[{"redirect": {"scheme": "https"}, "match": None, "timeout": None}])),
        ("DestinationRule", {"host": "*.local", "trafficPolicy": None, "subsets": None}),
        ("DestinationRule", tcp(idleTimeout="0s")),
        ("Gateway", server(hosts=["*", "*/*", "./*.example", "ns/a.example", "10.0.0.1"])),
        ("Gateway", port(protocol="http")),
        ("Gateway", server(tls={"httpsRedirect": True})),
        ("Gateway", https(mode="MUTUAL", verifyCertificateHash=[":".join(["ab"] * 32)])),
        ("Gateway", https(mode="OPTIONAL_MUTUAL", caCertCredentialName="b.c", cipherSuites=["AES128-SHA"])),
        ("Gateway", https(mode="AUTO_PASSTHROUGH", credentialName="")),
        ("VirtualService", carried(tcp={"match": [{"port": 1, "destinationSubnets": ["10.0.0.1/8"]}]})),
        ("VirtualService", carried(tls={"match": [{"sniHosts": ["web"], "sourceLabels": {"a": "b"}}]})),
        ("Gateway", port(protocol="grpc") | {"selector": None}),
    ],
)
def test_what_istio_takes_is_taken(kind: str, spec: dict[str, Any]) -> None:
    """The rules refuse nothing that is sound: either case, nulls, wildcards and addresses among it."""
    judge(kind, spec)


@pytest.mark.parametrize(
    ("kind", "spec", "path"),
    [
        ("Gateway", https(mode="ISTIO_MUTUAL", credentialName=""), "ISTIO_MUTUAL"),
        ("Gateway", server(defaultEndpoint="127.0.0.1:80"), "spec.servers[0].defaultEndpoint"),
        ("VirtualService", route(fault={"abort": {"http2Error": "X"}}), "fault.abort.http2Error"),
        ("VirtualService", match(headers={"@request.auth.claims.groups": {"exact": "a"}}), "IST0149"),
        ("VirtualService", match(withoutHeaders={"@Request.Auth.Claims[a]": {"exact": "a"}}), "IST0149"),
        ("VirtualService", match(headers={"@request.auth.principal": {"exact": "a"}}), "IST0149"),
        (
            "DestinationRule",
            policy(loadBalancer={"zoneAwareLbSetting": {"enabled": True}}),
            "zoneAwareLbSetting",
        ),
        ("DestinationRule", policy(retryBudget={"budgetInterval": "1s"}), "retryBudget.budgetInterval"),
        ("DestinationRule", policy(tls={"mode": "SIMPLE", "caCrl": "/a"}), "tls.caCrl"),
        ("DestinationRule", policy(tls={"mode": "SIMPLE", "caCertificates": "/a"}), "tls.caCertificates"),
        ("Gateway", server(bind="10.0.0.1"), "spec.servers[0].bind"),
        ("Gateway", server(tls={"mode": "SIMPLE", "serverCertificate": "/a"}), "spec.servers[0].tls"),
    ],
)
def test_what_is_not_acted_on_is_refused(kind: str, spec: dict[str, Any], path: str) -> None:
    """A field of Istio's that the mesh knows and does nothing about is named, and the object not served."""
    with pytest.raises(Refused) as refused:
        judge(kind, spec)
    assert path in str(refused.value)
    assert refused.value.reason == "Unsupported"


def test_what_says_nothing_in_a_field_that_is_not_acted_on_is_let_through() -> None:
    """Generators of documents write empty values where nothing is meant."""
    judge("VirtualService", rule(tcp=[], tls=[]))
    judge(
        "DestinationRule", policy(loadBalancer={"simple": "RANDOM", "zoneAwareLbSetting": {"enabled": False}})
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a.b", "A.b", True),
        ("*.b", "a.b", True),
        ("a.b", "*.b", True),
        ("*.a.b", "*.b", True),
        ("*", "a", True),
        ("*.b", "b", False),
        ("*.a", "*.b", False),
    ],
)
def test_hosts_overlap(first: str, second: str, expected: bool) -> None:
    """Equal in either case, or one in the wildcard of the other."""
    assert syntax.covers(first, second) is expected
