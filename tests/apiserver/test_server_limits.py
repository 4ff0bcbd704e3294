"""How many connections may wait, and for how long: who says nothing keeps nobody out."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.apiserver.edge import App, config, converse, get, raw, serving, tls, until_closed

from ondol.apiserver import pki, server


async def test_who_says_nothing_is_let_go(issued: pki.Pki, app: App) -> None:
    """A connection that asks for nothing ends after a while; one that has asked stays open."""
    settings = config(issued, first_request_s=0.3)
    async with (
        serving(app, settings) as ((address,), _),
        raw(address, issued) as silent,
        raw(address, issued) as slow,
        raw(address, issued) as asking,
    ):
        await slow.send(b"GET / HTTP/1.1\r\nhost: ")
        await asking.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        received = await asking.receive()
        assert await until_closed(silent) == b""
        assert await until_closed(slow) == b""
        await asking.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received += await until_closed(asking)
    assert received.count(b"HTTP/1.1 200") == 2


@contextlib.asynccontextmanager
async def silent(address: server.Address, count: int, begin: bytes = b"") -> AsyncIterator[list[Any]]:
    """Connections that send the beginning of nothing, and wait."""
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            stream = await stack.enter_async_context(await anyio.connect_tcp(*address))
            with contextlib.suppress(anyio.BrokenResourceError):
                await stream.send(begin)
            streams.append(stream)
        yield streams


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while True:
            if true():
                return
            await anyio.sleep(0.01)


async def _until_descriptors(count: int) -> None:
    await _until(lambda: descriptors() <= count)


LOOPS = [("asyncio", {"use_uvloop": fast}) for fast in (False, True)]


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("begin", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_who_is_silent_keeps_nobody_out(issued: pki.Pki, app: App, begin: bytes) -> None:
    """However many say no hello, a client that does is answered; and what they took is given back."""
    async with serving(app, config(issued, unauthenticated_max=8)) as ((address,), _):
        await get(address, tls(issued))
        before = descriptors()
        async with silent(address, 50, begin) as streams:
            await _until_descriptors(before + 50 + 8)
            seen = await get(address, tls(issued, "admin"))
            assert seen["ondol.certificate"]["name"] == "kubernetes-admin"
            assert [await until_closed(stream) for stream in streams[:42]] == [b""] * 42
        await _until_descriptors(before)


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
async def test_who_shakes_hands_and_says_nothing_keeps_nobody_out(issued: pki.Pki, app: App) -> None:
    """A handshake proves nothing: such a one goes, too, but after those who have not even done that."""
    async with (
        serving(app, config(issued, unauthenticated_max=3)) as ((address,), _),
        raw(address, issued) as first,
        raw(address, issued) as second,
        silent(address, 4) as speechless,
    ):
        assert await until_closed(speechless[0]) == b""
        async with raw(address, issued) as third, raw(address, issued) as fourth:
            assert await until_closed(first) == b""
            for stream in (second, third, fourth):
                await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert (await until_closed(stream)).startswith(b"HTTP/1.1 200")


async def test_who_is_authenticated_stays(issued: pki.Pki, app: App) -> None:
    """A connection that somebody answers for does not go for others, and is given back when it is closed."""
    async with (
        serving(app, config(issued, unauthenticated_max=4)) as ((address,), _),
        raw(address, issued) as accepted,
    ):
        await accepted.send(b"GET /known HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await accepted.receive()).startswith(b"HTTP/1.1 200")
        async with silent(address, 20) as streams:
            assert await until_closed(streams[0]) == b""
            assert app.events == []
            await accepted.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await until_closed(accepted)).startswith(b"HTTP/1.1 200")
        await _until(lambda: app.events == ["given back"])


async def test_a_connection_that_went_on_as_a_websocket_is_given_back(issued: pki.Pki, app: App) -> None:
    """It is told by another protocol that it is over."""
    async with serving(app, config(issued)) as ((address,), _):
        await anyio.to_thread.run_sync(converse, address, tls(issued, "admin"))
        await _until(lambda: app.events == ["given back"])


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
async def test_a_stop_leaves_no_handshake_behind(issued: pki.Pki, app: App) -> None:
    """Who has not ended it is cut off, and the server does not wait for them."""
    async with serving(App(), config(issued)) as ((address,), _):
        await get(address, tls(issued))  # a loop keeps a descriptor of its own from the first connection on
    before = descriptors()
    async with serving(app, config(issued)) as ((address,), scope), silent(address, 5) as streams:
        await get(address, tls(issued))
        scope.cancel()
        with anyio.CancelScope(shield=True):
            assert [await until_closed(stream) for stream in streams] == [b""] * 5
    await _until_descriptors(before)


class _Full:
    """A listening socket in a process that can open nothing more, until it has been asked so often."""

    def __init__(self, times: int) -> None:
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.bound.setblocking(False)
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bound, name)

    def accept(self) -> Any:
        self.times -= 1
        if self.times >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.bound.accept()


async def test_when_nothing_more_can_be_opened_the_unauthenticated_go(
    issued: pki.Pki, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if there are none it is tried again: what waits is answered then."""
    full = _Full(0)
    monkeypatch.setattr(server, "bind_all", lambda *_: {full: None})
    monkeypatch.setattr(server, "_ACCEPT_AGAIN_S", 0.05)
    async with serving(app, config(issued)) as ((address,), _), silent(address, 2) as (first, second):
        await get(address, tls(issued))
        full.times = 1
        await get(address, tls(issued))
        assert await until_closed(first) == b""
        full.times = 3
        await get(address, tls(issued))
        assert await until_closed(second) == b""
        assert full.times < 0
