"""The node's own HTTP interface, a subset of the kubelet's: container logs, health, usage.

An ASGI application without a framework; the API server's `pods/log` reads from it with a bearer
token. Health needs none.
"""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs, unquote

import anyio

from ondol.api import parameters
from ondol.base import errors
from ondol.base.clock import Clock, parse_rfc3339
from ondol.node import logs

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
LogPlace: TypeAlias = tuple[Path, Callable[[], bool]]


class Subject(Protocol):
    """What the interface tells about."""

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> LogPlace:
        """The log's path and whether its writer has ended; `NotFound` or `BadRequest`."""

    def summary(self) -> Mapping[str, Any]:
        """CPU and memory of the node and each pod, in the kubelet's `/stats/summary` shape."""


class Application:
    def __init__(self, subject: Subject, clock: Clock, token: str) -> None:
        self._subject = subject
        self._clock = clock
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except errors.ApiError as error:
            await _reply(send, error.status_code, str(error).encode(), "text/plain; charset=utf-8")

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = [unquote(part) for part in str(scope["path"]).strip("/").split("/")]
        if parts == ["healthz"]:
            await _reply(send, 200, b"ok", "text/plain; charset=utf-8")
            return
        self._authorize(scope)
        if scope["method"] != "GET":
            raise errors.MethodNotAllowed("only GET is served here")
        match parts:
            case ["containerLogs", namespace, pod, container]:
                options = log_options(_query(scope), self._clock.now())
                is_previous = parameters.is_true(_query(scope).get("previous"))
                place = self._subject.log(namespace, pod, container, previous=is_previous)
                await while_connected(receive, lambda: self._log(send, place, options))
            case ["stats", "summary"]:
                await _reply(send, 200, json.dumps(self._subject.summary()).encode(), "application/json")
            case _:
                raise errors.NotFound(f"no such page: {scope['path']}")

    def _authorize(self, scope: Scope) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if not self._token or not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise errors.Unauthorized("a bearer token is needed")

    async def _log(self, send: Send, place: LogPlace, options: logs.LogOptions) -> None:
        path, is_over = place
        await _start(send, 200, "text/plain; charset=utf-8")
        async with contextlib.aclosing(logs.read(path, options, self._clock, is_over)) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_connected(receive: Receive, answer: Callable[[], Awaitable[None]]) -> None:
    """Answer for as long as there is someone to hear it: who follows a log may leave long before its end."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await answer()
        tasks.cancel_scope.cancel()


def _query(scope: Scope) -> dict[str, str]:
    parsed = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values[-1] for name, values in parsed.items()}


def log_options(query: Mapping[str, str], now: float) -> logs.LogOptions:
    """The `PodLogOptions` of a request; `BadRequest` names what cannot be read."""
    try:
        since = parse_rfc3339(query["sinceTime"]) if query.get("sinceTime") else None
        if query.get("sinceSeconds"):
            since = now - int(query["sinceSeconds"])
        tail = int(query["tailLines"]) if query.get("tailLines") else None
        limit = int(query["limitBytes"]) if query.get("limitBytes") else None
    except ValueError as error:
        raise errors.BadRequest(f"log options: {error}") from error
    if (tail is not None and tail < 0) or (limit is not None and limit < 1):
        raise errors.BadRequest("log options: tailLines must be at least 0 and limitBytes at least 1")
    stream = query.get("stream", "All")
    return logs.LogOptions(
        follow=parameters.is_true(query.get("follow")),
        timestamps=parameters.is_true(query.get("timestamps")),
        tail_lines=tail,
        since=since,
        limit_bytes=limit,
        stream="" if stream == "All" else stream.lower(),
    )


async def _start(send: Send, status: int, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _reply(send: Send, status: int, body: bytes, content_type: str) -> None:
    await _start(send, status, content_type)
    await send({"type": "http.response.body", "body": body})
