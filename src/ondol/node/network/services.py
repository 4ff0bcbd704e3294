"""Service addresses for all who do not pass the mesh: ClusterIP and NodePort to ready endpoints.

The whole table is computed from the objects (pure) and put in place in one transaction; the kernel
chooses an endpoint per connection. An address without endpoints answers with a refusal at once.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key
from ondol.node.network import rules

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
_DESTINATION: Final = "ipv4_addr . inet_proto . inet_service"
_PROTOCOLS: Final = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One port of one Service: where it is reached and by whom it is answered."""

    key: Key
    protocol: str
    port: int
    addresses: tuple[str, ...]
    node_port: int
    is_sticky: bool
    backends: tuple[Backend, ...]

    @property
    def chain(self) -> str:
        text = f"{self.key}/{self.protocol}/{self.port}"
        return f"svc-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def service_of(slice: Mapping[str, Any]) -> Key:
    return Key(objects.namespace(slice), objects.labels(slice).get(SERVICE_NAME_LABEL, ""))


def is_ready(endpoint: Mapping[str, Any]) -> bool:
    """An endpoint is ready unless it says otherwise."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def entries(services: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Every Service port that needs translation, in a stable order."""
    by_service: dict[Key, list[Mapping[str, Any]]] = {}
    for one in slices:
        if one.get("addressType", "IPv4") == "IPv4":
            by_service.setdefault(service_of(one), []).append(one)
    found = [
        entry for service in services for entry in _of(service, by_service.get(objects.key(service), ()))
    ]
    return sorted(found, key=lambda entry: (entry.key, entry.protocol, entry.port))


def host_ports(pods: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """The `hostPort`s of pods that have an address of their own."""
    found: list[Entry] = []
    for pod in pods:
        address = str(objects.status(pod).get("podIP") or "")
        is_over = objects.status(pod).get("phase") in ("Succeeded", "Failed")
        if not address or is_over or objects.spec(pod).get("hostNetwork"):
            continue
        for container in objects.spec(pod).get("containers") or ():
            found += [_host_port(pod, address, p) for p in container.get("ports") or () if p.get("hostPort")]
    return sorted(found, key=lambda entry: (entry.key, entry.protocol, entry.port))


def _host_port(pod: Mapping[str, Any], address: str, port: Mapping[str, Any]) -> Entry:
    number = int(port["hostPort"])
    backend = Backend(address, int(port["containerPort"]))
    protocol = _PROTOCOLS[port.get("protocol") or "TCP"]
    key = Key(objects.namespace(pod), f"pod:{objects.name(pod)}")
    return Entry(key, protocol, number, (), number, is_sticky=False, backends=(backend,))


def _of(service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> Iterator[Entry]:
    spec = objects.spec(service)
    cluster_ips = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if _is_ipv4(ip)]
    addresses = tuple(dict.fromkeys([*cluster_ips, *filter(_is_ipv4, spec.get("externalIPs") or ())]))
    if spec.get("type") == "ExternalName" or not addresses:
        return
    for port in spec.get("ports") or ():
        yield Entry(
            objects.key(service),
            _PROTOCOLS[port.get("protocol") or "TCP"],
            int(port["port"]),
            addresses,
            int(port.get("nodePort") or 0),
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
                found |= {Backend(a, n) for a in endpoint.get("addresses") or () for n in numbers}
    return tuple(sorted(found))


def table(instance: str, listed: Sequence[Entry]) -> str:
    """The batch that makes the kernel do what the entries say."""
    served = [entry for entry in listed if entry.backends]
    empty = [entry for entry in listed if not entry.backends]
    own = sorted({backend.address for entry in served for backend in entry.backends})
    body = [
        _map(
            "map vips", "ipv4_addr . inet_proto . inet_service : verdict", _destinations(served, " : goto {}")
        ),
        _map("map node-ports", "inet_proto . inet_service : verdict", _node_ports(served, " : goto {}")),
        _map("set rejected", "ipv4_addr . inet_proto . inet_service", _destinations(empty, "")),
        _map("set rejected-ports", "inet_proto . inet_service", _node_ports(empty, "")),
        _map("set own", "ipv4_addr . ipv4_addr", [f"{address} . {address}" for address in own]),
        *(_chain(entry) for entry in served),
        _CHAINS,
    ]
    return rules.replaced(rules.service_table(instance), "".join(body))


def _map(name: str, type: str, elements: Iterable[str]) -> str:
    listed = list(dict.fromkeys(elements))
    inside = f"    elements = {{ {', '.join(listed)} }}\n" if listed else ""
    return f"  {name} {{\n    type {type}\n{inside}  }}\n"


def _destinations(listed: Iterable[Entry], suffix: str) -> Iterator[str]:
    for entry in listed:
        for address in entry.addresses:
            yield f"{address} . {entry.protocol} . {entry.port}{suffix.format(entry.chain)}"


def _node_ports(listed: Iterable[Entry], suffix: str) -> Iterator[str]:
    for entry in listed:
        if entry.node_port:
            yield f"{entry.protocol} . {entry.node_port}{suffix.format(entry.chain)}"


def _chain(entry: Entry) -> str:
    choice = f"{'jhash ip saddr' if entry.is_sticky else 'numgen random'} mod {len(entry.backends)}"
    numbered = ", ".join(f"{i} : {b.address} . {b.port}" for i, b in enumerate(entry.backends))
    return (
        f"  chain {entry.chain} {{\n"
        f"    meta l4proto {entry.protocol} dnat ip to {choice} map {{ {numbered} }}\n"
        "  }\n"
    )


_CHAINS: Final = """\
  chain services {
    ip daddr . meta l4proto . th dport vmap @vips
    fib daddr type local meta l4proto . th dport vmap @node-ports
  }
  chain reject-services {
    ip daddr . meta l4proto . th dport @rejected reject
    fib daddr type local meta l4proto . th dport @rejected-ports reject
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    jump services
  }
  chain postrouting {
    type nat hook postrouting priority 90; policy accept;
    ip saddr . ip daddr @own masquerade
  }
  chain forward-filter {
    type filter hook forward priority -10; policy accept;
    jump reject-services
  }
  chain output-filter {
    type filter hook output priority -10; policy accept;
    jump reject-services
  }
  chain input-filter {
    type filter hook input priority -10; policy accept;
    jump reject-services
  }
"""
