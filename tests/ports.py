"""Ports that a test may name before anybody listens at them.

A port that the kernel hands out (`bind` to 0) can be taken again by any connection between the choice and the
use: of thousands of tests side by side, one in some runs lost that race. These lie below the range of which
the kernel takes ports for connections, and each process of the tests has five hundred for itself.
"""

from __future__ import annotations

import functools
import itertools
import socket
from collections.abc import Iterator
from typing import Final

_FIRST: Final = 10_000
_BLOCK: Final = 500
_BLOCKS: Final = 40


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, for datagrams or connections; none again for 400 calls."""
    _, ports = _mine()
    return next(port for port in ports if _is_free(port))


@functools.cache
def _mine() -> tuple[socket.socket, Iterator[int]]:
    """The ports of this process, over and over, with the name that keeps them for as long as it lives."""
    for block in range(_BLOCKS):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0ondol-tests-ports-{block}")
        except OSError:
            name.close()
            continue
        first = _FIRST + block * _BLOCK
        return name, itertools.cycle(range(first, first + _BLOCK))
    raise AssertionError(f"{_BLOCKS} processes of tests have all ports from {_FIRST} on")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
