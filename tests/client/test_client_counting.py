"""A transport that counts what it carries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ondol.base import errors
from ondol.base.clock import ManualClock
from ondol.client import Call, Response, StreamResponse
from ondol.client.counting import CountingTransport


class _Server:
    """Answers after two seconds, or not at all; its watches break half-way."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def request(self, call: Call) -> Response:
        await self._clock.advance(2.0)
        if call.path == "/gone":
            raise errors.Unavailable("nothing answers")
        return Response(404, {}, b"")

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamResponse]:
        if call.path == "/gone":
            raise errors.Unavailable("nothing answers")

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in (b"first", b""):
                if not chunk:
                    raise errors.Unavailable("the connection broke")
                yield chunk

        yield StreamResponse(200, {}, chunks())

    async def aclose(self) -> None:
        """It has nothing to close."""


async def _read(transport: CountingTransport, path: str) -> None:
    async with transport.stream(Call("GET", path)) as response:
        async for _ in response.chunks:
            pass


async def test_each_request_is_counted_once_by_how_it_ended() -> None:
    """By code and method, one without an answer as an error; latencies are of what was answered."""
    clock = ManualClock()
    transport = CountingTransport(_Server(clock), clock)
    await transport.request(Call("GET", "/a"))
    with pytest.raises(errors.Unavailable):
        await transport.request(Call("PUT", "/gone"))
    for path in ("/a", "/gone"):
        with pytest.raises(errors.Unavailable):
            await _read(transport, path)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in transport.collect()
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
    assert samples == {
        ("rest_client_requests_total", "404", "GET"): 1,
        ("rest_client_requests_total", "<error>", "PUT"): 1,
        ("rest_client_requests_total", "200", "GET"): 1,
        ("rest_client_requests_total", "<error>", "GET"): 1,
        ("rest_client_request_duration_seconds_count", "GET"): 1,
        ("rest_client_request_duration_seconds_sum", "GET"): 2.0,
    }
