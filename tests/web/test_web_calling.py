"""Calls over kept connections: answers of every shape, connections that go, bounds."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from ondol.base import errors
from ondol.base.addresses import is_special
from ondol.web.calling import Answer, Caller, Place

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """Answers each request on a connection with the next of `answers`; None closes it without one."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.connections = 0
        self.requests = 0
        self._answers = answers

    async def __call__(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with stream:
            try:
                while await stream.receive():
                    self.requests += 1
                    answer = self._answers.pop(0) if self._answers else None
                    if answer is None:
                        return
                    await stream.send(answer)
                    if b"connection: close" in answer or (
                        b"length" not in answer and b"chunked" not in answer
                    ):
                        return
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return


@asynccontextmanager
async def calling(
    folder: Path, answers: list[bytes | None]
) -> AsyncIterator[tuple[Peer, Callable[..., Awaitable[Answer]]]]:
    peer, caller = Peer(answers), Caller()
    place = Place(socket=str(folder / "peer.sock"))

    async def call(timeout_s: float = 5.0, bytes_max: int = 100) -> Answer:
        return await caller.call(place, REQUEST, timeout_s=timeout_s, bytes_max=bytes_max)

    async with await anyio.create_unix_listener(place.socket) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, peer)
        yield peer, call
        caller.close()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (PLAIN, (200, b"ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
            (200, b"ok!"),
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end", (200, b"to the end")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN, (200, b"ok")),
        (b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n", (503, b"")),
    ],
)
async def test_answers_of_every_shape(tmp_path: Path, raw: bytes, expected: tuple[int, bytes]) -> None:
    """With a length, in chunks, to the end of the connection, after an interim one, without a body."""
    async with calling(tmp_path, [raw]) as (_, call):
        answer = await call()
    assert (answer.status, answer.body, answer.is_cut) == (*expected, False)


async def test_a_connection_is_kept_for_the_next_call(tmp_path: Path) -> None:
    """As long as the peer keeps it; one that it closed meanwhile is no answer."""
    async with calling(tmp_path, [PLAIN, PLAIN, None, PLAIN]) as (peer, call):
        for _ in range(2):
            await call()
        assert peer.connections == 1
        assert (await call()).status == 200  # the kept one is closed at the request, which is made again
        assert (peer.connections, peer.requests) == (2, 4)


async def test_what_is_no_answer(tmp_path: Path) -> None:
    """A fresh connection that closes, garbage, and silence, each in words."""
    async with calling(tmp_path, [None]) as (_, call):
        with pytest.raises(errors.Unavailable, match="closed before the answer"):
            await call()
    async with calling(tmp_path, [b"SSH-2.0-x length\r\n\r\n"]) as (_, call):
        with pytest.raises(errors.Unavailable, match="not HTTP"):
            await call()
    async with calling(tmp_path, [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]) as (_, call):
        with pytest.raises(errors.Timeout, match="no answer within"):
            await call(timeout_s=0.05)
    with pytest.raises(errors.Unavailable, match="cannot connect"):
        await Caller().call(Place(socket=str(tmp_path / "none")), REQUEST, timeout_s=1, bytes_max=1)


async def test_a_body_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """What is longer is cut, and its connection not used again."""
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + b"x" * 500
    async with calling(tmp_path, [long, PLAIN]) as (peer, call):
        answer = await call()
        assert (len(answer.body), answer.is_cut) == (100, True)
        assert (await call()).status == 200
        assert peer.connections == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "127.1", "::ffff:127.0.0.1"])
async def test_an_address_that_may_not_be_dialled_is_not(host: str) -> None:
    """It is judged as what its name turns out to be."""
    peer = Peer([PLAIN])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, peer)
        caller = Caller(lambda address: not is_special(address))
        with pytest.raises(errors.Unavailable, match="nothing may be sent to"):
            await caller.call(Place(host, port), REQUEST, timeout_s=5, bytes_max=100)
        tasks.cancel_scope.cancel()
    assert peer.connections == 0


async def test_trailers_are_no_headers(tmp_path: Path) -> None:
    """What comes behind the body is not kept: it may never end."""
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nce-late: x\r\n\r\n"
    async with calling(tmp_path, [answer]) as (_, call):
        assert (await call()).headers == [(b"transfer-encoding", b"chunked")]
