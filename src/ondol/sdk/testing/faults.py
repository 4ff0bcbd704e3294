"""A transport with faults chosen by a seed: the errors and delays of networks and busy servers.

`World` puts it between managers and the API server; `Faults.heal` ends all misbehaviour.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import msgspec

from ondol.api import status
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.client import Call, ConnectionLost, Response, StreamResponse, Transport


@dataclass(slots=True)
class Faults:
    """How likely each fault is, from 0 to 1, for every request or chunk of a watch."""

    latency_s: float = 0.0
    """Answers and chunks are late by up to this."""
    lost_request: float = 0.0
    """The connection breaks before the server hears of the request."""
    lost_reply: float = 0.0
    """The server did it, but the answer never arrives."""
    conflict: float = 0.0
    """An update or patch is refused as if another writer had been faster."""
    unavailable: float = 0.0
    """The server answers 503 or 429."""
    cut_watch: float = 0.0
    """A watch breaks instead of delivering a chunk."""
    expired_watch: float = 0.0
    """A watch is refused with 410 when it is opened."""
    injected: dict[str, int] = field(default_factory=dict)
    """How often each fault struck, so that a test can see that it tested something."""

    def heal(self) -> None:
        """From now on everything works, at once."""
        self.latency_s = 0.0
        for name in ("lost_request", "lost_reply", "conflict", "unavailable", "cut_watch", "expired_watch"):
            setattr(self, name, 0.0)


def rough() -> Faults:
    """A bad day: every fault, often enough that a short run meets them all."""
    return Faults(
        latency_s=2.0,
        lost_request=0.05,
        lost_reply=0.05,
        conflict=0.05,
        unavailable=0.05,
        cut_watch=0.05,
        expired_watch=0.1,
    )


class FaultyTransport:
    """`inner`, with `faults`. Counts the writes that reached the server."""

    def __init__(self, inner: Transport, faults: Faults, *, clock: Clock, rng: random.Random) -> None:
        self.writes = 0
        self._inner = inner
        self._faults = faults
        self._clock = clock
        self._rng = rng

    async def request(self, call: Call) -> Response:
        faults = self._faults
        await self.late()
        if self._strikes("lost_request", faults.lost_request):
            raise ConnectionLost("injected: the request was lost")
        if self._strikes("unavailable", faults.unavailable):
            error = self._rng.choice((errors.Unavailable, errors.TooManyRequests))
            return _answer(error("injected: the server is busy"))
        if call.method in ("PUT", "PATCH") and self._strikes("conflict", faults.conflict):
            return _answer(errors.Conflict("injected: another writer was faster"))
        answer = await self._inner.request(call)
        if call.method != "GET" and answer.status < 400:
            self.writes += 1
        await self.late()
        if self._strikes("lost_reply", faults.lost_reply):
            raise ConnectionLost("injected: the answer was lost")
        return answer

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamResponse]:
        await self.late()
        if self._strikes("lost_request", self._faults.lost_request):
            raise ConnectionLost("injected: the watch could not be opened")
        if self._strikes("expired_watch", self._faults.expired_watch):
            raise errors.Expired("injected: the resourceVersion is too old")
        async with self._inner.stream(call) as answer:
            yield StreamResponse(answer.status, answer.headers, _Chunks(self, answer.chunks))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def late(self) -> None:
        if self._faults.latency_s:
            await self._clock.sleep(self._rng.random() * self._faults.latency_s)

    def cuts(self) -> bool:
        return self._strikes("cut_watch", self._faults.cut_watch)

    def _strikes(self, name: str, likelihood: float) -> bool:
        if not likelihood or self._rng.random() >= likelihood:
            return False
        self._faults.injected[name] = self._faults.injected.get(name, 0) + 1
        return True


class _Chunks:
    def __init__(self, faulty: FaultyTransport, chunks: AsyncIterator[bytes]) -> None:
        self._faulty = faulty
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        await self._faulty.late()
        if self._faulty.cuts():
            raise ConnectionLost("injected: the watch broke")
        return chunk


def _answer(error: errors.ApiError) -> Response:
    headers = {"content-type": "application/json"}
    return Response(error.status_code, headers, msgspec.json.encode(status.failure(error)))
