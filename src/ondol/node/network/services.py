"""Service addresses for all who do not pass the mesh: ClusterIP and NodePort to ready endpoints.

The whole table is computed from the objects (pure) and put in place in one transaction; the kernel
chooses an endpoint per connection. An address without endpoints answers with a refusal at once.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from ondol.api import objects
from ondol.api.objects import Key
from ondol.base import addresses
from ondol.base.host_ports import ANY, HostPort
from ondol.base.memo import Memo
from ondol.contracts import cluster
from ondol.node.network import rules


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
    is_sticky: bool
    backends: tuple[Backend, ...]

    @property
    def chain(self) -> str:
        # The names that tables of running platforms have.
        key = self.owner.key if self.owner.kind == "Service" else f"pod:{self.owner.key}"
        text = f"{key}/{self.protocol}/{self.port}"
        return f"svc-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _sorted(listed: Iterable[Entry]) -> list[Entry]:
    return sorted(listed, key=lambda entry: (entry.owner, entry.protocol, entry.port))


def service_of(slice: Mapping[str, Any]) -> Key:
    return Key(objects.namespace(slice), objects.labels(slice).get(cluster.SERVICE_NAME_LABEL, ""))


def is_ready(endpoint: Mapping[str, Any]) -> bool:
    """An endpoint is ready unless it says otherwise."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def entries(
    services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]], memo: Memo | None = None
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
        listed += memo.get(key, partial(_listed, service, own), (service, own))
    memo.sweep()
    return _sorted(listed)


def _listed(service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return list(_of(service, slices))


def host_ports(pods: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """The `hostPort`s of pods that have an address of their own."""
    found: list[Entry] = []
    for pod in pods:
        address = str(objects.status(pod).get("podIP") or "")
        is_over = objects.status(pod).get("phase") in ("Succeeded", "Failed")
        if not address or is_over or objects.spec(pod).get("hostNetwork"):
            continue
        for container in _lasting(objects.spec(pod)):
            found += [_host_port(pod, address, p) for p in container.get("ports") or () if p.get("hostPort")]
    return _sorted(found)


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
        is_sticky=False,
        backends=(Backend(address, int(port["containerPort"])),),
    )


def _owner(obj: Mapping[str, Any], kind: str) -> Owner:
    return Owner(kind, objects.key(obj), objects.uid(obj))


def _created(obj: Mapping[str, Any]) -> str:
    return str(objects.metadata(obj).get("creationTimestamp") or "")


def _of(service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> Iterator[Entry]:
    spec = objects.spec(service)
    cluster_ips = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if _is_ipv4(ip)]
    external_ips = [ip for ip in spec.get("externalIPs") or () if _is_ipv4(ip)]
    if spec.get("type") == "ExternalName" or not (cluster_ips or external_ips):
        return
    for port in spec.get("ports") or ():
        protocol, number = port.get("protocol") or "TCP", int(port["port"])
        assigned = [HostPort(protocol, ip, number) for ip in cluster_ips]
        places = [*assigned, *(HostPort(protocol, ip, number) for ip in external_ips)]
        if port.get("nodePort"):
            places.append(HostPort(protocol, "", int(port["nodePort"])))
        yield Entry(
            _owner(service, "Service"),
            _created(service),
            protocol,
            number,
            tuple(dict.fromkeys(places)),
            frozenset(assigned),
            spec.get("sessionAffinity") == "ClientIP",
            _backends(port, slices),
        )


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _backends(port: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> tuple[Backend, ...]:
    found: set[Backend] = set()
    for one in slices:
        numbers = [
            int(p["port"])
            for p in one.get("ports") or ()
            if (p.get("name") or "") == (port.get("name") or "") and p.get("port")
        ]
        for endpoint in one.get("endpoints") or ():
            if is_ready(endpoint):
                usable = [a for a in endpoint.get("addresses") or () if _is_usable(a)]
                found |= {Backend(a, n) for a in usable for n in numbers}
    return tuple(sorted(found))


def _is_usable(address: str) -> bool:
    """What the kernel may be told to send to: never this machine's loopback or link, whoever wrote it."""
    return _is_ipv4(address) and not addresses.is_special(address)


def served_at(address: str, slices: Iterable[Mapping[str, Any]]) -> frozenset[HostPort]:
    """Where endpoints at an address of this machine listen: the activator's ports, those of host pods."""
    return frozenset(
        HostPort(port.get("protocol") or "TCP", address, int(port["port"]))
        for one in slices
        if any(address in (endpoint.get("addresses") or ()) for endpoint in one.get("endpoints") or ())
        for port in one.get("ports") or ()
        if port.get("port")
    )


def table(instance: str, listed: Sequence[Entry], kept: Iterable[HostPort] = ()) -> str:
    """The batch that makes the kernel do what the entries say; `kept` places are never translated.

    No two entries may have a place in common (`claims.settle`): nftables would refuse the whole table.
    """
    served = [entry for entry in listed if entry.backends]
    empty = [entry for entry in listed if not entry.backends]
    own = sorted({backend.address for entry in served for backend in entry.backends})
    at_address = "ipv4_addr . inet_proto . inet_service"
    anywhere = "inet_proto . inet_service"
    at_kept, anywhere_kept = _elements(sorted(kept))
    at_served, anywhere_served = _verdicts(served)
    at_empty, anywhere_empty = _elements(place for entry in empty for place in entry.places)
    body = [
        _map("set kept", at_address, at_kept),
        _map("set kept-ports", anywhere, anywhere_kept),
        _map("map vips", f"{at_address} : verdict", at_served),
        _map("map node-ports", f"{anywhere} : verdict", anywhere_served),
        _map("set rejected", at_address, at_empty),
        _map("set rejected-ports", anywhere, anywhere_empty),
        _map("set own", "ipv4_addr . ipv4_addr", [f"{address} . {address}" for address in own]),
        *(_chain(entry) for entry in served),
        _chains(instance),
    ]
    return rules.replaced(rules.service_table(instance), "".join(body))


def _elements(places: Iterable[HostPort]) -> tuple[list[str], list[str]]:
    """Places as nftables writes them: those at an address, and those at every address of the machine."""
    at_address, anywhere = [], []
    for place in places:
        if place.is_everywhere:
            anywhere.append(f"{place.protocol.lower()} . {place.port}")
        else:
            at_address.append(f"{place.address} . {place.protocol.lower()} . {place.port}")
    return at_address, anywhere


def _verdicts(listed: Iterable[Entry]) -> tuple[list[str], list[str]]:
    at_address: list[str] = []
    anywhere: list[str] = []
    for entry in listed:
        for elements, verdicts in zip(_elements(entry.places), (at_address, anywhere), strict=True):
            verdicts += [f"{element} : goto {entry.chain}" for element in elements]
    return at_address, anywhere


def _map(name: str, type: str, elements: Iterable[str]) -> str:
    listed = list(dict.fromkeys(elements))
    inside = f"    elements = {{ {', '.join(listed)} }}\n" if listed else ""
    return f"  {name} {{\n    type {type}\n{inside}  }}\n"


def _chain(entry: Entry) -> str:
    choice = f"{'jhash ip saddr' if entry.is_sticky else 'numgen random'} mod {len(entry.backends)}"
    numbered = ", ".join(f"{i} : {b.address} . {b.port}" for i, b in enumerate(entry.backends))
    return (
        f"  chain {entry.chain} {{\n"
        f"    meta l4proto {entry.protocol.lower()} dnat ip to {choice} map {{ {numbered} }}\n"
        "  }\n"
    )


def _chains(instance: str) -> str:
    return f"""\
  chain services {{
    ip daddr . meta l4proto . th dport @kept return
    fib daddr type local meta l4proto . th dport @kept-ports return
    ip daddr . meta l4proto . th dport vmap @vips
    fib daddr type local meta l4proto . th dport vmap @node-ports
  }}
  chain reject-services {{
    ip daddr . meta l4proto . th dport @rejected reject
    fib daddr type local meta l4proto . th dport @rejected-ports reject
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
{rules.strangers(instance, "iifname", "return")}\
    jump services
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {rules.strangers_mark(instance)} return
    jump services
  }}
  chain postrouting {{
    type nat hook postrouting priority 90; policy accept;
    ip saddr . ip daddr @own masquerade
  }}
  chain forward-filter {{
    type filter hook forward priority -10; policy accept;
    jump reject-services
  }}
  chain output-filter {{
    type filter hook output priority -10; policy accept;
    jump reject-services
  }}
  chain input-filter {{
    type filter hook input priority -10; policy accept;
    jump reject-services
  }}
"""
