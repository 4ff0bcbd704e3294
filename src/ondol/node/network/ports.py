"""Connections to the ports of a pod, made as from inside of it."""

from __future__ import annotations

import socket
from typing import Final

from ondol.node import linux

_LOOPBACK: Final = ("127.0.0.1", "::1")
_CONNECT_S: Final = 10.0


def dial(port: int, namespace: str = "") -> socket.socket:
    """Connect to a port at the loopback address, of the network namespace of that path if one is named.

    Blocks, and leaves the calling thread in the namespace. `OSError` where nothing listens.
    """
    if namespace:
        linux.enter(namespace, linux.CLONE_NEWNET)
    failures: list[OSError] = []
    for address in _LOOPBACK:
        try:
            return socket.create_connection((address, port), timeout=_CONNECT_S)
        except OSError as error:
            failures.append(error)
    raise failures[0]
