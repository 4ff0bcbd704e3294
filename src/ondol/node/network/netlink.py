"""The kernel's network interfaces over netlink: the few requests a node needs, without a library.

A library for all of netlink costs 430 ms and 27 MB to import (decision 0003); these are a dozen
message shapes. Synchronous: every call is answered by the kernel at once. A socket belongs to the
network namespace of the thread that opened it.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Self

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_REQUEST, _ACK, _CREATE, _EXCL, _REPLACE = 0x1, 0x4, 0x400, 0x200, 0x100
_ERROR, _DONE = 2, 3
_MULTIPART, DUMP = 0x2, 0x300
_IFF_UP: Final = 0x1
NESTED: Final = 0x8000

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTO_STATIC, _SCOPE_GLOBAL, _SCOPE_LINK, _UNICAST = 254, 4, 0, 253, 1

# nftables: its messages, their attributes and the family of bridges.
_NETFILTER, _NFTABLES, _NFPROTO_BRIDGE = 12, 10, 7
_BATCH_BEGIN, _BATCH_END, _NEWSETELEM = 16, 17, _NFTABLES << 8 | 12
_GETTABLE, _GETRULE, _GETSETELEM, _GETGEN = (_NFTABLES << 8 | kind for kind in (1, 7, 13, 16))
_TABLE_NAME, _RULE_TABLE, _GENERATION = 1, 1, 1
_ELEMENTS_TABLE, _ELEMENTS_SET, _ELEMENTS, _LIST_ELEMENT, _ELEMENT_KEY, _DATA_VALUE = 1, 2, 3, 1, 1, 1

_HEADER: Final = struct.Struct("=IHHII")
_NFGEN: Final = struct.Struct("!BBH")
_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes that follow each other in the bytes, by kind."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & ~NESTED, data[at + 4 : at + length]
        at += length + -length % 4


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _link(index: int = 0, *, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, flags)


def bridge_mac(name: str) -> bytes:
    """A bridge's hardware address, which follows from its name.

    One that the kernel chooses is its lowest port's and changes as pods come and go, and those that stay
    would send to the old one for seconds.
    """
    return b"\x02" + hashlib.sha256(name.encode()).digest()[:5]


class Netlink:
    """A route socket (or one of another protocol) in the namespace of the thread that makes it."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _request(self, kind: int, flags: int, payload: bytes, what: str) -> None:
        self._sequence += 1
        header = _HEADER.pack(16 + len(payload), kind, flags | _REQUEST | _ACK, self._sequence, 0)
        self._socket.send(header + payload)
        _await_answer(self._socket, self._sequence, what)

    def request(self, kind: int, payload: bytes, what: str) -> None:
        """Ask for something to be done; `OSError` when the kernel refuses."""
        self._request(kind, 0, payload, what)

    def dump(self, kind: int, payload: bytes) -> Iterator[bytes]:
        """All that the kernel lists in answer, each without its head."""
        self._sequence += 1
        header = _HEADER.pack(16 + len(payload), kind, DUMP | _REQUEST, self._sequence, 0)
        self._socket.send(header + payload)
        return _parts(self._socket, 0)

    def add_bridge(self, name: str) -> None:
        """Make the bridge unless it is there; either way it has the hardware address `bridge_mac`."""
        info = attribute(_IFLA_LINKINFO | NESTED, _text(_INFO_KIND, "bridge"))
        bridge = _link() + _text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, bridge_mac(name))
        try:
            self._request(_NEWLINK, _CREATE | _EXCL, bridge + info, f"bridge {name}")
        except FileExistsError:
            self._request(_NEWLINK, 0, bridge, f"address of bridge {name}")

    def add_veth(
        self, name: str, *, master: int, peer: str, peer_namespace: int, peer_mac: bytes, mtu: int
    ) -> None:
        """A pair: `name` up on the bridge here, `peer` in the namespace of the open descriptor."""
        far = (
            _link()
            + _text(_IFLA_IFNAME, peer)
            + attribute(_IFLA_ADDRESS, peer_mac)
            + _number(_IFLA_MTU, mtu)
            + _number(_IFLA_NET_NS_FD, peer_namespace)
        )
        data = attribute(_INFO_DATA | NESTED, attribute(_VETH_PEER | NESTED, far))
        info = attribute(_IFLA_LINKINFO | NESTED, _text(_INFO_KIND, "veth") + data)
        near = (
            _link(up=True)
            + _text(_IFLA_IFNAME, name)
            + _number(_IFLA_MTU, mtu)
            + _number(_IFLA_MASTER, master)
        )
        self._request(_NEWLINK, _CREATE | _EXCL, near + info, f"veth {name}")

    def set_up(self, index: int) -> None:
        self._request(_NEWLINK, 0, _link(index, up=True), f"interface {index} up")

    def delete(self, name: str) -> bool:
        """Remove the interface; False when there is none."""
        try:
            self._request(_DELLINK, 0, _link() + _text(_IFLA_IFNAME, name), f"delete {name}")
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def add_address(self, index: int, address: ipaddress.IPv4Interface) -> None:
        scope = _SCOPE_GLOBAL
        body = _IFADDR.pack(socket.AF_INET, address.network.prefixlen, 0, scope, index)
        local = address.ip.packed
        body += attribute(_IFA_LOCAL, local) + attribute(_IFA_ADDRESS, local)
        self._request(_NEWADDR, _CREATE | _REPLACE, body, f"address {address}")

    def add_link_route(self, index: int, destination: ipaddress.IPv4Address) -> None:
        """The destination is a neighbour on this interface."""
        body = self._route(32, _SCOPE_LINK) + attribute(_RTA_DST, destination.packed)
        self._request(_NEWROUTE, _CREATE | _REPLACE, body + _number(_RTA_OIF, index), f"route {destination}")

    def add_default_route(self, index: int, gateway: ipaddress.IPv4Address) -> None:
        body = self._route(0, _SCOPE_GLOBAL) + attribute(_RTA_GATEWAY, gateway.packed)
        self._request(_NEWROUTE, _CREATE | _REPLACE, body + _number(_RTA_OIF, index), "default route")

    @staticmethod
    def _route(length: int, scope: int) -> bytes:
        return _ROUTE.pack(socket.AF_INET, length, 0, 0, _TABLE_MAIN, _PROTO_STATIC, scope, _UNICAST, 0)


def _await_answer(connection: socket.socket, sequence: int, what: str) -> None:
    """Wait for the kernel's acknowledgement; `OSError` when it refused the request."""
    while True:
        answer = connection.recv(65536)
        _, kind, _, answered, _ = _HEADER.unpack_from(answer)
        if answered == sequence and kind == _ERROR:
            break
    code = -struct.unpack_from("=i", answer, 16)[0]
    if code:
        raise OSError(code, f"{what}: {os.strerror(code)}")


def add_bridge_set_element(table: str, name: str, key: bytes) -> None:
    """Add to the named set of an nftables table of the bridge family; one that is there stays.

    nft reads every table, chain and set of the machine before it adds anything, which takes milliseconds
    that grow with the Services: too long for the start of a pod.
    """
    element = attribute(_ELEMENT_KEY | NESTED, attribute(_DATA_VALUE, key))
    elements = attribute(_ELEMENTS | NESTED, attribute(_LIST_ELEMENT | NESTED, element))
    body = _text(_ELEMENTS_TABLE, table) + _text(_ELEMENTS_SET, name) + elements
    batch = (
        _netfilter(_BATCH_BEGIN, 0, socket.AF_UNSPEC, _NFTABLES)
        + _netfilter(_NEWSETELEM, _CREATE | _ACK, _NFPROTO_BRIDGE, 0, body)
        + _netfilter(_BATCH_END, 0, socket.AF_UNSPEC, _NFTABLES)
    )
    with _nftables() as kernel:
        kernel.send(batch)
        _await_answer(kernel, 1, f"element of the set {name} of the table bridge {table}")


def _netfilter(kind: int, flags: int, family: int, resource: int, body: bytes = b"") -> bytes:
    payload = _NFGEN.pack(family, 0, resource) + body
    return _HEADER.pack(16 + len(payload), kind, flags | _REQUEST, 1, 0) + payload


def netfilter_request(kind: int, family: int, body: bytes) -> None:
    """Ask netfilter for one change; `OSError` when the kernel refused it."""
    with _nftables() as kernel:
        kernel.send(_netfilter(kind, _ACK, family, 0, body))
        _await_answer(kernel, 1, "netfilter")


def _nftables() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    kernel.bind((0, 0))
    return kernel


def generation() -> int:
    """How often the nftables of this network namespace were changed, by whomever: 32 bits that go round."""
    (answer,) = netfilter_answers(_GETGEN, 0, socket.AF_UNSPEC)
    return int(struct.unpack_from("!I", answer, 4)[0])  # behind the head of its one attribute


def ip_table_digest(table: str, sets: Iterable[str]) -> bytes:
    """Differs whenever a table of the ip family does, in its rules or in what these sets and maps hold.

    Empty when the table is gone. The same content may have another digest, as in a table made anew.
    """
    name = _text(_TABLE_NAME, table)
    listed = [_text(_ELEMENTS_TABLE, table) + _text(_ELEMENTS_SET, each) for each in sets]
    requests = [(_GETTABLE, 0, name), (_GETRULE, DUMP, _text(_RULE_TABLE, table))]
    requests += [(_GETSETELEM, DUMP, body) for body in listed]
    digest = hashlib.sha256()
    try:
        for kind, flags, body in requests:
            for answer in netfilter_answers(kind, flags, socket.AF_INET, body):
                digest.update(answer)
    except FileNotFoundError:
        return b""
    return digest.digest()


def netfilter_answers(kind: int, flags: int, family: int, body: bytes = b"") -> Iterator[bytes]:
    """What netfilter in the kernel answers, without the heads, which tell of the generation."""
    with _nftables() as kernel:
        kernel.send(_netfilter(kind, flags, family, 0, body))
        yield from _parts(kernel, _NFGEN.size)


def _parts(kernel: socket.socket, head: int) -> Iterator[bytes]:
    """The messages of an answer without their heads, of which `head` bytes are the subsystem's own."""
    while True:
        received = kernel.recv(1 << 17)
        while received:
            length, answered, parts, _, _ = _HEADER.unpack_from(received)
            if answered in (_ERROR, _DONE):
                code = -struct.unpack_from("=i", received, _HEADER.size)[0]
                if code:
                    raise OSError(code, f"netlink: {os.strerror(code)}")
                return
            yield received[_HEADER.size + head : length]
            if not parts & _MULTIPART:
                return
            received = received[length + -length % 4 :]
