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
from ondol.node.dns import codec
from ondol.node.network import services

TTL_S: Final = 5
SCHEMA: Final = "1.1.0"
Spec = Mapping[str, Any]


class View(Protocol):
    """The objects the zone is made of."""

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


_NOTHING: Final = Answer(code=codec.NXDOMAIN)
_ELSEWHERE: Final = Answer(is_ours=False)


def answer(name: str, type: int, zone: str, view: View) -> Answer:
    """`name` is lower case without its final dot."""
    if name.endswith((".in-addr.arpa", ".ip6.arpa")):
        return _reverse(name, type, zone, view)
    if name != zone and not name.endswith(f".{zone}"):
        return _ELSEWHERE
    labels = name[: -len(zone)].rstrip(".").split(".") if name != zone else []
    match labels:
        case []:
            return Answer()
        case ["dns-version"]:
            return _of_type(type, [codec.text(name, SCHEMA, TTL_S)])
        case ["svc"] | ["pod"]:
            return Answer()
        case [namespace, "svc" | "pod"]:
            return Answer() if view.has_namespace(namespace) else _NOTHING
        case [*head, service, namespace, "svc"]:
            return _service(name, type, zone, view, namespace, service, head)
        case [dashed, namespace, "pod"]:
            return _pod(name, type, view, namespace, dashed)
    return _NOTHING


def _of_type(type: int, records: Sequence[codec.Record], extra: Sequence[codec.Record] = ()) -> Answer:
    """Records of the asked type; a name that exists with none of that type is an empty answer."""
    wanted = [r for r in records if type in (r.type, codec.ANY)]
    return Answer(records=wanted, extra=extra if wanted else ())


def _service(
    name: str, type: int, zone: str, view: View, namespace: str, service_name: str, head: Sequence[str]
) -> Answer:
    service = view.service(namespace, service_name)
    if service is None:
        return _NOTHING
    spec = objects.spec(service)
    base = f"{service_name}.{namespace}.svc.{zone}"
    if spec.get("type") == "ExternalName":
        return _external(name, str(spec.get("externalName") or ""), head)
    if _is_headless(spec):
        targets = list(_targets(service, view.slices(namespace, service_name)))
        return _headless(name, type, base, targets, head)
    addresses = [str(ip) for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip]
    return _cluster(name, type, base, spec, addresses, head)


def _is_headless(spec: Spec) -> bool:
    return spec.get("clusterIP") in (None, "", "None")


def _external(name: str, target: str, head: Sequence[str]) -> Answer:
    if head or not target:
        return _NOTHING
    return Answer(records=[codec.cname(name, target.rstrip("."), TTL_S)], follow=target.rstrip(".").lower())


def _cluster(
    name: str, type: int, base: str, spec: Spec, addresses: Sequence[str], head: Sequence[str]
) -> Answer:
    if not head:
        return _of_type(type, [codec.address(name, ip, TTL_S) for ip in addresses])
    if len(head) != 2:
        return _NOTHING
    ports = [p for p in spec.get("ports") or () if _is_port(p, head)]
    if not ports:
        return _NOTHING
    records = [codec.service(name, base, int(p["port"]), 100, TTL_S) for p in ports]
    return _of_type(type, records, [codec.address(base, ip, TTL_S) for ip in addresses])


def _is_port(port: Spec, head: Sequence[str]) -> bool:
    """`_name._protocol`; a port without a name has no SRV record."""
    protocol = str(port.get("protocol") or "TCP").lower()
    return bool(port.get("name")) and list(head) == [f"_{port['name']}".lower(), f"_{protocol}"]


def _targets(service: Spec, slices: Sequence[Spec]) -> Iterator[_Target]:
    takes_unready = bool(objects.spec(service).get("publishNotReadyAddresses"))
    for slice in slices:
        for endpoint in slice.get("endpoints") or ():
            if not takes_unready and not services.is_ready(endpoint):
                continue
            for ip in endpoint.get("addresses") or ():
                label = str(endpoint.get("hostname") or ip.replace(".", "-").replace(":", "-")).lower()
                yield _Target(label, ip, tuple(slice.get("ports") or ()))


def _headless(name: str, type: int, base: str, targets: Sequence[_Target], head: Sequence[str]) -> Answer:
    if not targets:
        return _NOTHING
    if not head:
        ips = dict.fromkeys(target.address for target in targets)
        return _of_type(type, [codec.address(name, ip, TTL_S) for ip in ips])
    if len(head) == 1:
        matched = [target for target in targets if target.label == head[0]]
        return (
            _of_type(type, [codec.address(name, t.address, TTL_S) for t in matched]) if matched else _NOTHING
        )
    found = [(t, int(p["port"])) for t in targets for p in t.ports if _is_port(p, head) and p.get("port")]
    if len(head) != 2 or not found:
        return _NOTHING
    weight = max(1, 100 // len(found))
    records = [codec.service(name, f"{t.label}.{base}", port, weight, TTL_S) for t, port in found]
    extra = [codec.address(f"{t.label}.{base}", t.address, TTL_S) for t, _ in found]
    return _of_type(type, records, list(dict.fromkeys(extra)))


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
    for slice in view.slices_with(ip):
        key = services.service_of(slice)
        service = view.service(*key)
        if service is not None and _is_headless(objects.spec(service)):
            base = f"{key.name}.{key.namespace}.svc.{zone}"
            targets += [f"{t.label}.{base}" for t in _targets(service, [slice]) if t.address == ip]
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
