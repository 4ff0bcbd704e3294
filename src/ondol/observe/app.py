"""The ASGI application of `observe`: spans in by OTLP/HTTP, traces out as Jaeger answers them."""

from __future__ import annotations

import gzip
import urllib.parse
import zlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final

import anyio.to_thread
import msgspec

from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.observe import jaeger, otlp
from ondol.observe.spans import Span
from ondol.observe.store import Query, SpanStore

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_DAY_MS: Final = 86_400_000
_TRACES_MAX: Final = 1500


class App:
    """Routes requests to the store; every store call runs on a worker thread."""

    def __init__(self, store: SpanStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._log = log.get("observe")
        self.spans_received = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, document = await self._answer(scope, receive)
        except errors.ApiError as error:
            status, document = error.status_code, jaeger.failure(error.status_code, error.message)
        await _send_json(send, status, document)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        path = str(scope["path"]).rstrip("/")
        if scope["method"] == "POST" and path == "/v1/traces":
            return await self._take_in(scope, receive)
        if scope["method"] not in {"GET", "HEAD"}:
            raise errors.MethodNotAllowed(f"{scope['method']} {path} is not served")
        query = dict(urllib.parse.parse_qsl(bytes(scope["query_string"]).decode()))
        if path == "/healthz":
            return 200, {"status": "ok", "spansReceived": self.spans_received}
        if path.startswith("/api/v3/"):
            return 200, await self._v3(path.removeprefix("/api/v3/"), query)
        if path.startswith("/api/"):
            return 200, jaeger.envelope(await self._v1(path.removeprefix("/api/"), query))
        raise errors.NotFound(f"{path} is not served; see /api/services, /api/traces, /v1/traces")

    async def _take_in(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        headers = {bytes(k).lower(): bytes(v).decode() for k, v in scope["headers"]}
        body = await _read_body(receive)
        if headers.get(b"content-encoding") == "gzip":
            body = _unzip(body)
        as_json = headers.get(b"content-type", "").startswith("application/json")
        spans = (otlp.from_json if as_json else otlp.from_protobuf)(body)
        self.spans_received += await anyio.to_thread.run_sync(self._store.add, spans)
        return 200, {}

    async def _v1(self, path: str, query: Mapping[str, str]) -> list[Any]:
        if path == "services":
            return await anyio.to_thread.run_sync(self._store.services)
        if path == "operations":
            found = await anyio.to_thread.run_sync(self._store.operations, query.get("service", ""))
            return [{"name": name, "spanKind": kind} for name, kind in found]
        if path.startswith("services/") and path.endswith("/operations"):
            service = urllib.parse.unquote(path.split("/")[1])
            return [n for n, _ in await anyio.to_thread.run_sync(self._store.operations, service)]
        if path == "traces":
            wanted = Query(
                service=query.get("service", ""),
                operation=query.get("operation", ""),
                start_ns=_whole(query, "start") * 1000,
                end_ns=_whole(query, "end") * 1000,
                duration_min_ns=_duration_ns(query.get("minDuration", "")),
                duration_max_ns=_duration_ns(query.get("maxDuration", "")),
                attributes=_tags(query.get("tags", "")),
                limit=min(_whole(query, "limit", 20), _TRACES_MAX),
            )
            return [jaeger.trace(t) for t in await anyio.to_thread.run_sync(self._store.search, wanted)]
        if path.startswith("traces/"):
            return [jaeger.trace(await self._trace(path.removeprefix("traces/")))]
        if path == "dependencies":
            end_ms = _whole(query, "endTs", int(self._clock.now() * 1000))
            start_ms = end_ms - _whole(query, "lookback", _DAY_MS)
            spans = await anyio.to_thread.run_sync(
                self._store.between, start_ms * 1_000_000, end_ms * 1_000_000
            )
            return jaeger.dependencies(spans)
        raise errors.NotFound(f"/api/{path} is not served")

    async def _v3(self, path: str, query: Mapping[str, str]) -> Any:
        if path == "services":
            return {"services": await anyio.to_thread.run_sync(self._store.services)}
        if path == "operations":
            found = await anyio.to_thread.run_sync(self._store.operations, query.get("service", ""))
            return {"operations": [{"name": name, "spanKind": kind} for name, kind in found]}
        if path.startswith("traces/"):
            return jaeger.result([await self._trace(path.removeprefix("traces/"))])
        if path in {"traces", "trace-summaries"}:
            traces = await anyio.to_thread.run_sync(self._store.search, _v3_query(query))
            if path == "traces":
                return jaeger.result(traces)
            return {"summaries": [jaeger.summary(spans) for spans in traces]}
        raise errors.NotFound(f"/api/v3/{path} is not served")

    async def _trace(self, trace_id: str) -> list[Span]:
        spans = await anyio.to_thread.run_sync(self._store.trace, trace_id)
        if not spans:
            raise errors.NotFound("trace not found")
        return spans


def _v3_query(query: Mapping[str, str]) -> Query:
    return Query(
        service=query.get("query.serviceName", ""),
        operation=query.get("query.operationName", ""),
        start_ns=_time_ns(query.get("query.startTimeMin", "")),
        end_ns=_time_ns(query.get("query.startTimeMax", "")),
        duration_min_ns=_duration_ns(query.get("query.durationMin", "")),
        duration_max_ns=_duration_ns(query.get("query.durationMax", "")),
        attributes=_tags(query.get("query.attributes", "")),
        limit=min(_whole(query, "query.searchDepth", 20), _TRACES_MAX),
    )


def _whole(query: Mapping[str, str], key: str, default: int = 0) -> int:
    text = query.get(key)
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise errors.BadRequest(f"{key} must be a whole number, not {text!r}") from error


_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
}


def _duration_ns(text: str) -> int:
    """Nanoseconds of a duration such as `1.5s` or `200ms`."""
    if not text:
        return 0
    number = text.rstrip("nuµms")
    try:
        return int(float(number) * _UNITS_NS[text[len(number) :]])
    except (KeyError, ValueError) as error:
        raise errors.BadRequest(f"{text!r} is not a duration such as 200ms") from error


def _time_ns(text: str) -> int:
    if not text:
        return 0
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000_000)
    except ValueError as error:
        raise errors.BadRequest(f"{text!r} is not an RFC 3339 time") from error


def _tags(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise errors.BadRequest(f"tags must be a JSON object of strings: {error}") from error


async def _read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = bool(message.get("more_body"))
        if len(body) > _BODY_BYTES_MAX:
            raise errors.TooLarge(f"an export may have at most {_BODY_BYTES_MAX} bytes")
    return body


def _unzip(body: bytes) -> bytes:
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise errors.BadRequest(f"the body is not gzip: {error}") from error


async def _send_json(send: Send, status: int, document: Any) -> None:
    body = msgspec.json.encode(document)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
