"""Whose a host at the ingress is, where Routes, VirtualServices and Ingresses ask for it: tables, translated.

Everything of a row belongs to the namespace `shop` or to `evil`, or to a root namespace; a request is led to
the Service of the namespace whose rule took it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.mesh.conftest import Objects
from tests.mesh.gateway_conformance.judged import CONFIG

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.mesh import analysis, evaluate
from ondol.mesh.evaluate import Call
from ondol.mesh.gateway_api import expansion, names, statuses
from ondol.mesh.gateway_api.feed import gateway_class
from ondol.mesh.gateway_api.listeners import Place
from ondol.mesh.ingress import expansion as ingresses
from ondol.mesh.ingress.feed import ingress_class
from ondol.mesh.kinds.findings import CLAIMED
from ondol.mesh.translate.credentials import Certificate, Content, Credentials
from ondol.mesh.translate.translator import Translator, ingress_ports
from ondol.mesh.xds.types import Origin

NAMESPACES = ("shop", "evil", "istio-system")
HOST = "shop.example"
SECRET = {"certificateRefs": [{"name": "pair"}]}


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def document(kind: str, namespace: str, second: int, name: str, spec: Mapping[str, Any]) -> Object:
    metadata = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": at(second),
        "uid": f"{kind}-{namespace}-{name}",
        "resourceVersion": "1",
        "generation": 1,
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": dict(spec)}


def gateway(namespace: str, second: int, hostname: str = "", *, all_: bool = False, **more: Any) -> Object:
    allowed = {"namespaces": {"from": "All" if all_ else "Same"}}
    listener = {"name": "main", "port": 80, "protocol": "HTTP", "allowedRoutes": allowed, **more}
    listener |= {"hostname": hostname} if hostname else {}
    return document(
        "Gateway", namespace, second, "gw", {"gatewayClassName": "ondol", "listeners": [listener]}
    )


def secure(namespace: str, second: int, hostname: str = "", **more: Any) -> Object:
    return gateway(namespace, second, hostname, port=443, protocol="HTTPS", tls=SECRET, **more)


def passed_on(namespace: str, second: int, hostname: str = "") -> Object:
    return gateway(namespace, second, hostname, port=443, protocol="TLS", tls={"mode": "Passthrough"})


def route(
    namespace: str, second: int, path: str, *hosts: str, via: str = "", kind: str = "HTTPRoute"
) -> Object:
    rule: Object = {"backendRefs": [{"name": "web", "port": 80}]}
    rule |= {"matches": [{"path": {"value": path}}]} if kind == "HTTPRoute" else {}
    spec = {
        "parentRefs": [{"name": "gw", "namespace": via or namespace}],
        "hostnames": list(hosts),
        "rules": [rule],
    }
    return document(kind, namespace, second, "r", spec)


def virtual_service(namespace: str, second: int, path: str, *hosts: str) -> Object:
    spec = {
        "hosts": list(hosts),
        "gateways": ["ondol-system/ingress"],
        "http": [
            {"match": [{"uri": {"prefix": path}}], "route": [{"destination": {"host": "web"}}]},
        ],
    }
    return document("VirtualService", namespace, second, "r", spec)


def ingress(namespace: str, second: int, path: str, *hosts: str) -> Object:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend}]
    rules = [{"host": host, "http": {"paths": paths}} for host in hosts]
    return document("Ingress", namespace, second, "r", {"ingressClassName": "ondol", "rules": rules})


@dataclass(frozen=True)
class Ingress:
    """Everything that was made of a row."""

    documents: Sequence[Object]
    led: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """By namespace of the Route: status, reason and message of `Accepted`."""
    lost: frozenset[str] = frozenset()
    """The namespaces of VirtualServices and Ingresses that are told of a host."""


def served(documents: Sequence[Object], *calls: str) -> Ingress:
    objs = Objects()
    for number, namespace in enumerate(NAMESPACES):
        objs.service("web", namespace=namespace, endpoints=[(f"10.0.0.{number}", 80)])
    objs.gateway()
    of: dict[str, list[Object]] = {"GatewayClass": [gateway_class("ondol")]}
    for each in documents:
        of.setdefault(each["kind"], []).append(each)
    for each in of.pop("VirtualService", ()):
        key = objects.key(each)
        objs.objects.setdefault("VirtualService", {})[key.namespace, key.name] = each
    services = {objects.key(each): each for each in objs.of("Service")}
    of_ingresses = ingresses.expand(
        of.pop("Ingress", ()), [ingress_class(is_default=True)], ingresses.Surroundings(services)
    )
    contents = {
        Key(each, "pair"): Content(Certificate(f"{each}/pair", "1", b"chain", b"key")) for each in NAMESPACES
    }
    around = expansion.Surroundings(
        services, objs.of("Namespace"), contents, Place(ingress_ports(CONFIG), lambda _number: "")
    )
    expanded = expansion.expand(expansion.Objects(of), around)
    world = objs.world()
    rules = expanded.beside(of_ingresses.beside(world.rules))
    world = type(world)(
        namespaces=world.namespaces,
        services=world.services,
        endpoint_slices=world.endpoint_slices,
        rules=rules,
        credentials=Credentials(contents),
    )
    translation = Translator(CONFIG).translate(world)
    findings: dict[Origin, list[Any]] = {}
    for finding in analysis.findings(world, translation):
        findings.setdefault(finding.origin, []).append(finding)

    def led(call: str) -> str:
        place, _, path = call.partition("/")
        host, _, port = place.partition(":")
        asked = Call(
            host=host, path=f"/{path}", port=int(port or 80), sni=host if port in ("443", "444") else ""
        )
        verdict = evaluate.from_outside(translation.snapshot, asked)
        cluster = next(iter(verdict.clusters), "")
        return cluster.split("|")[3].split(".")[1] if cluster else str(verdict.status)

    return Ingress(
        documents,
        {call: led(call) for call in calls},
        dict(_accepted(expanded, findings)),
        frozenset(
            origin.namespace
            for origin, listed in findings.items()
            for each in listed
            if each.code == CLAIMED and origin.namespace != "ondol-system"
        ),
    )


def _accepted(
    expanded: expansion.Expansion, findings: Mapping[Origin, Sequence[Any]]
) -> Iterator[tuple[str, tuple[str, str, str]]]:
    for (_, key), parents in expanded.outcomes.parents.items():
        for each in statuses.claimed(parents, findings):
            accepted = next(c for c in each.conditions if c.type == names.ACCEPTED)
            yield key.namespace, (accepted.status, accepted.reason, accepted.message)


LOST = ("False", "HostnameConflict")
SERVED = ("True", "Accepted")
CLUSTER_NAME = "web.shop.svc.cluster.local"
OWNER = (gateway("shop", 1), route("shop", 1, "/", HOST))
ROWS: Mapping[str, tuple[Sequence[Object], Mapping[str, str], Mapping[str, tuple[str, str]]]] = {
    "a stranger's Gateway joins no path to another's host": (
        [*OWNER, gateway("evil", 2), route("evil", 2, "/login", HOST)],
        {f"{HOST}/login": "shop", f"{HOST}/": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "an older Gateway without a Route for the host has not held it": (
        [gateway("shop", 3), route("shop", 4, "/", HOST), gateway("evil", 1), route("evil", 5, "/x", HOST)],
        {f"{HOST}/x": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "an older Route has claimed nothing while its Gateway was not there": (
        [gateway("shop", 3), route("shop", 4, "/", HOST), gateway("evil", 5), route("evil", 1, "/x", HOST)],
        {f"{HOST}/x": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "a listener that names the host has held it before it had Routes": (
        [
            gateway("shop", 1, HOST),
            route("shop", 4, "/", HOST),
            gateway("evil", 2),
            route("evil", 3, "/x", HOST),
        ],
        {f"{HOST}/x": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "and holds it without any": (
        [gateway("shop", 1, HOST), gateway("evil", 2), route("evil", 3, "/x", HOST)],
        {f"{HOST}/x": "404"},
        {"evil": LOST},
    ),
    "a listener's wildcard names no host inside it": (
        [gateway("evil", 1, "*.example"), route("evil", 5, "/x", HOST), gateway("shop", 2), OWNER[1]],
        {f"{HOST}/x": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "at the same time the first by name has it": (
        [gateway("shop", 1), route("shop", 1, "/", HOST), gateway("evil", 1), route("evil", 1, "/x", HOST)],
        {f"{HOST}/x": "evil", f"{HOST}/": "404"},
        {"shop": LOST, "evil": SERVED},
    ),
    "the Gateway's namespace consents to Routes of others": (
        [gateway("shop", 1, all_=True), OWNER[1], route("evil", 2, "/login", HOST, via="shop")],
        {f"{HOST}/login": "evil", f"{HOST}/": "shop"},
        {"shop": SERVED, "evil": SERVED},
    ),
    "who comes by the holder's Gateway and by its own comes by the holder's": (
        [
            gateway("shop", 3, all_=True),
            route("shop", 3, "/", HOST),
            gateway("evil", 4),
            route("evil", 5, "/login", HOST, via="shop"),
        ],
        {f"{HOST}/login": "evil", f"{HOST}/": "shop"},
        {"shop": SERVED, "evil": SERVED},
    ),
    "a root namespace's Gateway is beside every holder's": (
        [*OWNER, gateway("istio-system", 2, all_=True), route("evil", 3, "/login", HOST, via="istio-system")],
        {f"{HOST}/login": "evil", f"{HOST}/": "shop"},
        {"shop": SERVED, "evil": SERVED},
    ),
    "a root namespace's Gateway that is older holds the host for its Routes": (
        [
            gateway("istio-system", 1, all_=True),
            route("shop", 2, "/", HOST, via="istio-system"),
            gateway("evil", 3),
            route("evil", 4, "/login", HOST),
        ],
        {f"{HOST}/login": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "a root namespace's Routes are beside a VirtualService": (
        [
            virtual_service("shop", 1, "/a", HOST),
            gateway("istio-system", 2, all_=True),
            route("shop", 3, "/b", HOST, via="istio-system"),
            gateway("evil", 4),
            route("evil", 4, "/login", HOST),
        ],
        {f"{HOST}/a": "shop", f"{HOST}/b": "shop", f"{HOST}/login": "404"},
        {"shop": SERVED, "evil": LOST},
    ),
    "only what clashes is not served": (
        [*OWNER, gateway("evil", 2), route("evil", 2, "/login", HOST, "evil.example")],
        {f"{HOST}/login": "shop", "evil.example/login": "evil"},
        {"shop": SERVED, "evil": SERVED},
    ),
    "every host is a host like any other": (
        [gateway("shop", 1), route("shop", 1, "/"), gateway("evil", 2), route("evil", 2, "/login")],
        {"any.example/login": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "a name of the cluster is its namespace's however young": (
        [
            gateway("evil", 1, CLUSTER_NAME),
            route("evil", 1, "/login", CLUSTER_NAME),
            gateway("shop", 2),
            route("shop", 2, "/", CLUSTER_NAME),
        ],
        {f"{CLUSTER_NAME}/login": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "a VirtualService that was first": (
        [virtual_service("shop", 1, "/", HOST), gateway("evil", 2), route("evil", 2, "/login", HOST)],
        {f"{HOST}/login": "shop"},
        {"evil": LOST},
    ),
    "an Ingress that was first": (
        [ingress("shop", 1, "/", HOST), gateway("evil", 2), route("evil", 2, "/login", HOST)],
        {f"{HOST}/login": "shop"},
        {"evil": LOST},
    ),
    "a VirtualService of the same namespace is joined": (
        [*OWNER, virtual_service("shop", 2, "/a", HOST), gateway("evil", 2), route("evil", 2, "/a/b", HOST)],
        {f"{HOST}/a/b": "shop", f"{HOST}/": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "with HTTPS": (
        [
            secure("shop", 1, HOST),
            route("shop", 1, "/", HOST),
            secure("evil", 2, "*.example"),
            route("evil", 2, "/x", HOST),
        ],
        {f"{HOST}:443/x": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "with HTTPS the name in the hello follows the host": (
        [
            secure("shop", 1, "*.example"),
            route("shop", 1, "/", HOST),
            secure("evil", 2, HOST),
            route("evil", 2, "/x", HOST),
        ],
        {f"{HOST}:443/x": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
    "with TLS that goes on": (
        [
            passed_on("shop", 1),
            route("shop", 2, "/", HOST, kind="TLSRoute"),
            passed_on("evil", 1),
            route("evil", 3, "/", HOST, kind="TLSRoute"),
        ],
        {f"{HOST}:443/": "shop"},
        {"shop": SERVED, "evil": LOST},
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_host_has_one_holder(
    row: tuple[Sequence[Object], Mapping[str, str], Mapping[str, tuple[str, str]]],
) -> None:
    """Where each request goes, and what each Route is told of its hosts."""
    documents, calls, expected = row
    for order in (documents, documents[::-1]):
        outcome = served(order, *calls)
        assert outcome.led == calls
        assert {name: of[:2] for name, of in outcome.accepted.items()} == expected
        for status, _, message in outcome.accepted.values():
            assert status == "True" or "is held by namespace" in message, message


@pytest.mark.parametrize("other", [virtual_service, ingress])
def test_what_is_younger_than_a_routes_claim_is_told(other: Any) -> None:
    """A Route behind its owner's Gateway holds the host before VirtualServices and Ingresses of others."""
    outcome = served([*OWNER, other("evil", 2, "/login", HOST)], f"{HOST}/login")
    assert outcome.led == {f"{HOST}/login": "shop"}
    assert outcome.lost == {"evil"}


def test_a_route_that_keeps_other_hosts_is_told_of_the_one_it_has_not() -> None:
    """Its condition stays True, and names the host and who has it."""
    outcome = served([*OWNER, gateway("evil", 2), route("evil", 2, "/", HOST, "evil.example")])
    status, _, message = outcome.accepted["evil"]
    assert status == "True"
    assert f"host {HOST} at the ingress is held by namespace shop" in message
    assert "evil.example" not in message
    assert not outcome.accepted["shop"][2]


def test_ports_are_held_each_by_itself() -> None:
    """As for VirtualServices: who has a host at one port has it there."""
    outcome = served(
        [*OWNER, gateway("evil", 2, port=8888), route("evil", 2, "/", HOST)], f"{HOST}:8888/", f"{HOST}/"
    )
    assert outcome.led == {f"{HOST}:8888/": "evil", f"{HOST}/": "shop"}
