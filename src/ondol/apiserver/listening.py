"""The sockets that the API server listens on: addresses that may not exist yet, and places of this machine.

By each of the latter only one user comes in: the file system says who may open it, so there is nothing to
prove and nobody from whom to hide what is said.
"""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.base.listeners import Listeners

# Linux's IP_FREEBIND and IPV6_FREEBIND, which the socket module does not name.
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on; with `free`, one that no interface has yet (a bridge to come)."""

    host: str
    port: int
    free: bool = False


@dataclass(frozen=True, slots=True)
class ListenLocal:
    """A socket in the file system: whoever may open it is this user, without a certificate or TLS.

    Only its owner may (mode 0600), and it belongs in a folder that only its owner may enter.
    """

    path: Path
    user: str
    groups: tuple[str, ...] = ()


def bind_all(
    listen: Iterable[Listen], local: Iterable[ListenLocal], listeners: Listeners
) -> dict[socket.socket, ListenLocal | None]:
    """Every socket that is listened on, with who comes in by it where that is settled."""
    sockets: dict[socket.socket, ListenLocal | None] = {}

    def take(name: str, bind: Callable[[], socket.socket], whose: ListenLocal | None) -> None:
        inherited = listeners.inherit(name)
        opened = inherited or bind()
        sockets[opened] = whose
        if inherited is None:
            listeners.keep(name, opened)

    try:
        for address in listen:
            take(f"{address.host}:{address.port}", functools.partial(_socket, address), None)
        for each in local:
            take(str(each.path), functools.partial(_local_socket, each.path), each)
        for name in listeners.unclaimed():
            listeners.drop(name)
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _local_socket(path: Path) -> socket.socket:
    """A socket that its owner alone may open; what a predecessor left at its place goes."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        bound.setblocking(False)
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        bound.close()
        raise errors.HostError(f"the API server cannot listen at {path}: {errors.why(error)}") from error
    return bound


def _socket(address: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Named by protocol: the event loop turns off Nagle's delay only for sockets it knows to be TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.free and family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        elif address.free:
            bound.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        bound.setblocking(False)
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise _cannot_bind(address, error) from error
    return bound


def _cannot_bind(address: Listen, error: OSError) -> errors.HostError:
    where = f"{address.host}:{address.port}"
    if error.errno == errno.EADDRINUSE:
        remedy = f"stop what listens there (ss -ltnp 'sport = :{address.port}') or choose another port"
        return errors.HostError(f"the API server cannot listen on {where}: it is in use", remedy=remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        remedy = "choose an address of this machine (ip addr)"
        return errors.HostError(f"the API server cannot listen on {where}: no such address", remedy=remedy)
    return errors.HostError(f"the API server cannot listen on {where}: {error.strerror}")
