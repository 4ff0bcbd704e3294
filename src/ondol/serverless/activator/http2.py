"""Edge: one HTTP/2 connection over a socket, as messages of its streams; the frames are h2's.

Used by `streams`, which carries each stream to the pod that is free for it. What a stream sends is held
only within its flow-control window, and its window opens again when what it sent was passed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from ondol.base import errors
from ondol.base.signal import Signal

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

STREAM_WINDOW_BYTES: Final = 65_535
STREAMS_MAX: Final = 256
_CONNECTION_WINDOW_BYTES: Final = STREAMS_MAX * STREAM_WINDOW_BYTES  # so that no stream can starve another
_HEADER_LIST_BYTES_MAX: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_QUEUE_BYTES_MAX: Final = 64 * 1024
_HEADERS_BYTES: Final = 256  # about what a block of headers takes
_NO_LIMIT: Final = 2**31 - 1
_PREFACE_BYTES: Final = 24
_FRAME_HEAD_BYTES: Final = 9
_GOAWAY: Final = 7
_FRAME_BYTES_MAX: Final = _FRAME_HEAD_BYTES + 16 * 1024  # nobody was told that more may be sent

CANCEL: Final = int(h2.errors.ErrorCodes.CANCEL)
REFUSED: Final = int(h2.errors.ErrorCodes.REFUSED_STREAM)
FAILED: Final = int(h2.errors.ErrorCodes.INTERNAL_ERROR)


class StreamReset(errors.OndolError):
    """The other side gave the stream up, or its connection ended; `code` is HTTP/2's error code."""

    def __init__(self, code: int = FAILED) -> None:
        super().__init__(f"the stream was reset with code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message: headers or trailers, or data, which took `credit` octets of the window."""

    headers: Headers | None = None
    data: bytes = b""
    credit: int = 0
    ended: bool = False


class Inbox:
    """What came for one stream, in order; bounded by the stream's window. It has one reader."""

    def __init__(self) -> None:
        self._items: deque[Part | StreamReset] = deque()
        self._arrived = Signal()

    def put(self, item: Part | StreamReset) -> None:
        self._items.append(item)
        self._arrived.set()

    async def get(self) -> Part:
        """The next part; `StreamReset` once the stream was given up."""
        while not self._items:
            await self._arrived.next.wait()
        item = self._items.popleft()
        if isinstance(item, StreamReset):
            raise item
        return item

    def unread(self) -> list[Part]:
        """What nobody has taken."""
        return [item for item in self._items if isinstance(item, Part)]


@dataclass(slots=True)
class _Stream:
    inbox: Inbox
    is_ended_here: bool = False
    is_ended_there: bool = False


class Wire:
    """One connection; `opened` is called with each stream the other side opens.

    `run` must be running for anything to move. What is sent is written together with what else there is by
    then; a sender waits when much is queued, a reader never: two sides that both have much to say cannot
    stop each other.
    """

    def __init__(
        self,
        socket: anyio.abc.ByteStream,
        *,
        opened: Callable[[int, Inbox], None] | None = None,
        ended: Callable[[int], None] = lambda _stream: None,
    ) -> None:
        self._socket = socket
        self._opened = opened
        self._ended = ended
        self._h2 = _connection(client=opened is None)
        self._goaways = GoAways(preface=opened is not None)
        self._streams: dict[int, _Stream] = {}
        self._dirty = Signal()
        self._flushed = Signal()
        self._window = Signal()
        self._queued_bytes = 0
        self._goaway = b""
        self._over = False
        self._reading: anyio.CancelScope | None = None
        self.closed = False
        """Whether no further stream can be opened."""

    async def run(self, received: bytes = b"") -> None:
        """Read and write until the connection ends; `received` was read already."""
        try:
            async with anyio.create_task_group() as both:
                self._reading = both.cancel_scope
                both.start_soon(self._write, both.cancel_scope)
                self._poke()
                while received or (received := await self._socket.receive(_CHUNK_BYTES)):
                    self._receive(received)
                    received = b""
        except* (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # its streams are told below
        except* h2.exceptions.ProtocolError:
            pass  # likewise: whoever breaks the protocol is not answered
        finally:
            self.closed = self._over = True
            for stream in self._streams.values():
                stream.inbox.put(StreamReset())
            self._wake()

    def _receive(self, received: bytes) -> None:
        data, last = self._goaways.split(received)
        for event in self._h2.receive_data(data):
            self._take(event)
        for stream in last:
            self._terminated(stream)
        self._poke()

    async def _write(self, reading: anyio.CancelScope) -> None:
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                while data := self._h2.data_to_send() + self._take_goaway():
                    self._queued_bytes = 0
                    await self._socket.send(data)
                self._flushed.set()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            reading.cancel()

    def go_away(self) -> None:
        """Say that no further stream is wanted; none is refused (RFC 9113, 6.8).

        Not by h2, for which the connection would be over.
        """
        size, no_error = 8, 0
        self._goaway = size.to_bytes(3, "big") + bytes([_GOAWAY, 0]) + bytes(4)
        self._goaway += _NO_LIMIT.to_bytes(4, "big") + no_error.to_bytes(4, "big")
        self._poke()

    def _take_goaway(self) -> bytes:
        frame, self._goaway = self._goaway, b""
        return frame

    def _poke(self) -> None:
        self._dirty.set()

    def _wake(self) -> None:
        """Whoever waits for room or for the socket looks again."""
        self._window.set()
        self._flushed.set()

    # Streams

    def open(self, headers: Headers, *, ended: bool) -> tuple[int, Inbox]:
        """Begin a request; `StreamReset` with REFUSED if the connection takes none any more."""
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, headers, end_stream=ended)
        except h2.exceptions.ProtocolError as error:
            self.closed = True
            raise StreamReset(REFUSED) from error
        self._streams[stream] = _Stream(Inbox(), is_ended_here=ended)
        self._poke()
        return stream, self._streams[stream].inbox

    async def send(self, stream: int, part: Part) -> None:
        """Send a part in as many frames as the windows ask for; waits while much is queued before it."""
        try:
            if part.headers is not None:
                self._h2.send_headers(stream, part.headers, end_stream=part.ended)
                await self._queue(_HEADERS_BYTES)
            else:
                await self._send_data(stream, part)
        except h2.exceptions.ProtocolError as error:
            raise StreamReset(CANCEL) from error
        if part.ended and stream in self._streams:
            self._streams[stream].is_ended_here = True

    async def _send_data(self, stream: int, part: Part) -> None:
        rest = memoryview(part.data)
        while True:
            if self._over:
                raise StreamReset
            window, frame = self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size
            room = min(window, frame)
            if rest and room <= 0:
                await self._window.next.wait()
                continue
            piece, rest = rest[: max(room, 0)], rest[max(room, 0) :]
            self._h2.send_data(stream, bytes(piece), end_stream=part.ended and not rest)
            await self._queue(len(piece))
            if not rest:
                return

    async def _queue(self, size_bytes: int) -> None:
        flushed = self._flushed.next
        self._queued_bytes += size_bytes
        self._poke()
        if self._over:
            raise StreamReset
        if self._queued_bytes > _QUEUE_BYTES_MAX:
            await flushed.wait()

    def passed_on(self, stream: int, part: Part) -> None:
        """Open the window again by what this part took of it."""
        if part.credit:
            try:
                self._h2.acknowledge_received_data(part.credit, stream)
            except h2.exceptions.ProtocolError:
                return  # the stream is over, and its window with it
            self._poke()

    def reset(self, stream: int, code: int) -> None:
        """Give the stream up, if it is not over yet."""
        state = self._streams.get(stream)
        if state is None or (state.is_ended_here and state.is_ended_there):
            return
        state.is_ended_here = state.is_ended_there = True
        try:
            self._h2.reset_stream(stream, code)
        except h2.exceptions.ProtocolError:
            return
        self._poke()

    def end(self) -> None:
        """End the connection; `run` returns."""
        if self._reading is not None:
            self._reading.cancel()

    def forget(self, stream: int) -> None:
        """Nobody reads the stream any more; what still comes for it is dropped, its window given back."""
        if (state := self._streams.pop(stream, None)) is not None:
            for part in state.inbox.unread():
                self.passed_on(stream, part)

    # Events

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._begin(event)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self._put(event.stream_id, Part(_headers(event), ended=event.stream_ended is not None))
            case h2.events.InformationalResponseReceived():
                self._put(event.stream_id, Part(_headers(event)))
            case h2.events.DataReceived():
                self._data(event)
            case h2.events.StreamEnded():
                pass  # said with the part it came with
            case h2.events.StreamReset():
                self._put(event.stream_id, StreamReset(int(event.error_code)))
                self._ended(event.stream_id)
                self._wake()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window.set()

    def _begin(self, event: Any) -> None:
        inbox = Inbox()
        self._streams[event.stream_id] = _Stream(inbox)
        self._put(event.stream_id, Part(_headers(event), ended=event.stream_ended is not None))
        if self._opened is not None:
            self._opened(event.stream_id, inbox)

    def _data(self, event: Any) -> None:
        part = Part(
            data=event.data, credit=event.flow_controlled_length, ended=event.stream_ended is not None
        )
        if event.stream_id in self._streams:
            self._put(event.stream_id, part)
        else:
            self.passed_on(event.stream_id, part)

    def _put(self, stream: int, item: Part | StreamReset) -> None:
        if (state := self._streams.get(stream)) is not None:
            state.is_ended_there |= isinstance(item, StreamReset) or item.ended
            state.inbox.put(item)

    def _terminated(self, last: int) -> None:
        """No stream after `last` was looked at: it may be asked elsewhere. What was begun goes on."""
        self.closed = True
        for stream in self._streams:
            if stream > last:
                self._put(stream, StreamReset(REFUSED))
        if not self._streams and self._reading is not None:
            self._reading.cancel()


def _headers(event: Any) -> Headers:
    return [(bytes(name), bytes(value)) for name, value in event.headers]


def _connection(*, client: bool) -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(
        client_side=client,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = h2.connection.H2Connection(config)
    codes = h2.settings.SettingCodes
    # The limit holds from the other side's acknowledgement on: it may have begun more streams before.
    connection.local_settings = h2.settings.Settings(
        client=client,
        initial_values={
            codes.MAX_CONCURRENT_STREAMS: _NO_LIMIT,
            codes.MAX_HEADER_LIST_SIZE: _HEADER_LIST_BYTES_MAX,
            **({codes.ENABLE_PUSH: 0} if client else {}),
        },
    )
    connection.initiate_connection()
    connection.update_settings({codes.MAX_CONCURRENT_STREAMS: STREAMS_MAX})
    connection.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES)
    return connection


class GoAways:
    """Takes GOAWAY frames out of what a connection brings, which h2 would take for its end.

    They say only that no further stream is taken; those that were begun go on (RFC 9113, 6.8).
    """

    def __init__(self, *, preface: bool) -> None:
        self._passing = _PREFACE_BYTES if preface else 0
        self._incomplete = b""

    def split(self, received: bytes) -> tuple[bytes, list[int]]:
        """What is for h2, and the last stream of each GOAWAY that was complete."""
        data, passed, last = self._incomplete + received, bytearray(), []
        self._incomplete = b""
        while data:
            if self._passing:
                passed += data[: self._passing]
                data, self._passing = data[self._passing :], max(0, self._passing - len(data))
            elif len(data) < _FRAME_HEAD_BYTES:
                self._incomplete, data = data, b""
            else:
                size = _FRAME_HEAD_BYTES + int.from_bytes(data[:3], "big")
                if size > _FRAME_BYTES_MAX:
                    raise h2.exceptions.ProtocolError("a frame that is too long")
                if data[3] != _GOAWAY:
                    self._passing = size
                elif len(data) < size:
                    self._incomplete, data = data, b""
                else:
                    last.append(int.from_bytes(data[9:13], "big") & _NO_LIMIT)
                    data = data[size:]
        return bytes(passed), last
