"""Connections that leave HTTP at the edge: what they bring, how much is kept, how they end."""

from __future__ import annotations

import anyio
import pytest
from tests.apiserver.edge import App, config, raw, serving, until_closed

from ondol.apiserver import pki, server, takeover

SPDY = (
    b"POST /talk HTTP/1.1\r\nHost: a\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"
)
PROXIED = b"/api/v1/namespaces/default/pods/web:80/proxy/ws"


class Taker(App):
    """Takes over each connection that may be, and sends back what comes, in capitals, until `bye`."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = anyio.Event()
        self.go_on = anyio.Event()
        self.go_on.set()

    async def __call__(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        if takeover.TAKE not in scope or scope["path"] == "/plain":
            await super().__call__(scope, receive, send)
            return
        taken = scope[takeover.TAKE]()
        await taken.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        while data := await taken.receive():
            await taken.send(data.upper())
            if data.endswith(b"bye"):
                break
            await self.go_on.wait()
        taken.close()
        self.ended.set()


def opening(target: bytes) -> bytes:
    head = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"


@pytest.mark.parametrize("head", [SPDY, opening(PROXIED)])
async def test_bytes_both_ways(issued: pki.Pki, head: bytes) -> None:
    """Also those that came with the head; once it is over the connection is closed."""
    app = Taker()
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(head + b"early ")
        received = b""
        while not received.endswith(b"EARLY "):
            received += await stream.receive()
        assert received.startswith(b"HTTP/1.1 101 ")
        await stream.send(b"GET / HTTP/1.1 bye")
        assert await until_closed(stream) == b"GET / HTTP/1.1 BYE"


async def test_a_client_that_goes(issued: pki.Pki) -> None:
    """Is the end of what the connection was taken for."""
    app = Taker()
    async with serving(app, config(issued)) as ((address,), _):
        async with raw(address, issued) as stream:
            await stream.send(SPDY)
            await stream.receive()
        with anyio.fail_after(5):
            await app.ended.wait()


async def test_a_server_that_stops(issued: pki.Pki) -> None:
    """Closes what was taken over at once."""
    app = Taker()
    async with serving(app, config(issued)) as ((address,), scope), raw(address, issued) as stream:
        await stream.send(SPDY)
        await stream.receive()
        scope.cancel()
        with anyio.CancelScope(shield=True):
            assert await until_closed(stream) == b""


async def test_what_nobody_reads_is_not_kept(issued: pki.Pki) -> None:
    """The client waits; what it sends then arrives whole."""
    app, size = Taker(), 8 << 20
    app.go_on = anyio.Event()
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(SPDY)
        await stream.receive()
        sent = anyio.Event()

        async def send() -> None:
            await stream.send(b"x" * size)
            sent.set()
            await stream.send(b"bye")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            assert not sent.is_set()
            app.go_on.set()
            assert len(await until_closed(stream)) == size + 3


async def test_other_requests_are_as_they_were(issued: pki.Pki) -> None:
    """One that asks for what nobody speaks is answered all the same; other WebSockets are the edge's."""
    async with serving(Taker(), config(issued)) as ((address,), _):
        async with raw(address, issued) as stream:
            await stream.send(SPDY.replace(b"/talk", b"/plain").replace(b"SPDY/3.1", b"h2c"))
            assert (await until_closed(stream)).startswith(b"HTTP/1.1 200 ")
        async with raw(address, issued) as stream:
            await stream.send(opening(b"/talk"))
            assert b"sec-websocket-accept" in (await stream.receive()).lower()


@pytest.mark.parametrize(
    ("target", "is_proxied"),
    [
        (PROXIED, True),
        (b"/api/v1/namespaces/default/services/web/proxy?x", True),
        (b"/api/v1/nodes/n1/proxy", True),
        (b"/api/v1/namespaces/default/pods/proxy/exec", False),
        (b"/api/v1/namespaces/default/pods/web/proxyx", False),
        (b"/api/v1/namespaces/default/pods/web/log", False),
    ],
)
def test_whose_websockets_are_handed_on(target: bytes, is_proxied: bool) -> None:
    """Those to servers behind this one, by their path alone."""
    assert takeover.is_proxied(target) is is_proxied
