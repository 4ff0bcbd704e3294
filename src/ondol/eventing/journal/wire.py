"""Edge: one connection to a NATS server, in its text protocol, over the event loop's own transport.

Every event passes here twice, so it does no more than it must: a publish costs some 5 microseconds and a
message read some 3, a tenth of what the general client takes. Reading is a loop over the received bytes;
writes of one turn of the event loop leave together. What messages mean is `jetstream`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from ondol.base import errors, loopback

Handler = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with subject, reply subject, header block and payload."""
_LINE: Final = b"\r\n"
_HANDSHAKE_S: Final = 5.0
_BUFFERED_MAX: Final = 64 * 1024 * 1024
_GONE: Final = "the event journal is not reachable"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens, and who we are to it."""

    host: str
    port: int
    user: str = ""
    password: str = ""


class Connection(asyncio.Protocol):
    """A connection from its handshake to its loss, which `lost` waits for."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.payload_bytes_max = 1 << 20
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._greeted: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._pongs: list[asyncio.Future[None]] = []
        self._handlers: dict[bytes, Handler] = {}
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._out: list[bytes] = []
        self._complaint = ""
        self._sids = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        gone = errors.Unavailable(f"{_GONE}: {self._complaint or exc or 'the connection was closed'}")
        waiting: list[asyncio.Future[Any]] = [self._greeted, *self._pongs]
        for future in waiting:
            if not future.done():
                future.set_exception(gone)
                future.exception()  # whoever waits hears of it; nobody has to
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        received = self._rest + data if self._rest else data
        position = 0
        while (end := received.find(_LINE, position)) >= 0:
            kind = received[position]
            if kind in (0x48, 0x4D):  # HMSG, MSG
                following = self._message(received, position, end, has_headers=kind == 0x48)
                if not following:
                    break
                position = following
            else:
                self._operation(received[position:end])
                position = end + 2
        self._rest = received[position:]
        if len(self._rest) > _BUFFERED_MAX:
            self.abort()

    def _message(self, received: bytes, position: int, end: int, *, has_headers: bool) -> int:
        """Handle a message whose first line ends at `end`; where the next begins, 0 if it is not all there.

        `MSG <subject> <sid> [reply] <size>`, `HMSG <subject> <sid> [reply] <size of headers> <size>`
        """
        words = received[position:end].split(b" ")
        body = end + 2
        finish = body + int(words[-1])
        if finish + 2 > len(received):
            return 0
        start = body + int(words[-2]) if has_headers else body
        reply = words[3] if len(words) == (6 if has_headers else 5) else b""
        handler = self._handlers.get(words[2])
        if handler is not None:
            handler(words[1], reply, received[body:start], received[start:finish])
        return finish + 2

    def _operation(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            self.write(b"PONG\r\n")
        elif line.startswith(b"PONG"):
            if self._pongs and not (waiting := self._pongs.pop(0)).done():
                waiting.set_result(None)
        elif line.startswith(b"INFO "):
            greeting = json.loads(line[5:])
            self.payload_bytes_max = int(greeting.get("max_payload") or self.payload_bytes_max)
            if not self._greeted.done():
                self._greeted.set_result(greeting)
        elif line.startswith(b"-ERR"):
            self._complaint = line[5:].decode(errors="replace").strip("' ")

    # What is sent

    def write(self, piece: bytes) -> None:
        """Send with everything else of this turn of the event loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(piece)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def subscribe(self, subject: bytes, handler: Handler) -> bytes:
        """Have messages to a subject handled; the id by which `unsubscribe` ends it."""
        self._sids += 1
        sid = b"%d" % self._sids
        self._handlers[sid] = handler
        self.write(b"SUB %s %s\r\n" % (subject, sid))
        return sid

    def unsubscribe(self, sid: bytes) -> None:
        if self._handlers.pop(sid, None) is not None:
            self.write(b"UNSUB %s\r\n" % sid)

    def publish(self, subject: bytes, payload: bytes, reply: bytes = b"") -> None:
        self.write(b"PUB %s %s %d\r\n%s\r\n" % (subject, reply, len(payload), payload))

    async def greet(self, address: Address) -> None:
        """Say who we are; `Unavailable` if that is not taken."""
        await self._greeted
        if self._transport is None or not loopback.is_ours(self._transport.get_extra_info("socket")):
            raise errors.Unavailable("another user of this machine listens in the place of the event journal")
        words: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "python",
            "version": "1",
            "name": "ondol-events",
        }
        if address.user:
            words |= {"user": address.user, "pass": address.password}
        self.write(b"CONNECT %s\r\nPING\r\n" % json.dumps(words).encode())
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(pong)
        await pong


async def connect(address: Address) -> Connection:
    """A connection that is ready for use; `Unavailable` if there is none to be had."""
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        async with asyncio.timeout(_HANDSHAKE_S):
            _, connection = await loop.create_connection(Connection, address.host, address.port)
            await connection.greet(address)
    except (OSError, TimeoutError) as error:
        if connection is not None:
            connection.abort()
        raise errors.Unavailable(f"{_GONE}: {errors.why(error) or 'no answer in time'}") from error
    except BaseException:
        if connection is not None:
            connection.abort()
        raise
    return connection


class Promise:
    """What one waits for until another fulfils or breaks it; cheaper than an event and a variable."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def fulfil(self, value: Any) -> None:
        if not self._future.done():
            self._future.set_result(value)

    def shatter(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # nobody may be waiting any more

    async def kept(self) -> Any:
        return await self._future


class Timer:
    """Calls something once, after a while, unless it is cancelled first."""

    __slots__ = ("_handle",)

    def __init__(self, after_s: float, then: Callable[[], None]) -> None:
        self._handle = asyncio.get_running_loop().call_later(after_s, then)

    def cancel(self) -> None:
        self._handle.cancel()


def soon(then: Callable[[], None]) -> None:
    """Call in the next turn of the event loop."""
    asyncio.get_running_loop().call_soon(then)


async def until_lost(connection: Connection) -> None:
    """Wait for the connection's end."""
    with contextlib.suppress(asyncio.InvalidStateError):
        await asyncio.shield(connection.lost)
