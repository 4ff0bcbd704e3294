"""Edge: calls by HTTP/1.1 over connections that are kept, to Unix sockets, TCP and TLS.

For callers through whom every event passes: a call costs some 25 microseconds, a third of what a general
client takes. A request is its bytes, an answer is read whole up to a bound, and nothing is followed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

import httptools

from ondol.base import errors

_IDLE_S: Final = 30.0
"""How long a connection is kept without a call; shorter than servers keep theirs, as a rule."""
_CONNECT_S: Final = 10.0
_IDLE_MAX: Final = 256
_HEAD_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect: to a Unix socket if `socket` is set, else to host and port; by TLS with `tls`."""

    host: str = ""
    port: int = 0
    socket: str = ""
    tls: ssl.SSLContext | None = field(default=None, compare=True)
    server_name: str = ""


class Answer(NamedTuple):
    """`is_cut`: the body was longer than was to be read, and `body` is its beginning."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    is_cut: bool = False


class _Stale(errors.Unavailable):
    """A kept connection was closed before anything of an answer came: the call was not answered."""


class _Connection(asyncio.Protocol):
    """One connection, with one call at a time."""

    def __init__(self, ended: Callable[[_Connection], None]) -> None:
        self.is_reused = False
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._may_continue = False
        self._is_headed = False
        self._has_begun = False
        self._parser: Any = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._length: bytes | None = None
        self._size = self._received = self._bytes_max = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.rest()
        self._ended(self)
        if self._answer is None or self._answer.done():
            return
        if self._is_headed and self._length is None:
            self._complete()
        elif self.is_reused and not self._has_begun:
            self._answer.set_exception(_Stale("the connection was closed"))
        else:
            self._answer.set_exception(
                errors.Unavailable(f"the connection was closed before the answer: {exc or 'by the peer'}")
            )

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nobody asked
            return
        self._has_begun = True
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(errors.Unavailable(f"the answer is not HTTP: {error}"))
            return
        if not self._is_headed and self._received > _HEAD_BYTES_MAX:
            self._fail(errors.Unavailable(f"the head of the answer is larger than {_HEAD_BYTES_MAX} bytes"))

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_headed:
            return  # a trailer
        lowered = name.lower()
        self._headers.append((lowered, value))
        if lowered in (b"content-length", b"transfer-encoding"):
            self._length = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status in (204, 304):
            self._length = b"0"
        self._is_headed = status >= 200

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        self._body.append(body)
        if self._size > self._bytes_max:
            self._complete(is_cut=True)
            self.abort()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._headers = []
            self._length = None
            return
        self._may_continue = self._parser.should_keep_alive() and self._length is not None
        self._complete()

    # The call

    async def call(self, request: bytes, timeout_s: float, bytes_max: int) -> Answer:
        loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body = [], []
        self._size = self._received = 0
        self._bytes_max = bytes_max
        self._length = None
        self._is_headed = self._has_begun = self._may_continue = False
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        if self._transport is None:
            raise _Stale("the connection was closed")
        late = loop.call_later(timeout_s, self._late, timeout_s)
        self._transport.write(request)
        try:
            return await answer
        except BaseException:
            self.abort()
            raise
        finally:
            late.cancel()

    def _late(self, timeout_s: float) -> None:
        self._fail(errors.Timeout(f"no answer within {timeout_s:g} seconds"))

    def _fail(self, error: errors.ApiError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.abort()

    def _complete(self, *, is_cut: bool = False) -> None:
        if self._answer is not None and not self._answer.done():
            body = b"".join(self._body)[: self._bytes_max]
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, body, is_cut))

    # Between calls

    @property
    def is_open(self) -> bool:
        """Whether another call can be made on it."""
        return self._may_continue and self._transport is not None and not self._transport.is_closing()

    def wait(self) -> None:
        """Be closed if it is not used for a while."""
        self._timer = asyncio.get_running_loop().call_later(_IDLE_S, self.abort)

    def rest(self) -> None:
        """It is used, or gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Caller:
    """Connections to any number of places; used in one event loop, and closed at its end.

    `may_dial` judges the address that a host turns out to have, whatever its name is: who calls for others
    does not reach what is meant for this machine alone.
    """

    def __init__(self, may_dial: Callable[[str], bool] | None = None) -> None:
        self._may_dial = may_dial
        self._idle: dict[Place, list[_Connection]] = {}
        self._open: set[_Connection] = set()

    async def call(self, place: Place, request: bytes, *, timeout_s: float, bytes_max: int) -> Answer:
        """The answer to a request of these bytes; `Unavailable` or `Timeout` if none comes.

        A kept connection that turns out to be closed is no answer: the call is made again on another.
        """
        while (kept := self._kept(place)) is not None:
            try:
                return await self._through(place, kept, request, timeout_s, bytes_max)
            except _Stale:
                continue
        fresh = await self._connect(place)
        return await self._through(place, fresh, request, timeout_s, bytes_max)

    async def _through(
        self, place: Place, connection: _Connection, request: bytes, timeout_s: float, bytes_max: int
    ) -> Answer:
        answer = await connection.call(request, timeout_s, bytes_max)
        idle = self._idle.setdefault(place, [])
        if connection.is_open and len(idle) < _IDLE_MAX:
            connection.is_reused = True
            connection.wait()
            idle.append(connection)
        else:
            connection.abort()
        return answer

    def _kept(self, place: Place) -> _Connection | None:
        idle = self._idle.get(place)
        while idle:
            connection = idle.pop()
            connection.rest()
            if connection.is_open:
                return connection
        return None

    async def _connect(self, place: Place) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection(lambda gone: self._forget(place, gone))
        try:
            async with asyncio.timeout(_CONNECT_S):
                if place.socket:
                    await loop.create_unix_connection(lambda: connection, place.socket)
                else:
                    name = (place.server_name or place.host) if place.tls else None
                    host = await self._address(place)
                    await loop.create_connection(
                        lambda: connection, host, place.port, ssl=place.tls, server_hostname=name
                    )
        except TimeoutError as error:
            raise errors.Unavailable(f"no connection within {_CONNECT_S:g} seconds") from error
        except OSError as error:
            raise errors.Unavailable(f"cannot connect: {errors.why(error)}") from error
        except ValueError as error:  # a host that no name server can be asked for
            raise errors.BadRequest(f"{place.host!a} is no host: {error}") from error
        self._open.add(connection)
        return connection

    async def _address(self, place: Place) -> str:
        """What to connect to: the first of the host's addresses that may be."""
        if self._may_dial is None:
            return place.host
        loop = asyncio.get_running_loop()
        resolved = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        for *_, address in resolved:
            if self._may_dial(str(address[0])):
                return str(address[0])
        raise errors.Unavailable(f"{place.host} is an address that nothing may be sent to from here")

    def _forget(self, place: Place, connection: _Connection) -> None:
        self._open.discard(connection)
        idle = self._idle.get(place)
        if idle and connection in idle:
            idle.remove(connection)
        if idle is not None and not idle:
            del self._idle[place]

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        for connection in list(self._open):
            connection.abort()
