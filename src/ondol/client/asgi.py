"""An ASGI application in this process as a transport: no sockets, the same bytes.

Compose gives it to controllers that share the API server's process, and tests build worlds on it.
The caller's identity travels in the scope, where the network cannot set it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypedDict
from urllib.parse import quote, urlencode

import anyio

from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.client.transport import Call, ConnectionLost, Response, StreamResponse, joined

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

_GRACE_S: Final = 1.0
"""How long an application may take to notice a disconnect before its task is cancelled."""
_STOP_S: Final = 10.0
"""How long an application may take to shut down at the end of its lifespan."""
_BUFFERED_CHUNKS: Final = 64


class Identity(TypedDict):
    """Who an in-process caller is."""

    name: str
    groups: list[str]


class AsgiTransport:
    """Calls `app` directly; every request carries `identity` as `scope["ondol.identity"]`."""

    def __init__(
        self,
        app: App,
        *,
        clock: Clock,
        identity: Identity | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._app = app
        self._clock = clock
        self._identity = identity
        self._state = state
        self._log = log.get("client")

    async def request(self, call: Call) -> Response:
        exchange = _Whole(call.body or b"")
        try:
            await self._app(self._scope(call), exchange.receive, exchange.send)
        except Exception as error:
            raise self._failure(error, call) from error
        return exchange.response()

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamResponse]:
        exchange = _Streamed(call.body or b"")

        async def serve() -> None:
            try:
                await self._app(self._scope(call), exchange.receive, exchange.send)
            except _Disconnected:
                pass
            except Exception as error:  # noqa: BLE001 - handed to the reader, who is in another task
                exchange.failed(self._failure(error, call))
            finally:
                exchange.finish()

        failure: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            try:
                status, received = await exchange.started()
                yield StreamResponse(status, received, exchange)
            except Exception as error:  # noqa: BLE001 - raised below, outside the task group's ExceptionGroup
                failure = error
            finally:
                exchange.disconnect()
            with self._clock.move_on_after(_GRACE_S):
                await exchange.finished.wait()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        """Nothing to close: no connection outlives a request."""

    def _scope(self, call: Call) -> dict[str, Any]:
        headers = {"host": "ondol", **call.headers}
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": call.method,
            "scheme": "http",
            "path": call.path,
            "raw_path": quote(call.path, safe="/:@!$&'()*+,;=~-._%").encode(),
            "query_string": urlencode(call.query).encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
        }
        if self._identity is not None:
            scope["ondol.identity"] = self._identity
        if self._state is not None:
            scope["state"] = dict(self._state)
        return scope

    def _failure(self, error: Exception, call: Call) -> errors.ApiError:
        self._log.error("request_failed", method=call.method, path=call.path, exc_info=error)
        return errors.Internal(f"the API server failed in this process: {error!r}")


class _Disconnected(OSError):
    """Raised by `send` once the reader has disconnected, as ASGI servers do."""


class _Request:
    """Gives the application the body, then `http.disconnect` once the reader disconnects."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._disconnected = anyio.Event()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    def disconnect(self) -> None:
        self._disconnected.set()


class _Whole(_Request):
    """Collects an answer of one piece."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = _headers(message)
        elif message["type"] == "http.response.body":
            self._chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                self.disconnect()

    def response(self) -> Response:
        if not self._status:
            raise ConnectionLost("the application ended without an answer")
        return Response(self._status, self._headers, b"".join(self._chunks))


class _Streamed(_Request):
    """Passes an answer on, chunk by chunk, with back-pressure."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.finished = anyio.Event()
        self._started = anyio.Event()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._failure: errors.ApiError | None = None
        self._sender, self._receiver = anyio.create_memory_object_stream[bytes](_BUFFERED_CHUNKS)

    async def send(self, message: Message) -> None:
        if self._disconnected.is_set():
            raise _Disconnected
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = _headers(message)
            self._started.set()
        elif message["type"] == "http.response.body":
            if message.get("body"):
                try:
                    await self._sender.send(message["body"])
                except anyio.BrokenResourceError as error:
                    raise _Disconnected from error
            if not message.get("more_body"):
                self._sender.close()

    def failed(self, failure: errors.ApiError) -> None:
        self._failure = failure

    def finish(self) -> None:
        self._sender.close()
        self._started.set()
        self.finished.set()

    def disconnect(self) -> None:
        super().disconnect()
        self._receiver.close()

    async def started(self) -> tuple[int, Mapping[str, str]]:
        await self._started.wait()
        if not self._status:
            raise self._failure or ConnectionLost("the application ended without an answer")
        return self._status, self._headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._receiver.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None


def _headers(message: Message) -> dict[str, str]:
    pairs = message.get("headers") or ()
    return joined((bytes(k).decode().lower(), bytes(v).decode()) for k, v in pairs)


@asynccontextmanager
async def lifespan(app: App, *, clock: Clock) -> AsyncIterator[dict[str, Any]]:
    """Run `app` through its ASGI lifespan around the block; yields its lifespan state."""
    state: dict[str, Any] = {}
    started, stopped, stopping = anyio.Event(), anyio.Event(), anyio.Event()
    problems: list[str] = []
    messages = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

    async def receive() -> Message:
        message: Message = dict(next(messages))
        if message["type"] == "lifespan.shutdown":
            await stopping.wait()
        return message

    async def send(message: Message) -> None:
        if message["type"].endswith(".failed"):
            problems.append(message.get("message", ""))
        (started if ".startup." in message["type"] else stopped).set()

    async def live() -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, receive, send)
        started.set()
        stopped.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        await started.wait()
        if problems:
            raise errors.Unavailable(f"the application did not start: {problems[0]}")
        try:
            yield state
        finally:
            stopping.set()
            with anyio.CancelScope(shield=True), clock.move_on_after(_STOP_S):
                await stopped.wait()
