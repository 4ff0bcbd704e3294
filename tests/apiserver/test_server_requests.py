"""Requests as bytes of HTTP/1.1: where each begins and ends, and what is refused."""

from __future__ import annotations

import contextlib
import http.client
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from tests.apiserver.edge import App, config, raw, serving, tls, until_closed

from ondol.apiserver import pki, server


async def test_answers_without_a_body_come_at_once(issued: pki.Pki, app: App) -> None:
    """The head of an answer waits for its body to go out with it, but not where none comes."""
    async with serving(app, config(issued)) as ((address,), _):

        def fetch() -> list[int]:
            connection = http.client.HTTPSConnection(*address, context=tls(issued), timeout=5)
            try:
                lengths = []
                for method in ("HEAD", "GET", "HEAD", "HEAD", "GET"):
                    connection.request(method, "/")
                    lengths.append(len(connection.getresponse().read()))
                return lengths
            finally:
                connection.close()

        head, get_, *rest = await anyio.to_thread.run_sync(fetch)
        assert (head, rest) == (0, [0, 0, get_])
        assert get_ > 0


class _Writes:
    """A transport that notes what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.writes.append(b"closed")


def test_the_head_and_the_beginning_of_a_body_are_one_write() -> None:
    """What comes after goes on its own, and so does a large body; an interim answer is none."""
    transport = _Writes()
    joined = server._Joined(cast("Any", transport))
    for data in (b"HTTP/1.1 100 Continue\r\n\r\n", b"head", b"first", b"second"):
        joined.write(data)
    joined.ended()
    joined.write(b"head alone")
    joined.ended()
    large = b"x" * 100_000
    joined.write(b"head of much")
    joined.write(large)
    joined.ended()
    joined.write(b"cut short")
    joined.close()
    assert transport.writes == [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"headfirst",
        b"second",
        b"head alone",
        b"head of much",
        large,
        b"cut short",
        b"closed",
    ]


async def test_an_unsupported_upgrade_is_answered_and_closed(issued: pki.Pki, app: App) -> None:
    """The request is an ordinary one to the application; no bytes after it are misread."""
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(b"GET /up HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\r\n")
        received = b""
        with anyio.fail_after(2), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in received


async def test_headers_without_end_are_refused(issued: pki.Pki, app: App) -> None:
    """They come before anyone has proved who they are, and would be kept in memory."""
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ")
        with contextlib.suppress(anyio.BrokenResourceError):
            for _ in range(40):
                await stream.send(b"a" * 100_000)
        received = await until_closed(stream)
    assert received == b"" or received.startswith(b"HTTP/1.1 400"), received[:100]


_CHUNKED = b"POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"


async def test_trailers_never_become_headers(issued: pki.Pki, app: App) -> None:
    """What follows a body was in no head, so it can neither name a user nor act for one."""
    trailers = b"0\r\nImpersonate-User: root\r\nAuthorization: Bearer x\r\nx-remote-user: root\r\n\r\n"
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(_CHUNKED + trailers)
        await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = await until_closed(stream)
    assert received.count(b"HTTP/1.1 200") == 2
    assert b"root" not in received
    assert b"authorization" not in received


@pytest.mark.parametrize("rest", [b"0\r\nx-long: ", b"3;"])
async def test_what_stands_beside_a_body_is_bounded(issued: pki.Pki, app: App, rest: bytes) -> None:
    """Trailers and extensions of chunks without end would be kept in memory."""
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(_CHUNKED + rest)
        with contextlib.suppress(anyio.BrokenResourceError):
            for _ in range(40):
                await stream.send(b"a" * 100_000)
        received = await until_closed(stream)
    assert b"HTTP/1.1 200" not in received


_HOST = b"host: x\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n" + _HOST + b"Host: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\n" + _HOST + b"content-length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\n" + _HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\n" + _HOST + b"transfer-encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
        b"POST /body HTTP/1.1\r\n" + _HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcX0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"x-a: one\r\n impersonate-user: root\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"impersonate-user : root\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"x-a: b\rimpersonate-user: root\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"x-a: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\n" + _HOST + b"\r\n",
        b"GET / HTTP/2.0\r\n" + _HOST + b"\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + _HOST + b"\r\n",
    ],
)
async def test_bytes_that_could_be_two_requests_are_none(issued: pki.Pki, app: App, request_: bytes) -> None:
    """The answer is 400, and nothing more is read from the connection."""
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(request_)
        received = await until_closed(stream)
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1") == 1


async def test_an_unwanted_body_does_not_go_on_for_ever(issued: pki.Pki, app: App) -> None:
    """Once the answer is out, only so much of the rest is read before the connection is closed."""
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4294967296\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        with pytest.raises((anyio.BrokenResourceError, OSError)):  # noqa: PT012 - sent until it is refused
            for _ in range(4096):
                await stream.send(b"a" * 100_000)


async def test_old_clients_are_not_told_to_go_on(issued: pki.Pki, app: App) -> None:
    """HTTP/1.0 knows no 100: the first line they read must be that of the answer."""
    head = b"POST /body HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    async with serving(app, config(issued)) as ((address,), _), raw(address, issued) as stream:
        await stream.send(head + b"abc")
        assert (await until_closed(stream)).startswith(b"HTTP/1.1 200")
