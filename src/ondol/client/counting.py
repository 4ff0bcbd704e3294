"""A transport that counts its requests and their latencies, under the names that client-go's have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from ondol.base import errors, metrics
from ondol.base.clock import Clock
from ondol.base.metrics import Family, Histogram
from ondol.client.transport import Call, Response, StreamResponse, Transport

_UNANSWERED: Final = "<error>"


class CountingTransport:
    """Carries requests by another transport; of a stream its beginning is counted, not its length."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._latencies: dict[tuple[str], Histogram] = defaultdict(Histogram)

    async def request(self, call: Call) -> Response:
        began = self._clock.monotonic()
        try:
            response = await self._transport.request(call)
        except errors.OndolError:
            self._counts[_UNANSWERED, call.method] += 1
            raise
        self._counts[str(response.status), call.method] += 1
        self._latencies[call.method,].observe(self._clock.monotonic() - began)
        return response

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamResponse]:
        code = _UNANSWERED
        try:
            async with self._transport.stream(call) as response:
                code = str(response.status)
                self._counts[code, call.method] += 1
                yield response
        except errors.OndolError:
            if code == _UNANSWERED:
                self._counts[code, call.method] += 1
            raise

    async def aclose(self) -> None:
        await self._transport.aclose()

    def collect(self) -> Iterable[Family]:
        yield metrics.counter(
            "rest_client_requests_total", "Requests sent to the API server.", self._counts, ("code", "method")
        )
        yield metrics.histogram(
            "rest_client_request_duration_seconds", "How long requests took.", self._latencies, ("verb",)
        )
