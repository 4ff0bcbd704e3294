"""The edge that hands requests on, against real servers: bytes as they come, and what goes wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSListener
from tests.certificates import certify

from ondol.apiserver.ports import Destination, Forwarded
from ondol.base.clock import SystemClock
from ondol.compose.forwarder import HttpForwarder

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The edge is asyncio's."""
    return "asyncio"


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[HttpForwarder]:
    """The edge with an agent's socket in the test's own folder."""
    edge = HttpForwarder(tmp_path / "agent", "secret", SystemClock())
    yield edge
    await edge.aclose()


class Server:
    """Answers each connection with the same bytes, after the head of a request and so many of its body."""

    def __init__(self, answer: bytes, body_bytes: int = 0) -> None:
        self.answer = answer
        self.body_bytes = body_bytes
        self.received: list[bytes] = []

    async def __call__(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < self.body_bytes:
                received += await stream.receive()
            self.received.append(received)
            await stream.send(self.answer)
            if b"101 " in self.answer:
                with contextlib.suppress(anyio.EndOfStream):
                    await stream.send(b"echo:" + await stream.receive())


@contextlib.asynccontextmanager
async def serving(listener: anyio.abc.Listener[anyio.abc.ByteStream], server: Server) -> AsyncIterator[int]:
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server)
        yield int(listener.extra(anyio.abc.SocketAttribute.local_port, 0))  # noqa: S610 - anyio's
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def tcp(server: Server) -> AsyncIterator[Destination]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with serving(listener, server) as port:
        yield Destination("http", "127.0.0.1", port)


async def test_a_request_goes_as_it_is(forwarder: HttpForwarder) -> None:
    """Target, headers and body unchanged, nothing added; the answer's headers and bytes likewise."""
    answer = b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    server = Server(answer + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nfoo", body_bytes=4)

    async def body() -> AsyncIterator[bytes]:
        yield b"se"
        yield b"nt"

    async with tcp(server) as to:
        headers = [(b"host", b"api.test"), (b"content-length", b"4"), (b"x-a", b"1"), (b"x-a", b"2")]
        request = Forwarded("PUT", "/a%2Fb//c?x=%20&y", headers)
        async with forwarder.request(to, request, body()) as got:
            assert (got.status, b"".join([chunk async for chunk in got.chunks()])) == (302, b"foo")
            assert (b"location", b"/x") in got.headers
            assert [value for name, value in got.headers if name == b"set-cookie"] == [b"a", b"b"]
    head, _, sent = server.received[0].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert (first, sent) == (b"PUT /a%2Fb//c?x=%20&y HTTP/1.1", b"sent")
    names = sorted(line.split(b":")[0].lower() for line in lines)
    assert names == [b"connection", b"content-length", b"host", b"x-a", b"x-a"]
    assert b"api.test" in head


async def test_certificates_are_not_asked_for_who_signed_them(
    forwarder: HttpForwarder, tmp_path: Path
) -> None:
    """A pod's own certificate will do, for requests and for upgrades."""
    certify(tmp_path, "nobody.example")
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    async with serving(TLSListener(plain, context, standard_compatible=False), server):
        port = plain.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's
        to = Destination("https", "127.0.0.1", port)
        async with forwarder.request(to, Forwarded("GET", "/", [(b"host", b"a")]), None) as got:
            assert b"".join([chunk async for chunk in got.chunks()]) == b"ok"
        async with forwarder.upgrade(to, Forwarded("GET", "/", [(b"host", b"a")])) as (status, _, stream):
            assert (status, await stream.receive()) == (200, b"ok")


async def test_an_agent_is_shown_the_token(forwarder: HttpForwarder, tmp_path: Path) -> None:
    """And is reached at its socket."""
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    listener = await anyio.create_unix_listener(tmp_path / "agent")
    async with serving(listener, server):
        to = Destination("http", node="n1")
        async with forwarder.request(to, Forwarded("GET", "/pods", [(b"host", b"a")]), None) as got:
            assert got.status == 200
    assert b"Authorization: Bearer secret\r\n" in server.received[0]
    assert server.received[0].startswith(b"GET /pods HTTP/1.1\r\n")


async def test_an_upgrade_is_bytes_from_the_head_on(forwarder: HttpForwarder) -> None:
    """What came with the head is not lost, and what is sent arrives."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
    server = Server(head + b"first")
    async with tcp(server) as to:
        request = Forwarded("GET", "/ws", [(b"host", b"a"), (b"upgrade", b"x"), (b"connection", b"Upgrade")])
        async with forwarder.upgrade(to, request) as (status, received, stream):
            assert (status, received, await stream.receive()) == (101, head, b"first")
            await stream.send(b"hi")
            assert await stream.receive() == b"echo:hi"
            assert await stream.receive() == b""
    assert server.received[0].startswith(b"GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: x\r\n")


@pytest.mark.parametrize("way", ["request", "upgrade"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "connect: connection refused"), (b"", "."), (b"SSH-2.0-x\r\n\r\n", ".")],
)
async def test_what_goes_wrong_is_an_oserror(
    forwarder: HttpForwarder, way: str, answer: bytes | None, words: str
) -> None:
    """Nobody listens, hangs up, or does not speak HTTP."""
    async with contextlib.AsyncExitStack() as stack:
        if answer is None:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                to = Destination("http", "127.0.0.1", probe.getsockname()[1])
        else:
            to = await stack.enter_async_context(tcp(Server(answer)))
        request = Forwarded("GET", "/", [(b"host", b"a")])
        opened = forwarder.request(to, request, None) if way == "request" else forwarder.upgrade(to, request)
        with pytest.raises(OSError, match=words):
            await stack.enter_async_context(opened)
