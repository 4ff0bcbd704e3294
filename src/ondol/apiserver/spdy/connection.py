"""One SPDY connection as its server: streams that the client opens, each with a direction both ways.

There are no windows: the clients of Kubernetes send no WINDOW_UPDATE, and who heeded them would wait on.
A stream that nobody reads stops the reading of the whole connection after a few pieces, as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import anyio

from ondol.apiserver.spdy import frames
from ondol.apiserver.spdy.frames import ProtocolError

STREAMS_MAX: Final = 1024
_PIECES_MAX: Final = 16
_REFUSED: Final = 3
_PROTOCOL_ERROR: Final = 1

Send = Callable[[bytes], Awaitable[None]]


class Stream:
    """What one stream brings (`pieces`), and what is sent by it."""

    def __init__(self, connection: Connection, number: int, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.number = number
        self._connection = connection
        self._incoming, self._pieces = anyio.create_memory_object_stream[bytes](_PIECES_MAX)
        self._is_closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        async with self._pieces:
            async for piece in self._pieces:
                yield piece

    async def send(self, payload: bytes) -> None:
        if not self._is_closed:
            await self._connection.send(frames.data(self.number, payload))

    async def close(self) -> None:
        """Send no more."""
        if not self._is_closed:
            self._is_closed = True
            await self._connection.send(frames.data(self.number, b"", is_last=True))

    async def take(self, payload: bytes) -> None:
        try:
            await self._incoming.send(payload)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # nobody reads it any more

    def end(self) -> None:
        """Nothing comes any more."""
        self._incoming.close()

    def forget(self) -> None:
        """Both directions are over: the connection has room for another."""
        self.end()
        self._pieces.close()
        self._connection.forget(self.number)


class Connection:
    def __init__(self, send: Send, opened: Callable[[Stream], None]) -> None:
        """`opened` is told of each stream that the client opens."""
        self._raw_send = send
        self._opened = opened
        self._headers = frames.Headers()
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._sending = anyio.Lock()

    async def send(self, frame: bytes) -> None:
        async with self._sending:
            await self._raw_send(frame)

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    async def run(self, incoming: AsyncIterator[bytes]) -> None:
        """Until the client says that it goes, or is gone; `ProtocolError` if it does not speak SPDY."""
        reader = frames.Reader()
        try:
            async for chunk in incoming:
                for frame in reader.feed(chunk):
                    if isinstance(frame, frames.Data):
                        await self._data(frame)
                    elif frame.kind == frames.GOAWAY:
                        return
                    else:
                        await self._control(frame)
        except ProtocolError:
            await self.send(frames.control(frames.GOAWAY, frames.numbers(self._last, _PROTOCOL_ERROR)))
            raise
        finally:
            for stream in self._streams.values():
                stream.end()

    async def _data(self, frame: frames.Data) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # it is over already
        if frame.data:
            await stream.take(frame.data)
        if frame.is_last:
            stream.end()

    async def _control(self, frame: frames.Control) -> None:
        if frame.kind == frames.SYN_STREAM:
            await self._open(frame)
        elif frame.kind == frames.PING and frame.stream % 2:
            await self.send(frames.control(frames.PING, frame.body[:4]))
        elif frame.kind == frames.RST_STREAM:
            if (stream := self._streams.get(frame.stream)) is not None:
                stream.end()
        elif frame.kind == frames.HEADERS:
            self._headers.read(frame.body[4:])  # what follows was compressed after it

    async def _open(self, frame: frames.Control) -> None:
        number = frame.stream
        headers = self._headers.read(frame.body[10:])
        if number % 2 == 0 or number <= self._last:
            raise ProtocolError("a stream has a number that it may not have")
        self._last = number
        if len(self._streams) >= STREAMS_MAX:
            await self.send(frames.control(frames.RST_STREAM, frames.numbers(number, _REFUSED)))
            return
        stream = self._streams[number] = Stream(self, number, headers)
        if frame.flags & frames.FIN:
            stream.end()
        async with self._sending:  # in the order in which they are compressed
            body = frames.numbers(number) + self._headers.written({})
            await self._raw_send(frames.control(frames.SYN_REPLY, body))
        self._opened(stream)
