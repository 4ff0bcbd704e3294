"""How much of what there is for all askers one of them may have at once. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio.abc


class Shares:
    """`total` places, of which each asker has at most `each`: so one leaves room for others."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._taken: Counter[str] = Counter()
        self._count = 0

    @contextmanager
    def one(self, asker: str) -> Iterator[bool]:
        """A place for the length of a block; whether there was one. An unknown asker (empty) has none."""
        if self._count >= self._total or (asker and self._taken[asker] >= self._each):
            yield False
            return
        self._count += 1
        self._taken[asker] += 1
        try:
            yield True
        finally:
            self._count -= 1
            self._taken[asker] -= 1
            if not self._taken[asker]:
                del self._taken[asker]


def asker(stream: anyio.abc.SocketStream) -> str:
    """The address at the other end of a connection; empty if it has hung up already."""
    peer = stream.extra(anyio.abc.SocketAttribute.remote_address, ("",))  # noqa: S610 - no database
    return str(peer[0])
