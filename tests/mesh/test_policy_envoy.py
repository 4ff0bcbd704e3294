"""What Envoy decides with the filters of policies, and `decide` without it: the same, over a table.

The rows are those of Istio's tests of its own translation: every field, several policies, dry run, audit,
trust domain aliases, path templates; for HTTP and for connections that are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.mesh.arrival import GREETING, Arrival, Issuer, authorization, policy, rule
from tests.ports import free_port

from ondol.mesh.model.mesh_options import MeshOptions
from ondol.mesh.policy import Call, WorkloadPolicy, decide
from ondol.mesh.translate.registry import Rule

ISSUER: Final = Issuer()
FRONT: Final = "cluster.local/ns/foo/sa/front"
OTHER: Final = "cluster.local/ns/ns/sa/sa"
OLD: Final = "old-td/ns/foo/sa/front"
ALIASES: Final = MeshOptions(trust_domain="td1", trust_domain_aliases=("cluster.local", "old-td"))


def to(**operation: Any) -> dict[str, Any]:
    return {"to": [{"operation": operation}]}


def source(**who: Any) -> dict[str, Any]:
    return {"from": [{"source": who}]}


def when(key: str, *values: str, no: Sequence[str] = ()) -> dict[str, Any]:
    return {"when": [{"key": key, "values": list(values), "notValues": list(no)}]}


PORT, TCP_PORT = free_port(), free_port()
RULES: Final[dict[str, dict[str, Any]]] = {
    "anything": {},
    "hosts": to(hosts=["Example.com", "*.suffix.org", "prefix.*", "exact.com:8080"]),
    "notHosts": to(notHosts=["example.com", "*.suffix.org"]),
    "any host": to(hosts=["*"]),
    "methods": to(methods=["GET", "P*"]),
    "notMethods": to(notMethods=["GET"]),
    "paths": to(paths=["/exact", "/prefix/*", "*/suffix"]),
    "notPaths": to(notPaths=["/exact", "/prefix/*"]),
    "any path": to(paths=["*"]),
    "templates": to(paths=["/a/{*}/b", "/c/{**}", "/d/{*}/e/{**}", "/{*}"]),
    "notTemplates": to(notPaths=["/a/{*}/b"]),
    "ports": to(ports=[str(PORT), str(TCP_PORT), "90"]),
    "notPorts": to(notPorts=[str(PORT)]),
    "two operations": {"to": [{"operation": {"methods": ["GET"], "paths": ["/x"]}}, *to(ports=["9"])["to"]]},
    "principals": source(principals=[FRONT, "*/sa/sa", "cluster.local/ns/bar/*"]),
    "any principal": source(principals=["*"]),
    "any trust domain": source(principals=["*/ns/foo/sa/front"]),
    "notPrincipals": source(notPrincipals=[FRONT]),
    "no principal": source(notPrincipals=["*"]),
    "namespaces": source(namespaces=["foo", "b*r"]),
    "namespace sa": source(namespaces=["sa", "s*"]),
    "namespace suffix": source(namespaces=["*oo"]),
    "notNamespaces": source(notNamespaces=["foo"]),
    "serviceAccounts": source(serviceAccounts=["front", "ns/sa"]),
    "notServiceAccounts": source(notServiceAccounts=["front"]),
    "trustDomains": source(trustDomains=["old-td", "clu*"]),
    "notTrustDomains": source(notTrustDomains=["*td"]),
    "ipBlocks": source(ipBlocks=["127.0.0.2", "10.0.0.0/8"]),
    "notIpBlocks": source(notIpBlocks=["127.0.0.0/31"]),
    "odd ipBlocks": source(ipBlocks=["127.0.0.2/31", "128.0.0.0/3", "::/0"], notIpBlocks=["127.0.0.3/32"]),
    "every address": source(ipBlocks=["0.0.0.0/0"]),
    "strange names": source(principals=["it's 100%) ? (\\b\"\n", "*%sa/front"], notPrincipals=["*'"]),
    "many principals": source(principals=[*(f"cluster.local/ns/foo/sa/{i}" for i in range(300)), FRONT]),
    "too many principals": source(principals=[*(f"cluster.local/ns/foo/sa/{i}" for i in range(2000)), FRONT]),
    "remoteIpBlocks": source(remoteIpBlocks=["1.2.3.0/24"]),
    "notRemoteIpBlocks": source(notRemoteIpBlocks=["1.2.3.4"]),
    "requestPrincipals": source(requestPrincipals=["issuer@foo/sub", "*/other"]),
    "request issuer": source(requestPrincipals=["issuer@foo/*"]),
    "request suffix": source(requestPrincipals=["*ub"]),
    "any requestPrincipal": source(requestPrincipals=["*"]),
    "notRequestPrincipals": source(notRequestPrincipals=["*"]),
    "two sources": {"from": [{"source": {"namespaces": ["bar"]}}, {"source": {"ipBlocks": ["127.0.0.2"]}}]},
    "header": when("request.headers[X-Abc]", "abc1", "pre*"),
    "no header": when("request.headers[x-abc]", no=["*"]),
    "source.ip": when("source.ip", "127.0.0.2", no=["10.0.0.0/8"]),
    "remote.ip": when("remote.ip", "1.2.3.4"),
    "source.namespace": when("source.namespace", "foo"),
    "source.principal": when("source.principal", "*/sa/front", no=[OTHER]),
    "source.serviceAccount": when("source.serviceAccount", "foo/front"),
    "source.trustDomain": when("source.trustDomain", "*", no=["old-td"]),
    "audiences": when("request.auth.audiences", "aud-1"),
    "presenter": when("request.auth.presenter", "azp-*"),
    "claim": when("request.auth.claims[group]", "admin"),
    "list claim": when("request.auth.claims[groups]", "admin", "*ops"),
    "nested claim": when("request.auth.claims[a][b]", "deep"),
    "scope": when("request.auth.claims[scope]", "write"),
    "no claim": when("request.auth.claims[group]", no=["admin"]),
    "destination.ip": when("destination.ip", "127.0.0.0/8"),
    "destination.port": when("destination.port", str(PORT)),
    "sni": when("connection.sni", "*.example.com"),
    "no sni": when("connection.sni", no=["www.example.com"]),
    "metadata": when("experimental.envoy.filters.http.jwt_authn[payload]", "nothing"),
    "all at once": {
        **to(methods=["GET"], paths=["/exact"], notPorts=["1"], hosts=["*"]),
        **source(principals=[FRONT], notNamespaces=["bar"], ipBlocks=["127.0.0.1"]),
        **when("request.headers[x-abc]", "abc1"),
    },
}
CLAIMS: Final = {
    "aud": ["aud-1", "aud-2"],
    "azp": "azp-1",
    "group": "admin",
    "groups": ["devops", "x"],
    "a": {"b": "deep"},
    "scope": "read write",
}
TOKEN: Final = ISSUER.token(**CLAIMS)
PLAIN: Final = Call(port=PORT)
CALLS: Final[dict[str, Call]] = {
    "plain": PLAIN,
    "post": replace(PLAIN, method="POST", path="/prefix/x?y=/exact"),
    "put": replace(PLAIN, method="PUT", path="/a/1/suffix"),
    "delete": replace(PLAIN, method="DELETE", path="/x"),
    "exact": replace(PLAIN, path="/exact", host="EXAMPLE.com"),
    "exact with port": replace(PLAIN, path="/exact?a=b", host="example.com:81"),
    "dot behind host": replace(PLAIN, host="example.com.", path="/a/1/b"),
    "dot and port": replace(PLAIN, host="example.com.:80", path="/a/1/2/b"),
    "suffix": replace(PLAIN, host="a.suffix.org:9", path="/c/"),
    "prefix": replace(PLAIN, host="prefix.net", path="/c/1/2/3"),
    "port in rule": replace(PLAIN, host="exact.com:8080", path="/d/1/e/2/3"),
    "no port": replace(PLAIN, host="exact.com", path="/d/1/e/"),
    "front": replace(PLAIN, principal=FRONT, path="/exact", headers={"x-abc": "abc1"}),
    "other": replace(PLAIN, principal=OTHER, path="/a//b"),
    "bar": replace(PLAIN, principal="cluster.local/ns/bar/sa/x", sni="www.example.com"),
    "old": replace(PLAIN, principal=OLD, sni="other.com"),
    "second address": replace(PLAIN, source_ip="127.0.0.2"),
    "behind proxy": replace(PLAIN, remote_ip="1.2.3.4"),
    "header": replace(PLAIN, headers={"X-ABC": "prefix"}),
    "other header": replace(PLAIN, headers={"x-abc": "abc2"}),
    "token": replace(PLAIN, claims=Issuer.claims(TOKEN)),
    "other subject": replace(PLAIN, claims=Issuer.claims(ISSUER.token(sub="other"))),
}
TCP_CALLS: Final = {
    name: replace(call, is_http=False)
    for name, call in CALLS.items()
    if name in ("plain", "front", "other", "bar", "old", "second address")
}


def believing() -> Rule[Any]:
    return rule("RequestAuthentication", {"jwtRules": [{"issuer": ISSUER.name, "jwks": ISSUER.jwks}]})


def rows() -> dict[str, WorkloadPolicy]:
    """Each rule as the only one of a policy that allows and of one that denies; and policies together."""
    listed = {}
    for name, each in RULES.items():
        for action in ("ALLOW", "DENY"):
            listed[f"{action} {name}"] = policy(believing(), authorization(action=action, rules=[each]))
    get, path = RULES["methods"], RULES["paths"]
    combined: dict[str, list[Rule[Any]]] = {
        "no objects": [],
        "nothing allowed": [authorization()],
        "audit": [authorization(action="AUDIT", rules=[{}])],
        "dry deny": [authorization(dry_run=True, action="DENY", rules=[{}])],
        "dry allow": [authorization(dry_run=True, rules=[get])],
        "dry and real": [authorization(dry_run=True, rules=[{}]), authorization(rules=[path])],
        "deny over allow": [authorization(rules=[{}]), authorization(action="DENY", rules=[path])],
        "root denies": [
            authorization("istio-system", action="DENY", rules=[path]),
            authorization(rules=[{}]),
        ],
        "another namespace": [authorization("bar", action="DENY", rules=[{}])],
        "other labels": [authorization(action="DENY", rules=[{}], selector={"matchLabels": {"app": "x"}})],
        "own labels": [authorization(action="DENY", rules=[{}], selector={"matchLabels": {"version": "v1"}})],
        "two allow": [authorization(rules=[get]), authorization(rules=[path, RULES["principals"]])],
        "several rules": [authorization(rules=list(RULES.values())[1:])],
        "several denied": [authorization(action="DENY", rules=[RULES["header"], RULES["claim"], path])],
    }
    listed |= {name: policy(*rules) for name, rules in combined.items()}
    aliased = authorization(rules=[source(principals=[FRONT])]), authorization(rules=[RULES["trustDomains"]])
    listed |= {f"aliases {index}": policy(each, options=ALIASES) for index, each in enumerate(aliased)}
    return listed


ROWS: Final = rows()
HTTP_ROWS: Final = [name for name in ROWS if not name.startswith("DENY ")]
"""For requests, what is allowed and what is denied by a rule is encoded alike."""


class Ports:
    """A running proxy with a listener a row, for HTTP and for bytes."""

    def __init__(self, folder: Path) -> None:
        self.arrival = Arrival(folder)
        self.http: dict[str, int] = {}
        self.tcp: dict[str, int] = {}
        for name, asked in ROWS.items():
            if name in HTTP_ROWS:
                self.http[name] = self.arrival.plan(asked, port=PORT if name == "ALLOW ports" else 0)
            port = TCP_PORT if name == "ALLOW ports" else 0
            self.tcp[name] = self.arrival.plan(asked, port=port, of_http=False)
        self.arrival.start()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    started = Ports(tmp_path_factory.mktemp("arrival"))
    try:
        yield started
    finally:
        started.arrival.stop()


@pytest.mark.parametrize("row", HTTP_ROWS)
def test_envoy_and_decide_agree_on_requests(ports: Ports, row: str) -> None:
    """For every call of the table both let it in, or neither."""
    answers = {}
    for name, call in CALLS.items():
        port = ports.http[row]
        sent = replace(call, port=port)
        token = ISSUER.token(**{k: v for k, v in call.claims.items() if k != "exp"}) if call.claims else ""
        answers[name] = ports.arrival.send(sent, port, token).status
    decided = {name: decide(ROWS[row], at(call, ports.http[row])).allowed for name, call in CALLS.items()}
    assert {name: status == 200 for name, status in answers.items()} == decided
    assert set(answers.values()) <= {200, 403, 401}


def at(call: Call, port: int) -> Call:
    return replace(call, port=port)


@pytest.mark.parametrize("row", ROWS)
def test_envoy_and_decide_agree_on_connections(ports: Ports, row: str) -> None:
    """The same for connections that are not HTTP."""
    port = ports.tcp[row]
    answers = {name: ports.arrival.send(at(call, port), port) for name, call in TCP_CALLS.items()}
    decided = {name: decide(ROWS[row], at(call, port)).allowed for name, call in TCP_CALLS.items()}
    assert {name: answer.status == 200 for name, answer in answers.items()} == decided
    if row.endswith("too many principals"):
        return  # more than one expression may say: RBAC decides alone, with the first bytes
    heard = {name: answer.body == GREETING.decode() for name, answer in answers.items()}
    assert heard == decided, "who is refused hears nothing of a server that speaks first"
