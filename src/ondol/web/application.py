"""Edge: routes from requests to answers (starlette), with one form of error document for all of them.

Rooms take starlette's words from here (`Request`, `Response`, `Route`), so that it is named once.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ondol.base import errors, log

__all__ = [
    "Application",
    "Asgi",
    "BaseRoute",
    "Headers",
    "Mount",
    "Receive",
    "Request",
    "Response",
    "Route",
    "Scope",
    "Send",
    "Streamed",
    "WebSocket",
    "WebSocketDisconnect",
    "WebSocketRoute",
    "plain_text",
    "query",
    "query_pairs",
]

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
ErrorDocument: TypeAlias = Callable[[errors.ApiError], Response]
Lifespan: TypeAlias = Callable[[], contextlib.AbstractAsyncContextManager[None]]


def plain_text(error: errors.ApiError) -> Response:
    """The error's message as a line of text."""
    return Response(error.message, error.status_code, media_type="text/plain; charset=utf-8")


class Application:
    """Routes, and an error document for whatever goes wrong in them. A trailing slash of a path is ignored.

    An `ApiError` raised by a route becomes its document and status; so does a path that has no route
    (`NotFound`, whose message `unserved(path)` gives) and a method that its route does not take
    (`MethodNotAllowed`, with those it takes in `Allow`). Any other error is logged and answered as
    `Internal`, but for that of a client that has gone: nobody is there to be answered. A request that has
    begun to be answered when its route fails ends there, which its client sees as a cut.

    `lifespan` is entered by `serving` before the first request and left after the last one.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        *,
        error_document: ErrorDocument = plain_text,
        unserved: Callable[[str], str] = "{} is not served".format,
        lifespan: Lifespan = contextlib.nullcontext,
    ) -> None:
        self.lifespan = lifespan
        self._error_document = error_document
        self._unserved = unserved
        self._router = Router(routes, redirect_slashes=False, default=self._unrouted)
        self._log = log.get("web")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return
        if scope["path"] != "/":
            scope = {**scope, "path": scope["path"].rstrip("/")}
        answer = _Watched(send)
        try:
            # With an `app` in its scope a router raises what it would otherwise answer in words of its own.
            await self._router({**scope, "app": self}, receive, answer)
        except errors.ApiError as error:
            await self._fail(error, scope, receive, answer)
        except HTTPException as refusal:
            await self._fail(self._refused(refusal, scope), scope, receive, answer, refusal.headers or {})
        except (ClientDisconnect, WebSocketDisconnect):
            return
        except Exception as error:  # noqa: BLE001 - the last filter: whatever went wrong has an answer
            if error is answer.failure:
                return  # servers say so when something is sent to a client that is gone
            self._log.error("request_failed", path=scope["path"], exc_info=error)
            internal = errors.Internal(f"Internal error occurred: {type(error).__name__}")
            await self._fail(internal, scope, receive, answer)

    async def _unrouted(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """The router's last resort: no route has this path."""
        raise errors.NotFound(self._unserved(scope["path"]))

    def _refused(self, refusal: HTTPException, scope: Scope) -> errors.ApiError:
        if refusal.status_code == errors.MethodNotAllowed.status_code:
            return errors.MethodNotAllowed(f"{scope['method']} {scope['path']} is not served")
        return errors.NotFound(self._unserved(scope["path"]))

    async def _fail(
        self,
        error: errors.ApiError,
        scope: Scope,
        receive: Receive,
        answer: _Watched,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if answer.has_begun:
            return
        if scope["type"] == "websocket":
            await answer({"type": "websocket.close", "code": 1000, "reason": error.message[:120]})
            return
        response = self._error_document(error)
        response.headers.update(headers)
        if error.retry_after_s is not None:
            response.headers["retry-after"] = str(error.retry_after_s)
        await response(scope, receive, answer)


class _Watched:
    """A `send` that remembers whether anything was sent, and the error with which its client was gone."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self.failure: OSError | None = None

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        try:
            await self._send(message)
        except OSError as error:
            self.failure = error
            raise


class Streamed(Response):
    """An answer in pieces, for as long as its client is there: who follows a log may leave before its end.

    `pieces` is closed with the answer, however it ends.
    """

    def __init__(self, pieces: AsyncIterator[bytes], *, media_type: str) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_on_disconnect, receive, tasks.cancel_scope)
            try:
                await self._send_pieces(send)
            except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _send_pieces(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            if (close := getattr(self._pieces, "aclose", None)) is not None:
                await close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _cancel_on_disconnect(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


def query(request: Request) -> dict[str, str]:
    """The parameters of the request's query, of repeated ones the last; `BadRequest` unless it is UTF-8."""
    return dict(query_pairs(request))


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """The parameters of the request's query, repeated ones too, empty ones not; likewise."""
    try:
        text = bytes(request.scope["query_string"]).decode()
        return urllib.parse.parse_qsl(text, errors="strict")
    except UnicodeDecodeError as error:
        raise errors.BadRequest("the query is not UTF-8") from error
