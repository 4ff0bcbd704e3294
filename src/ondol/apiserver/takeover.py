"""Connections that leave HTTP: what a client asks to go on as another protocol becomes bytes both ways.

The edge (`server`) puts `TAKE` into the scope of such a request, and feeds what comes after its head.
WebSockets are read by the edge itself, except to what is proxied: those are between the client and the pod.
Pure but for the transport, so that only the edge knows whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ondol.base.signal import Signal

TAKE: Final = "ondol.take"
"""Scope key of a function that takes the connection over; no ordinary answer is sent after it was called."""
_PROXIED: Final = re.compile(rb"/api/v1/(?:namespaces/[^/]+/(?:pods|services)|nodes)/[^/]+/proxy(?:[/?]|$)")
_KEPT_BYTES_MAX: Final = 64 * 1024


class Transport(Protocol):
    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def is_proxied(target: bytes) -> bool:
    """Whether a request's target is a server behind the API server."""
    return _PROXIED.match(target) is not None


class Taken:
    """A client's connection as bytes. Implements `exchange.ByteStream`."""

    def __init__(self, transport: Transport, drain: Callable[[], Awaitable[None]]) -> None:
        """`drain` waits until the transport has room for more."""
        self._transport = transport
        self._drain = drain
        self._kept = bytearray()
        self._news = Signal()
        self._is_over = False
        self._is_paused = False

    def feed(self, data: bytes) -> None:
        """The client sent this."""
        self._kept += data
        if len(self._kept) > _KEPT_BYTES_MAX and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._news.set()

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_over = True
        self._news.set()

    async def receive(self) -> bytes:
        while not self._kept and not self._is_over:
            await self._news.next.wait()
        data = bytes(self._kept)
        self._kept.clear()
        if self._is_paused and not self._is_over:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        if not self._is_over:
            self._transport.write(data)
            await self._drain()

    def close(self) -> None:
        self._transport.close()
