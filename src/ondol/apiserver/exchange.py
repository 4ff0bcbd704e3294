"""One HTTP exchange as values: the `Request` a handler reads and the `Reply` or `Stream` it answers."""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import anyio

from ondol.api import parameters
from ondol.apiserver.auth.identity import User
from ondol.apiserver.requestinfo import RequestInfo
from ondol.base import errors

Scope: TypeAlias = Mapping[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
Emit: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends one piece of an answer, once the client has room for it."""

JSON = b"application/json"
WHOLE_BYTES_MAX = 1024 * 1024
"""Longer answers are sent piece by piece as the client reads; up to here one copy is cheaper."""
PIECE_BYTES = 256 * 1024
WATCH_PIECE_BYTES = 64 * 1024
"""As much as a connection buffers anyway: it is what a watcher who does not read keeps in memory."""


class Trail(Protocol):
    """What one request leaves in the audit log."""

    def begin(self, user: User | None) -> None:
        """The caller is known, or known not to be."""
        ...

    def acts_as(self, user: User) -> None:
        """The caller acts for another one."""
        ...

    def answered(self, answer: Answer, code: int) -> None:
        """What is about to be sent; a code of 0 is not known yet."""
        ...

    def end(self, code: int, *, is_panic: bool = False) -> None: ...


class Request:
    """What was asked, by whom, and the warnings gathered while answering."""

    __slots__ = (
        "_body",
        "_headers",
        "_receive",
        "_receiving",
        "annotations",
        "audit_id",
        "body_bytes_max",
        "headers",
        "info",
        "is_last",
        "query",
        "scope",
        "trail",
        "user",
        "warnings",
    )

    def __init__(self, scope: Scope, receive: Receive, body_bytes_max: int) -> None:
        self.scope = scope
        self._receive = receive
        self._body: bytes | None = None
        self._receiving = False
        # The first of repeated headers counts, as with Go's Header.Get.
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self.body_bytes_max = body_bytes_max
        query = scope.get("query_string")
        self.query: dict[str, str] = _query(query) if query else {}
        self.user = User("")
        self.info: RequestInfo
        self.warnings: list[str] = []
        self.headers: Headers = []
        """What every answer to it says."""
        self.audit_id = ""
        """What the audit log, and every answer, calls it."""
        self.annotations: dict[str, str] = {}
        """What the audit log says besides."""
        self.trail: Trail | None = None
        """What the request leaves in the audit log, if there is one."""
        self.is_last = False
        """Whether the connection ends with the answer."""

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    def header(self, name: bytes) -> str:
        value = self._headers.get(name)
        return value.decode("latin-1") if value is not None else ""

    @property
    def user_agent(self) -> str:
        return self.header(b"user-agent")

    def values(self, name: str) -> list[str]:
        """All values of a query parameter that may be repeated, in their order."""
        raw = self.scope.get("query_string") or b""
        pairs = urllib.parse.parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
        return [value for key, value in pairs if key == name]

    def flag(self, name: str) -> bool:
        """A boolean query parameter; as `parameters.is_true` reads it."""
        return parameters.is_true(self.query.get(name))

    def number(self, name: str) -> int | None:
        """A whole number of the query; `BadRequest` if it is not one."""
        value = self.query.get(name)
        if not value:
            return None
        try:
            return int(value)
        except ValueError:
            raise errors.BadRequest(
                f'strconv.ParseInt: parsing "{value[:40]}": invalid syntax (query parameter {name})'
            ) from None

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def annotate(self, key: str, value: str) -> None:
        """For the audit log; the first of two values stays, as in Kubernetes."""
        self.annotations.setdefault(key, value)

    async def body(self) -> bytes:
        """The whole body; `TooLarge` beyond the limit, `OSError` if the client went away before its end."""
        if self._body is None:
            await self.receive(lambda _: None)
        return self._body or b""

    async def receive(self, grow: Callable[[int], None]) -> None:
        """Read the whole body; `grow` is called with the size of each piece, and may refuse it.

        A part must not be taken for the whole: a delete would lose its preconditions, and half of an
        applied YAML document takes the fields of the other half away.
        """
        self._receiving = True
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._next()
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            self._check_size(size)
            grow(len(chunk))
            chunks.append(chunk)
            more = bool(message.get("more_body"))
        self._body = chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def received(self) -> bytes:
        """The body, as soon as the whole of it was read."""
        return self._body or b""

    @property
    def body_bytes(self) -> int:
        """The size of the body as far as it was read."""
        return len(self._body) if self._body is not None else 0

    @property
    def cut_short(self) -> bool:
        """Whether the body was begun and not read to its end."""
        return self._receiving and self._body is None

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client went away before the end of its request")
        return message

    def check_announced_size(self) -> None:
        """`TooLarge` before anything of a body that says itself how long it is has been read."""
        announced = self.header(b"content-length")
        if announced.isascii() and announced.isdecimal():
            self._check_size(int(announced))

    def _check_size(self, size: int) -> None:
        if size > self.body_bytes_max:
            raise errors.TooLarge(f"Request entity too large: limit is {self.body_bytes_max}")

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, of any size; `OSError` if the client went away before its end."""
        self._receiving, more = True, True
        while more:
            message = await self._next()
            if chunk := message.get("body", b""):
                yield chunk
            more = bool(message.get("more_body"))
        self._body = b""

    @property
    def has_body(self) -> bool:
        return self.header(b"content-length") not in ("", "0") or bool(self.header(b"transfer-encoding"))

    async def disconnected(self) -> None:
        """Wait until the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Many small parts as fewer larger ones."""
    gathered: list[bytes] = []
    size = 0
    for part in parts:
        gathered.append(part)
        size += len(part)
        if size >= WATCH_PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


async def while_connected(
    request: Request, work: Callable[[], Awaitable[None]], *, after: anyio.Event | None = None
) -> None:
    """Run a function until it returns or the client disconnects; its error is raised unchanged.

    It reads the request's body itself, if it has one to read, and sets `after` at its end.
    """
    failure: Exception | None = None

    async with anyio.create_task_group() as group:

        async def watch_client() -> None:
            if after is not None:
                await after.wait()
            await request.disconnected()
            group.cancel_scope.cancel()

        group.start_soon(watch_client)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _query(raw: bytes) -> dict[str, str]:
    pairs = urllib.parse.parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
    # The first value of a repeated parameter counts, as with Go's url.Values.Get.
    return dict(reversed(pairs))


@dataclass(slots=True)
class Reply:
    """A complete answer."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Headers = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """An answer that goes on: `produce` writes chunks until it returns or the client is gone."""

    produce: Callable[[Emit], Awaitable[None]]
    content_type: bytes = JSON
    status: int = 200
    limit_s: float | None = None
    """How long the client may take to read it; None for as long as any other answer."""


class Socket(Protocol):
    """A WebSocket that was accepted."""

    protocol: str

    async def receive(self) -> tuple[bytes, bool] | None:
        """A piece of a message, and whether the message ends with it; None once the client is gone."""
        ...

    async def send(self, data: bytes | str) -> None: ...


class ByteStream(Protocol):
    """A connection that carries bytes both ways."""

    async def receive(self) -> bytes:
        """The next ones; nothing at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """As the other side takes it; nothing once it is gone."""
        ...


@dataclass(slots=True)
class Upgrade:
    """An answer that is a conversation, by the first of `protocols` that the client offers.

    `converse` accepts when it is ready to: what it raises before is the plain answer to the request.
    """

    protocols: Sequence[str]
    converse: Callable[[Callable[[], Awaitable[Socket]]], Awaitable[None]]
    streams: Sequence[str] = ()
    """Of a client that speaks plain SPDY, the streams that it opens; none if it opens them as it likes."""


Begin: TypeAlias = Callable[[int, Headers], Awaitable[Emit]]
"""Sends status and headers; what it returns sends the body."""


@dataclass(slots=True)
class Passed:
    """Another server's answer, handed on as it comes; what `produce` raises before that is the answer."""

    produce: Callable[[Begin], Awaitable[None]]


@dataclass(slots=True)
class Tunnel:
    """Another server's connection: what the client's own becomes once its head was sent."""

    converse: Callable[[Callable[[int, bytes], Awaitable[ByteStream]]], Awaitable[None]]


Answer: TypeAlias = Reply | Stream | Upgrade | Passed | Tunnel
