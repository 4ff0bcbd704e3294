"""What the kernel remembers of datagrams: flows that were translated, of which those gone stale are ended.

A client that goes on sending keeps its flow, and with it the endpoint it was led to, for as long as it sends:
so also when the endpoint is gone, or when there was none at first.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ondol.base.host_ports import HostPort
from ondol.node.network import netlink
from ondol.node.network.services import Entry

_SUBSYSTEM: Final = 1
_GET, _DELETE = _SUBSYSTEM << 8 | 1, _SUBSYSTEM << 8 | 2
_ORIGINAL, _REPLY = 1, 2
_IP, _PROTO = 1, 2
_SOURCE, _DESTINATION = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Tuple:
    """Where one direction of a flow comes from and goes."""

    source: str
    destination: str
    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class Flow:
    original: Tuple
    """As it was sent."""
    reply: Tuple
    """As it is answered: its source is the endpoint."""
    raw: bytes
    """The original direction in the kernel's own form, by which it names the flow."""


def stale(flows: Iterable[Flow], entries: Iterable[Entry]) -> Iterator[Flow]:
    """The flows to a UDP place of an entry that go to none of its endpoints."""
    endpoints: dict[HostPort, set[tuple[str, int]]] = {}
    for entry in entries:
        if entry.protocol == "UDP":
            backends = {(backend.address, backend.port) for backend in entry.backends}
            for place in entry.places:
                endpoints.setdefault(place, set()).update(backends)
    for flow in flows:
        to = flow.original
        served = endpoints.get(HostPort("UDP", to.destination, to.destination_port))
        if served is None:
            served = _everywhere(flow, endpoints)
        if served is not None and (flow.reply.source, flow.reply.source_port) not in served:
            yield flow


def _everywhere(flow: Flow, endpoints: dict[HostPort, set[tuple[str, int]]]) -> set[tuple[str, int]] | None:
    """Of a node port; a flow to some other machine's port of that number was never translated."""
    to, back = flow.original, flow.reply
    if (to.destination, to.destination_port) == (back.source, back.source_port):
        return None
    return endpoints.get(HostPort("UDP", "", to.destination_port))


def flows(protocol: int = socket.IPPROTO_UDP) -> list[Flow]:
    """Every flow of a protocol over IPv4 that the kernel knows of in this thread's network namespace."""
    answers = netlink.netfilter_answers(_GET, netlink.DUMP, socket.AF_INET)
    return [flow for answer in answers if (flow := _flow(answer, protocol)) is not None]


def end(flow: Flow) -> bool:
    """Forget it; False when it is gone already."""
    try:
        netlink.netfilter_request(
            _DELETE, socket.AF_INET, netlink.attribute(_ORIGINAL | netlink.NESTED, flow.raw)
        )
    except FileNotFoundError:
        return False
    return True


def _flow(answer: bytes, protocol: int) -> Flow | None:
    parts = dict(netlink.attributes(answer))
    if _ORIGINAL not in parts or _REPLY not in parts:
        return None
    original, reply = _tuple(parts[_ORIGINAL], protocol), _tuple(parts[_REPLY], protocol)
    return Flow(original, reply, parts[_ORIGINAL]) if original is not None and reply is not None else None


def _tuple(raw: bytes, protocol: int) -> Tuple | None:
    parts = dict(netlink.attributes(raw))
    addresses = dict(netlink.attributes(parts.get(_IP, b"")))
    ports = dict(netlink.attributes(parts.get(_PROTO, b"")))
    is_whole = _SOURCE in addresses and _DESTINATION in addresses and _SOURCE_PORT in ports
    if not is_whole or ports.get(_NUMBER) != bytes([protocol]):
        return None
    source, destination = (str(ipaddress.ip_address(addresses[each])) for each in (_SOURCE, _DESTINATION))
    source_port, port = (struct.unpack("!H", ports[each])[0] for each in (_SOURCE_PORT, _DESTINATION_PORT))
    return Tuple(source, destination, source_port, port)
