"""Ends TCP connections of a network namespace from outside of the programs that have them (SOCK_DESTROY).

A socket keeps its network namespace. The mesh's proxy has some in every pod's; when the pod goes they would
stay, with the namespace, until they are silent for too long.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from ondol.node.network import netlink

_SOCK_DIAG, _SOCK_DESTROY = 20, 21
_NETLINK_SOCK_DIAG: Final = 4
_LISTENS: Final = 1 << 10
_STATES: Final = 0xFFF & ~_LISTENS
_REQUEST: Final = struct.Struct("=BBBxI48s")
_ANSWER: Final = struct.Struct("=BBBB48s")


def end_all() -> None:
    """Every TCP connection of the calling thread's network namespace; who has one reads ECONNABORTED.

    What listens goes on. `OSError` where the kernel cannot do it (CONFIG_INET_DIAG_DESTROY).
    """
    with netlink.Netlink(_NETLINK_SOCK_DIAG) as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            for identity in list(_connections(kernel, family)):
                request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _STATES, identity)
                try:
                    kernel.request(_SOCK_DESTROY, request, "end of a connection")
                except FileNotFoundError:
                    continue  # it has ended by itself


def _connections(kernel: netlink.Netlink, family: int) -> Iterator[bytes]:
    """The kernel's identities of sockets: ports, addresses, interface, cookie."""
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _STATES, bytes(48))
    for answer in kernel.dump(_SOCK_DIAG, request):
        yield _ANSWER.unpack_from(answer)[4]
