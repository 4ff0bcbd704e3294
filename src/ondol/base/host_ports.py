"""Ports on which something listens in this machine's own network, as the kernel lists them (`/proc/net`)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ondol.base import comma_list

ANY: Final = ("", "0.0.0.0", "::")
"""The spellings of "every address of the machine"."""
_PORT_MAX: Final = 65535
_PROC: Final = Path("/proc/net")
_LISTENING: Final = "0A"
_UNCONNECTED: Final = "07"
_FILES: Final = (("TCP", "tcp", _LISTENING), ("UDP", "udp", _UNCONNECTED))


class HostPort(NamedTuple):
    """A port of the machine at one of its addresses, or at all of them (`ANY`)."""

    protocol: str
    address: str
    port: int

    @property
    def is_everywhere(self) -> bool:
        return self.address in ANY

    def clashes(self, other: HostPort) -> bool:
        """Whether the two cannot both be served: every address clashes with each one."""
        return (self.protocol, self.port) == (other.protocol, other.port) and (
            self.address == other.address or self.is_everywhere or other.is_everywhere
        )


def ranges(text: str) -> tuple[range, ...]:
    """Ports and ranges of them, parted by commas (`80, 9000-9099`); `ValueError` for what is neither."""
    return tuple(_range(part) for part in comma_list.items(text))


def _range(text: str) -> range:
    first, separator, last = text.partition("-")
    ports = range(int(first), int(last if separator else first) + 1)
    if not (ports and ports[0] >= 1 and ports[-1] <= _PORT_MAX):
        raise ValueError(f"{text} is no range of ports")
    return ports


def clash(ports: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    """Whether any of these clashes with any of those."""
    those = list(taken)
    return any(each.clashes(other) for each in ports for other in those)


def in_use(proc: Path = _PROC) -> frozenset[HostPort]:
    """Where something listens now; a table that the kernel does not have lists nothing."""
    listening: set[HostPort] = set()
    for protocol, name, state in _FILES:
        for version in ("", "6"):
            listening.update(_listening(_text(proc / f"{name}{version}"), protocol, state))
    listening.update(_sctp(_text(proc / "sctp" / "eps")))
    return frozenset(listening)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def _listening(text: str, protocol: str, state: str) -> Iterator[HostPort]:
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == state:
            address, _, port = fields[1].partition(":")
            yield HostPort(protocol, _address(address), int(port, 16))


def _address(text: str) -> str:
    """Kernel words of four bytes each, in the machine's own order."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if len(packed) == 4:
        return socket.inet_ntoa(packed)
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def _sctp(text: str) -> Iterator[HostPort]:
    """Endpoints of SCTP: the port is the sixth column, the addresses are the last."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 8:
            yield from (HostPort("SCTP", address, int(fields[5])) for address in fields[8:])
