"""Connections that begin with TLS: the activator holds them as they are, and looks into none."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSStream
from tests.certificates import certify

from ondol.api.objects import Key
from ondol.base.clock import Clock, ManualClock, SystemClock
from ondol.serverless.activator.activator import Activator
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.throttler import Endpoint

REVISION = Key("default", "hello-00001")
pytestmark = pytest.mark.anyio
HELLO = b"\x16\x03\x01"
"""How every handshake begins."""


@asynccontextmanager
async def pod(folder: Path) -> AsyncIterator[tuple[Endpoint, ssl.SSLContext]]:
    """A server with a certificate of its own that says in capitals what it hears; how it is believed."""
    authority = certify(folder, "pod.example")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(folder / "both.pem")
    trusting = ssl.create_default_context(cadata=authority.decode())

    async def serve(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            try:
                while True:
                    await stream.send((await stream.receive()).upper())
            except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
                return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def handle(raw: anyio.abc.SocketStream) -> None:
        await serve(await TLSStream.wrap(raw, server_side=True, ssl_context=own, standard_compatible=False))

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's typed attribute
        yield Endpoint("127.0.0.1", port), trusting
        group.cancel_scope.cancel()


@asynccontextmanager
async def running(requests: list[Key], clock: Clock | None = None) -> AsyncIterator[Activator]:
    activator = Activator(
        "127.0.0.1", on_demand=requests.append, clock=clock or SystemClock(), rng=random.Random(1)
    )
    async with anyio.create_task_group() as group:
        await group.start(activator.run)
        yield activator
        group.cancel_scope.cancel()


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(4):
        while not true():  # noqa: ASYNC110 - what is waited for is behind a socket
            await anyio.sleep(0.01)


async def secured(port: int, trusting: ssl.SSLContext) -> TLSStream:
    stream = await anyio.connect_tcp("127.0.0.1", port)
    return await TLSStream.wrap(
        stream, hostname="pod.example", ssl_context=trusting, standard_compatible=False
    )


async def test_a_connection_waits_and_its_certificates_are_the_pods(tmp_path: Path) -> None:
    """From its first byte, before there is a request to read; it is one request until it ends."""
    requests: list[Key] = []
    async with running(requests) as activator, pod(tmp_path) as (endpoint, trusting):
        port = await activator.listen(REVISION, concurrency=1, limits=Limits(5))

        async with anyio.create_task_group() as group:

            async def be_there() -> None:
                await until(lambda: activator.demand(REVISION) == 1)
                activator.set_endpoints(REVISION, [endpoint])

            group.start_soon(be_there)
            first = await secured(port, trusting)
        assert requests == [REVISION]
        await first.send(b"hello")
        assert await first.receive() == b"HELLO"
        counts = activator._revisions[REVISION].counts
        assert (counts.cold.count, counts.opened, counts.answers) == (1, 1, {})
        async with await anyio.connect_tcp("127.0.0.1", port) as second:
            await second.send(HELLO)
            await until(lambda: activator.demand(REVISION) == 2)
            assert activator._revisions[REVISION].throttler.waiting == 1, "the pod takes one at a time"
        await until(lambda: activator.demand(REVISION) == 1)
        await first.aclose()
        await until(lambda: activator.demand(REVISION) == 0)


async def test_where_no_pod_comes_the_connection_ends() -> None:
    """Without a word, and the same caller's at once for a moment: or the proxy would have it held again."""
    clock = ManualClock()
    async with running([], clock) as activator:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(300))
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(HELLO)
            await until(lambda: activator.demand(REVISION) == 1)
            await clock.advance(299)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        assert activator.demand(REVISION) == 0
        for pause_s, waits in ((1.9, False), (0.2, True)):
            await clock.advance(pause_s)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(HELLO)
                if waits:
                    await until(lambda: activator.demand(REVISION) == 1)
                else:
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()


async def test_who_hangs_up_is_not_waited_for() -> None:
    """Its connection is held no longer."""
    async with running([]) as activator:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(HELLO)
            await until(lambda: activator.demand(REVISION) == 1)
        await until(lambda: activator.demand(REVISION) == 0)


async def test_a_pod_that_is_silent_for_too_long_is_left() -> None:
    """What it was asked may take as long as the begin of an answer, whatever that is."""
    clock = ManualClock()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")  # accepts and says nothing
    async with listener, running([], clock) as activator:
        silent = Endpoint("127.0.0.1", listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - no SQL
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(300, response_start_s=20))
        activator.set_endpoints(REVISION, [silent])
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(HELLO)
            await until(lambda: bool(clock._timers) and activator._revisions[REVISION].counts.opened == 1)
            await clock.advance(20)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
