"""A server and its client, by which a request that is lost is noticed: of every kind that passes the mesh.

`main.py` serves HTTP/1.1 at port 8080 and echoes TCP at 9000. `main.py load ...` sends requests until there
is a file of a given name, and prints a line of JSON: how many there were of each kind, which failed, and how.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PORT: Final = 8080
ECHO_PORT: Final = 9000
_PAUSE_S: Final = 0.01
_TICK_S: Final = 0.05
_PATIENCE_S: Final = 30.0
_STREAM_S: Final = 15.0
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_UPGRADE: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# The server


async def serve() -> None:
    async with (
        await asyncio.start_server(_converse, "", PORT, backlog=256),
        await asyncio.start_server(_echo, "", ECHO_PORT, backlog=256),
    ):
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        print("started", flush=True)  # noqa: T201 - its log; from here on it answers
        await ending.wait()
        os._exit(0)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            url = urllib.parse.urlsplit(head.split()[1].decode())
            query = dict(urllib.parse.parse_qsl(url.query))
            if url.path == "/ws":
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                )
                await _echo(reader, writer)
                return
            if url.path == "/stream":
                await _stream(writer, float(query["s"]))
            else:
                await asyncio.sleep(float(query.get("s", 0)))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()


async def _stream(writer: asyncio.StreamWriter, seconds: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(int(seconds / _TICK_S)):
        line = b"%06d\n" % number
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        await writer.drain()
        await asyncio.sleep(_TICK_S)
    writer.write(b"0\r\n\r\n")


# The client


@dataclass
class Count:
    """Of one kind of request."""

    requests: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    ended: int = 0
    """Connections that the other side has ended in good order, between two requests."""


@dataclass
class Target:
    address: tuple[str, int]
    authority: str
    echo: tuple[str, int] | None
    until: Path
    deadline: float

    def is_over(self) -> bool:
        return self.until.exists() or time.monotonic() > self.deadline

    def head(self, path: str, extra: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self.authority}\r\n{extra}\r\n".encode()


class Failed(Exception):
    """A request had no answer, or a wrong one."""


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Head, in lower case, and body of an answer with a length or in chunks."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "chunked" not in head:
        length = next(line for line in head.splitlines() if line.startswith("content-length:"))
        return head, await reader.readexactly(int(length.partition(":")[2]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return head, body


def _require_ok(head: str, body: bytes) -> None:
    if " 200 " not in head.splitlines()[0] or body != b"ok":
        raise Failed(f"{head.splitlines()[0]}: {body[:80]!r}")


async def _kept(target: Target, count: Count) -> None:
    """One connection after another, each for as long as it lasts."""
    while not target.is_over():
        reader, writer = await asyncio.open_connection(*target.address)
        with contextlib.closing(writer):
            while not target.is_over() and not reader.at_eof():
                async with _counted(count):
                    writer.write(target.head("/"))
                    head, body = await _answer(reader)
                    _require_ok(head, body)
                if "connection: close" in head:
                    break
                await asyncio.sleep(_PAUSE_S)
            count.ended += not target.is_over()


async def _new(target: Target, count: Count) -> None:
    """A connection for each request."""
    while not target.is_over():
        async with _counted(count):
            reader, writer = await asyncio.open_connection(*target.address)
            with contextlib.closing(writer):
                writer.write(target.head("/", "Connection: close\r\n"))
                _require_ok(*await _answer(reader))
        await asyncio.sleep(_PAUSE_S)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def _http2(target: Target, count: Count) -> None:
    """Streams of one connection after another; a new one when the other side says so."""
    authority = target.authority.encode()
    headers = b"\x82\x84\x86\x01" + bytes([len(authority)]) + authority  # GET / http, :authority
    while not target.is_over():
        reader, writer = await asyncio.open_connection(*target.address)
        with contextlib.closing(writer):
            writer.write(_PREFACE + _frame(4, 0, 0))
            stream = 1
            while not target.is_over():
                async with _counted(count):
                    writer.write(_frame(1, 5, stream, headers))
                    going = await _http2_answer(reader, writer, stream)
                if not going:
                    break
                stream += 2
                await asyncio.sleep(_PAUSE_S)
            count.ended += not target.is_over()


async def _http2_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: int) -> bool:
    """Read until the stream's end; whether the connection takes another one."""
    going = True
    while True:
        head = await reader.readexactly(9)
        kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if kind in (4, 6) and not flags & 1:
            writer.write(_frame(kind, 1, 0, payload if kind == 6 else b""))
        if kind == 7:
            going = False
            if stream > int.from_bytes(payload[:4], "big"):
                raise Failed("GOAWAY before this stream")
        if number != stream:
            continue
        if kind == 3:
            raise Failed(f"RST_STREAM {int.from_bytes(payload, 'big')}")
        if kind == 1 and b"\x88" not in payload[:6]:  # :status 200
            raise Failed(f"headers {payload[:20]!r}")
        if kind in (0, 1) and flags & 1:
            return going


async def _websocket(target: Target, count: Count) -> None:
    """One that stays, and echoes."""
    reader, writer = await asyncio.open_connection(*target.address)
    with contextlib.closing(writer):
        writer.write(target.head("/ws", _UPGRADE))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise Failed(head.decode())
        await _echoes(target, count, (reader, writer))


async def _echoes(target: Target, count: Count, streams: Streams) -> None:
    reader, writer = streams
    while not target.is_over():
        async with _counted(count):
            word = b"%08d" % count.requests
            writer.write(word)
            if await reader.readexactly(len(word)) != word:
                raise Failed("another echo")
        await asyncio.sleep(_TICK_S)


async def _long(target: Target, count: Count) -> None:
    """Answers that take long, one after another."""
    while not target.is_over():
        async with _counted(count, patience_s=_STREAM_S + _PATIENCE_S):
            reader, writer = await asyncio.open_connection(*target.address)
            with contextlib.closing(writer):
                writer.write(target.head(f"/stream?s={_STREAM_S}"))
                _, body = await _answer(reader)
                if body != b"".join(b"%06d\n" % number for number in range(int(_STREAM_S / _TICK_S))):
                    raise Failed(f"the answer broke off after {len(body)} bytes")


async def _tcp(target: Target, count: Count) -> None:
    """A connection of plain TCP that stays."""
    assert target.echo is not None
    reader, writer = await asyncio.open_connection(*target.echo)
    with contextlib.closing(writer):
        await _echoes(target, count, (reader, writer))


async def _tcp_new(target: Target, count: Count) -> None:
    """A connection of plain TCP for each word."""
    assert target.echo is not None
    while not target.is_over():
        async with _counted(count):
            reader, writer = await asyncio.open_connection(*target.echo)
            with contextlib.closing(writer):
                writer.write(b"word")
                if await reader.readexactly(4) != b"word":
                    raise Failed("another echo")
        await asyncio.sleep(_PAUSE_S)


@contextlib.asynccontextmanager
async def _counted(count: Count, patience_s: float = _PATIENCE_S) -> Any:
    began = time.monotonic()
    count.requests += 1
    async with asyncio.timeout(patience_s):
        yield
    count.slowest_s = max(count.slowest_s, round(time.monotonic() - began, 3))


KINDS: Final[dict[str, tuple[Callable[[Target, Count], Awaitable[None]], int]]] = {
    "kept": (_kept, 4),
    "new": (_new, 4),
    "http2": (_http2, 2),
    "websocket": (_websocket, 2),
    "stream": (_long, 2),
    "tcp": (_tcp, 2),
    "tcp-new": (_tcp_new, 2),
}


async def _keep_on(run: Callable[[Target, Count], Awaitable[None]], target: Target, count: Count) -> None:
    """Begin again after each failure, which is counted."""
    began = time.monotonic()
    while not target.is_over():
        try:
            await run(target, count)
        except (OSError, EOFError, Failed, ValueError, TimeoutError) as error:
            count.failures.append(f"{time.monotonic() - began:.2f} s: {type(error).__name__}: {error}")
            await asyncio.sleep(_TICK_S)


async def load(arguments: argparse.Namespace) -> dict[str, Count]:
    host, _, port = arguments.address.rpartition(":")
    echo_host, _, echo_port = arguments.echo.rpartition(":")
    target = Target(
        (host, int(port)),
        arguments.authority or arguments.address,
        (echo_host, int(echo_port)) if arguments.echo else None,
        Path(arguments.until),
        time.monotonic() + arguments.seconds,
    )
    kinds = [kind for kind in arguments.kinds.split(",") if target.echo or not kind.startswith("tcp")]
    counts = {kind: Count() for kind in kinds}
    async with asyncio.TaskGroup() as group:
        for kind, count in counts.items():
            run, copies = KINDS[kind]
            for _ in range(copies):
                group.create_task(_keep_on(run, target, count))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="serve")
    parser.add_argument("--address", default="127.0.0.1:8080")
    parser.add_argument("--authority", default="")
    parser.add_argument("--echo", default="")
    parser.add_argument("--until", default="/tmp/over")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    if arguments.what == "serve":
        asyncio.run(serve())
        return
    counts = asyncio.run(load(arguments))
    report = {kind: vars(count) for kind, count in counts.items()}
    print(json.dumps(report), flush=True)  # noqa: T201 - what it was called for


if __name__ == "__main__":
    main()
