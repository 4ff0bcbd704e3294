"""Service addresses for all who do not pass the mesh: which lead where, by the objects. Pure.

`claims` settles who has what, `service_table` says it to the kernel.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from ondol.api import objects, pods
from ondol.api.objects import Key
from ondol.base import addresses
from ondol.base.host_ports import ANY, HostPort
from ondol.base.memo import Memo
from ondol.contracts import cluster


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    address: str
    port: int


class Owner(NamedTuple):
    """Whose the rules are."""

    kind: str
    key: Key
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One port of a Service or pod: where it is reached and by whom it is answered."""

    owner: Owner
    created: str
    protocol: str
    port: int
    places: tuple[HostPort, ...]
    """Addresses with their ports; without an address it is every address of this machine."""
    assigned: frozenset[HostPort]
    """Those of the places that the API gave to this Service alone."""
    sticky_s: int
    """How long after its last connection a client goes where it went before; 0 is not at all."""
    backends: tuple[Backend, ...]
    part: str = ""
    """Tells entries of one port apart whose backends or sources differ."""
    sources: tuple[str, ...] = ()
    """The networks whose packets alone are led on; every one's if there is none."""

    @property
    def is_sticky(self) -> bool:
        return self.sticky_s > 0

    @property
    def chain(self) -> str:
        # The names that tables of running platforms have.
        key = self.owner.key if self.owner.kind == "Service" else f"pod:{self.owner.key}"
        text = f"{key}/{self.protocol}/{self.port}" + (f"/{self.part}" if self.part else "")
        return f"svc-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _sorted(listed: Iterable[Entry]) -> list[Entry]:
    return sorted(listed, key=lambda entry: (entry.owner, entry.protocol, entry.port))


def service_of(slice: Mapping[str, Any]) -> Key:
    return Key(objects.namespace(slice), objects.labels(slice).get(cluster.SERVICE_NAME_LABEL, ""))


def is_ready(endpoint: Mapping[str, Any]) -> bool:
    """An endpoint is ready unless it says otherwise."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def is_draining(endpoint: Mapping[str, Any]) -> bool:
    """An endpoint that is about to end, and serves until then."""
    flags = endpoint.get("conditions") or {}
    return bool(flags.get("terminating")) and flags.get("serving") is not False


def entries(
    services: Iterable[Mapping[str, Any]],
    slices: Iterable[Mapping[str, Any]],
    memo: Memo | None = None,
    here: Here | None = None,
) -> list[Entry]:
    """Every Service port that needs translation, in a stable order.

    Those of a Service depend on it and its slices alone: `memo` keeps them as long as these are the same
    documents, which nobody changes.
    """
    memo = Memo() if memo is None else memo
    by_service: dict[Key, list[Mapping[str, Any]]] = {}
    for one in slices:
        if one.get("addressType", "IPv4") == "IPv4":
            by_service.setdefault(service_of(one), []).append(one)
    listed: list[Entry] = []
    for service in services:
        own = by_service.get(objects.key(service), [])
        key = (id(service), *map(id, own))
        listed += memo.get(key, partial(_listed, service, own, here or Here()), (service, own))
    memo.sweep()
    return _sorted(listed)


def _listed(service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]], here: Here) -> list[Entry]:
    return [entry for entry in _of(service, slices, here) if entry.places]


def host_ports(listed: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """The `hostPort`s of pods that have an address of their own."""
    entries: list[Entry] = []
    for pod in listed:
        address = str(objects.status(pod).get("podIP") or "")
        if not address or pods.is_terminal(pod) or objects.spec(pod).get("hostNetwork"):
            continue
        for container in _lasting(objects.spec(pod)):
            entries += [
                _host_port(pod, address, p) for p in container.get("ports") or () if p.get("hostPort")
            ]
    return _sorted(entries)


def _lasting(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Containers that run beside each other: sidecars, which are init containers that stay, and the rest."""
    yield from (c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")
    yield from spec.get("containers") or ()


def _host_port(pod: Mapping[str, Any], address: str, port: Mapping[str, Any]) -> Entry:
    number = int(port["hostPort"])
    protocol = port.get("protocol") or "TCP"
    host_ip = str(port.get("hostIP") or "")
    place = HostPort(protocol, "" if host_ip in ANY else host_ip, number)
    return Entry(
        _owner(pod, "Pod"),
        _created(pod),
        protocol,
        int(port["containerPort"]),
        (place,) if not place.address or _is_ipv4(place.address) else (),
        assigned=frozenset(),
        sticky_s=0,
        backends=(Backend(address, int(port["containerPort"])),),
    )


def _owner(obj: Mapping[str, Any], kind: str) -> Owner:
    return Owner(kind, objects.key(obj), objects.uid(obj))


def _created(obj: Mapping[str, Any]) -> str:
    return str(objects.metadata(obj).get("creationTimestamp") or "")


@dataclass(frozen=True, slots=True)
class Here:
    """What of this node decides where Services lead: its name, and where it balances loads for them."""

    node: str = ""
    balanced_at: str = ""


def _of(service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]], here: Here) -> Iterator[Entry]:
    spec = objects.spec(service)
    inside = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if _is_ipv4(ip)]
    outside = [ip for ip in spec.get("externalIPs") or () if _is_ipv4(ip)]
    if spec.get("type") == "ExternalName" or not (inside or outside):
        return
    balanced = balanced_at(service, here.balanced_at)
    ranges = tuple(sorted(map(_network, spec.get("loadBalancerSourceRanges") or ())))
    for port in spec.get("ports") or ():
        protocol, number = port.get("protocol") or "TCP", int(port["port"])
        entry = partial(_entry, service, port, slices)
        assigned = tuple(HostPort(protocol, ip, number) for ip in inside)
        external = [HostPort(protocol, ip, number) for ip in outside]
        if port.get("nodePort"):
            external.append(HostPort(protocol, "", int(port["nodePort"])))
        guarded = HostPort(protocol, balanced, number) if balanced and ranges else None
        if balanced and not ranges:
            external.append(HostPort(protocol, balanced, number))
        external = [place for place in dict.fromkeys(external) if place not in (*assigned, guarded)]
        local = tuple(here.node if spec.get(field) == "Local" else "" for field in _POLICIES)
        if local == ("", ""):
            yield entry((*assigned, *external), frozenset(assigned))
        else:
            yield entry(assigned, frozenset(assigned), node=local[0])
            yield entry(external, frozenset(), part="external", node=local[1])
        if guarded is not None and guarded not in assigned:
            yield entry((guarded,), frozenset(), part="balanced", node=local[1], sources=ranges)


_STICKY_S: Final = 10800
_POLICIES: Final = ("internalTrafficPolicy", "externalTrafficPolicy")


def balanced_at(service: Mapping[str, Any], address: str) -> str:
    """The address at which this node balances the Service's load; empty if that is somebody else's work."""
    spec = objects.spec(service)
    is_ours = spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")
    return str(spec.get("loadBalancerIP") or address) if is_ours else ""


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text.strip(), strict=False))


def _entry(
    service: Mapping[str, Any],
    port: Mapping[str, Any],
    slices: Sequence[Mapping[str, Any]],
    places: Iterable[HostPort],
    assigned: frozenset[HostPort],
    *,
    part: str = "",
    node: str = "",
    sources: tuple[str, ...] = (),
) -> Entry:
    """`node` alone is led to, if it is named; `sources` alone are led, if there are some."""
    return Entry(
        _owner(service, "Service"),
        _created(service),
        port.get("protocol") or "TCP",
        int(port["port"]),
        tuple(places),
        assigned,
        _sticky_s(objects.spec(service)),
        _backends(port, slices, node),
        part,
        sources,
    )


def _sticky_s(spec: Mapping[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return int(timeout or _STICKY_S)


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _backends(
    port: Mapping[str, Any], slices: Sequence[Mapping[str, Any]], node: str = ""
) -> tuple[Backend, ...]:
    """The ready endpoints, or if there is none those that end and still serve, as kube-proxy does.

    Those on `node` alone, if one is named.
    """
    ready: set[Backend] = set()
    draining: set[Backend] = set()
    for one in slices:
        numbers = [
            int(p["port"])
            for p in one.get("ports") or ()
            if (p.get("name") or "") == (port.get("name") or "") and p.get("port")
        ]
        for endpoint in one.get("endpoints") or ():
            if node in ("", endpoint.get("nodeName")):
                usable = [a for a in endpoint.get("addresses") or () if _is_usable(a)]
                backends = {Backend(a, n) for a in usable for n in numbers}
                if is_ready(endpoint):
                    ready |= backends
                elif is_draining(endpoint):
                    draining |= backends
    return tuple(sorted(ready or draining))


def _is_usable(address: str) -> bool:
    """Whether the kernel may send to an address: never this machine's loopback or link-local ones."""
    return _is_ipv4(address) and not addresses.is_special(address)


def served_at(address: str, slice: Mapping[str, Any]) -> frozenset[HostPort]:
    """Where endpoints at an address of this machine listen: the activator's ports, those of host pods."""
    if not any(address in (endpoint.get("addresses") or ()) for endpoint in slice.get("endpoints") or ()):
        return frozenset()
    ports = [port for port in slice.get("ports") or () if port.get("port")]
    return frozenset(HostPort(port.get("protocol") or "TCP", address, int(port["port"])) for port in ports)
