"""What the cluster's zone answers: a pure function from a question and the objects it names.

Follows the Kubernetes DNS specification 1.1.0: A, SRV and PTR for Services and endpoints, CNAME for
ExternalName, addresses of pods by their dashed IP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ondol.api import objects
from ondol.api.objects import Key
from ondol.node.dns import codec
from ondol.node.network import services

TTL_S: Final = 5
SCHEMA: Final = "1.1.0"
Spec = Mapping[str, Any]


class View(Protocol):
    """The objects the zone is made of."""

    @property
    def address(self) -> str:
        """Where the name server itself is; empty if it need not be told."""

    def service(self, namespace: str, name: str) -> Spec | None: ...

    def slices(self, namespace: str, name: str) -> Sequence[Spec]: ...

    def services_at(self, address: str) -> Sequence[Spec]:
        """Services with this cluster address."""

    def slices_with(self, address: str) -> Sequence[Spec]:
        """Slices with this endpoint address."""

    def has_namespace(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """`is_ours` False means: not a name of this zone, ask others."""

    is_ours: bool = True
    code: int = codec.NOERROR
    records: Sequence[codec.Record] = ()
    extra: Sequence[codec.Record] = ()
    follow: str = ""
    """An outside name whose records complete the answer (ExternalName)."""


@dataclass(frozen=True, slots=True)
class _Target:
    """One endpoint of a headless Service."""

    label: str
    address: str
    ports: Sequence[Spec] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class _Name:
    """What was asked for; `head` are the labels before the Service's name."""

    name: str
    type: int
    zone: str
    head: Sequence[str]


_NOTHING: Final = Answer(code=codec.NXDOMAIN)
_ELSEWHERE: Final = Answer(is_ours=False)


def answer(name: str, type: int, zone: str, view: View) -> Answer:
    """`name` is lower case without its final dot."""
    if name.endswith((".in-addr.arpa", ".ip6.arpa")):
        return _reverse(name, type, zone, view)
    if name != zone and not name.endswith(f".{zone}"):
        return _ELSEWHERE
    return _in_zone(name, type, zone, view)


def _in_zone(name: str, type: int, zone: str, view: View) -> Answer:
    labels = name[: -len(zone)].rstrip(".").split(".") if name != zone else []
    match labels:
        case []:
            return _apex(type, zone)
        case ["svc"] | ["pod"] | ["dns"]:
            return Answer()
        case ["ns", "dns"]:
            return _of_type(type, [codec.address(name, view.address, TTL_S)] if view.address else [])
        case ["dns-version"]:
            return _of_type(type, [codec.text(name, SCHEMA, TTL_S)])
        case [namespace, "svc" | "pod"]:
            return Answer() if view.has_namespace(namespace) else _NOTHING
        case [*head, service, namespace, "svc"]:
            return _service(_Name(name, type, zone, head), view, Key(namespace, service))
        case [dashed, namespace, "pod"]:
            return _pod(name, type, view, namespace, dashed)
    return _NOTHING


def _apex(type: int, zone: str) -> Answer:
    server = codec.name_server(zone, f"ns.dns.{zone}", TTL_S)
    return _of_type(type, [codec.start_of_authority(zone, TTL_S), server])


def _of_type(type: int, records: Sequence[codec.Record], extra: Sequence[codec.Record] = ()) -> Answer:
    """Records of the asked type; a name that exists with none of that type is an empty answer."""
    matching = [r for r in records if type in (r.type, codec.ANY)]
    return Answer(records=matching, extra=extra if matching else ())


def _service(question: _Name, view: View, key: Key) -> Answer:
    service = view.service(*key)
    if service is None:
        return _NOTHING
    spec = objects.spec(service)
    base = f"{key.name}.{key.namespace}.svc.{question.zone}"
    if spec.get("type") == "ExternalName":
        return _external(question, str(spec.get("externalName") or ""))
    if _is_headless(spec):
        return _headless(question, base, list(_targets(service, view.slices(*key))))
    return _cluster(question, base, spec)


def _is_headless(spec: Spec) -> bool:
    return spec.get("clusterIP") in (None, "", "None")


def _external(question: _Name, target: str) -> Answer:
    if question.head or not target:
        return _NOTHING
    plain = target.rstrip(".")
    return Answer(records=[codec.cname(question.name, plain, TTL_S)], follow=plain.lower())


def _cluster(question: _Name, base: str, spec: Spec) -> Answer:
    addresses = [str(ip) for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip]
    if not question.head:
        return _of_type(question.type, [codec.address(question.name, ip, TTL_S) for ip in addresses])
    ports = [p for p in spec.get("ports") or () if _is_port(p, question.head)]
    if len(question.head) != 2 or not ports:
        return _NOTHING
    records = [codec.service(question.name, base, int(p["port"]), 100, TTL_S) for p in ports]
    return _of_type(question.type, records, [codec.address(base, ip, TTL_S) for ip in addresses])


def _is_port(port: Spec, head: Sequence[str]) -> bool:
    """`_name._protocol`; a port without a name has no SRV record."""
    protocol = str(port.get("protocol") or "TCP").lower()
    return bool(port.get("name")) and list(head) == [f"_{port['name']}".lower(), f"_{protocol}"]


def _targets(service: Spec, slices: Sequence[Spec]) -> Iterator[_Target]:
    takes_unready = bool(objects.spec(service).get("publishNotReadyAddresses"))
    for one in slices:
        for endpoint in one.get("endpoints") or ():
            if not takes_unready and not services.is_ready(endpoint):
                continue
            for ip in endpoint.get("addresses") or ():
                label = str(endpoint.get("hostname") or ip.replace(".", "-").replace(":", "-")).lower()
                yield _Target(label, ip, tuple(one.get("ports") or ()))


def _headless(question: _Name, base: str, targets: Sequence[_Target]) -> Answer:
    if not question.head:
        ips = list(dict.fromkeys(target.address for target in targets))
        answer = _of_type(question.type, [codec.address(question.name, ip, TTL_S) for ip in ips])
        return answer if targets else _NOTHING
    if len(question.head) == 1:
        matched = [target for target in targets if target.label == question.head[0]]
        records = [codec.address(question.name, target.address, TTL_S) for target in matched]
        return _of_type(question.type, records) if matched else _NOTHING
    return _headless_ports(question, base, targets)


def _headless_ports(question: _Name, base: str, targets: Sequence[_Target]) -> Answer:
    ports = [
        (t, int(p["port"])) for t in targets for p in t.ports if _is_port(p, question.head) and p.get("port")
    ]
    if len(question.head) != 2 or not ports:
        return _NOTHING
    weight = max(1, 100 // len(ports))
    records = [codec.service(question.name, f"{t.label}.{base}", port, weight, TTL_S) for t, port in ports]
    extra = [codec.address(f"{t.label}.{base}", t.address, TTL_S) for t, _ in ports]
    return _of_type(question.type, records, list(dict.fromkeys(extra)))


def _pod(name: str, type: int, view: View, namespace: str, dashed: str) -> Answer:
    """Any address of any existing namespace, as CoreDNS' `pods insecure` does."""
    text = dashed.replace("-", ".") if dashed.count("-") == 3 else dashed.replace("-", ":")
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return _NOTHING
    if not view.has_namespace(namespace):
        return _NOTHING
    return _of_type(type, [codec.address(name, str(ip), TTL_S)])


def _reverse(name: str, type: int, zone: str, view: View) -> Answer:
    ip = _reversed_address(name)
    if ip is None:
        return _ELSEWHERE
    targets = [f"{objects.name(s)}.{objects.namespace(s)}.svc.{zone}" for s in view.services_at(ip)]
    for endpoint_slice in view.slices_with(ip):
        key = services.service_of(endpoint_slice)
        service = view.service(*key)
        if service is not None and _is_headless(objects.spec(service)):
            base = f"{key.name}.{key.namespace}.svc.{zone}"
            targets += [f"{t.label}.{base}" for t in _targets(service, [endpoint_slice]) if t.address == ip]
    if not targets:
        return _ELSEWHERE
    return _of_type(type, [codec.pointer(name, target, TTL_S) for target in dict.fromkeys(targets)])


def _reversed_address(name: str) -> str | None:
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa"):
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:-2]))))
        digits = "".join(reversed(labels[:-2]))
        return str(ipaddress.IPv6Address(int(digits, 16))) if len(digits) == 32 else None
    except ValueError:
        return None
