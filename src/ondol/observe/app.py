"""The ASGI application of `observe`: spans in by OTLP/HTTP, traces out as Jaeger answers them.

An export is answered when its spans are in the store. Exports that wait for that may hold so many
bytes and no more; then senders are told to come again, and memory stays as it is.
"""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import anyio.to_thread
import msgspec

from ondol.base import durations, errors
from ondol.base.clock import Clock
from ondol.observe import jaeger, otlp, otlp_protobuf, spans
from ondol.observe.spans import Row, Span
from ondol.observe.store import Query, SpanStore

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_EXPORTS: Final = "/v1/traces"
_DAY_MS: Final = 86_400_000
_TRACES_MAX: Final = 1500
_TIME_NS_MAX: Final = 2**63 - 1
_WHOLE_MAX: Final = 2**53
"""The largest number that every JSON reader knows."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = _JSON


@dataclass(slots=True)
class Counts:
    """What happened since the process began."""

    spans_received: int = 0
    spans_refused: int = 0
    exports: int = 0
    exports_refused: int = 0


class App:
    """Routes requests to the store; every store call runs on a worker thread."""

    def __init__(self, store: SpanStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting_bytes = 0
        self.counts = Counts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except errors.ApiError as error:
            await _send_failure(send, error)
        else:
            await _send(send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = str(scope["path"]).rstrip("/")
        if path == _EXPORTS and scope["method"] == "POST":
            return await self._take_in(scope, receive)
        if scope["method"] not in {"GET", "HEAD"} or path == _EXPORTS:
            raise errors.MethodNotAllowed(f"{scope['method']} {path} is not served")
        if path == "/metrics":
            return Answer(200, (await self._metrics()).encode(), "text/plain; version=0.0.4")
        return Answer(200, msgspec.json.encode(await self._document(path, _query(scope))))

    async def _document(self, path: str, query: Mapping[str, str]) -> Any:
        if path == "/healthz":
            return {"status": "ok", "spansReceived": self.counts.spans_received}
        if path.startswith("/api/v3/"):
            return await self._v3(path.removeprefix("/api/v3/"), query)
        if path.startswith("/api/"):
            return jaeger.envelope(await self._v1(path.removeprefix("/api/"), query))
        raise errors.NotFound(f"{path} is not served; see /api/services, /api/traces, /v1/traces")

    async def _take_in(self, scope: Scope, receive: Receive) -> Answer:
        headers = {bytes(k).lower(): bytes(v).decode("latin-1") for k, v in scope["headers"]}
        content_type = headers.get(b"content-type", _PROTOBUF).partition(";")[0].strip().lower()
        if content_type not in {_JSON, _PROTOBUF}:
            raise errors.UnsupportedMediaType(f"spans are taken as {_PROTOBUF} or {_JSON}")
        body = _plain_body(await _read_body(receive), headers.get(b"content-encoding", "identity"))
        is_json = content_type == _JSON
        with self._waiting(len(body)):
            received, refused, mistake = await anyio.to_thread.run_sync(self._keep, body, is_json)
        self.counts.spans_received += received
        self.counts.spans_refused += refused
        self.counts.exports += 1
        if refused:
            answer = otlp.partial_success_json if is_json else otlp.partial_success
            return Answer(200, answer(refused, mistake), content_type)
        # An export that was taken whole is answered with an empty message of the same kind.
        return Answer(200, b"{}" if is_json else b"", content_type)

    def _keep(self, body: bytes, is_json: bool) -> tuple[int, int, str]:
        """Keep the spans that can be kept; how many, how many others, and what is wrong with the first."""
        rows = map(spans.row, otlp.from_json(body)) if is_json else otlp_protobuf.rows(body)
        kept: list[Row] = []
        refused, first = 0, ""
        for row in rows:
            if mistake := spans.mistake(row):
                refused, first = refused + 1, first or mistake
            else:
                kept.append(row)
        self._store.add(kept)
        return len(kept), refused, first

    @contextlib.contextmanager
    def _waiting(self, size_bytes: int) -> Iterator[None]:
        """Count an export's bytes while it waits; `Unavailable` when too many wait already."""
        if self._waiting_bytes and self._waiting_bytes + size_bytes > _WAITING_BYTES_MAX:
            self.counts.exports_refused += 1
            raise errors.Unavailable("too many exports at once", retry_after_s=1)
        self._waiting_bytes += size_bytes
        try:
            yield
        finally:
            self._waiting_bytes -= size_bytes

    async def _metrics(self) -> str:
        kept, size_bytes = await anyio.to_thread.run_sync(self._store.usage)
        counts = self.counts
        return _exposition(
            ("ondol_observe_spans_received_total", "counter", "Spans taken in.", counts.spans_received),
            (
                "ondol_observe_spans_refused_total",
                "counter",
                "Spans with ids or times that cannot be.",
                counts.spans_refused,
            ),
            ("ondol_observe_exports_total", "counter", "Exports taken in.", counts.exports),
            (
                "ondol_observe_exports_refused_total",
                "counter",
                "Exports refused because too many waited.",
                counts.exports_refused,
            ),
            ("ondol_observe_spans", "gauge", "Spans kept.", kept),
            ("ondol_observe_store_bytes", "gauge", "Bytes that the kept spans fill.", size_bytes),
        )

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
                start_ns=min(_whole(query, "start") * 1000, _TIME_NS_MAX),
                end_ns=min(_whole(query, "end") * 1000, _TIME_NS_MAX),
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
            start_ms = max(0, end_ms - _whole(query, "lookback", _DAY_MS))
            start_ns, end_ns = (min(each * 1_000_000, _TIME_NS_MAX) for each in (start_ms, end_ms))
            calls = await anyio.to_thread.run_sync(self._store.calls, start_ns, end_ns)
            return jaeger.dependencies(calls)
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
            return {"summaries": [jaeger.summary(found) for found in traces]}
        raise errors.NotFound(f"/api/v3/{path} is not served")

    async def _trace(self, trace_id: str) -> list[Span]:
        found = await anyio.to_thread.run_sync(self._store.trace, trace_id)
        if not found:
            raise errors.NotFound("trace not found")
        return found


class PodsOnly:
    """What pods see of an `App`: they hand in spans, and ask nothing. Nobody but pods is served.

    The bridge's address, the first of their network, is this machine itself: any of its users.
    """

    def __init__(self, app: App, pods: ipaddress.IPv4Network) -> None:
        self._app = app
        self._pods = pods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await _send_failure(send, refusal)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> errors.ApiError | None:
        caller, _ = scope.get("client") or ("", 0)
        if not _is_pod(str(caller), self._pods):
            return errors.Forbidden("spans are taken from pods here")
        if str(scope["path"]).rstrip("/") != _EXPORTS or scope["method"] != "POST":
            return errors.NotFound(f"only POST {_EXPORTS} is served at this address")
        return None


def _is_pod(address: str, pods: ipaddress.IPv4Network) -> bool:
    try:
        caller = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return caller in pods and caller != pods[1]


def _v3_query(query: Mapping[str, str]) -> Query:
    if query.get("query.filter"):
        raise errors.BadRequest("query.filter is not served; use query.attributes")
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


def _query(scope: Scope) -> dict[str, str]:
    try:
        return dict(urllib.parse.parse_qsl(bytes(scope["query_string"]).decode(), errors="strict"))
    except UnicodeDecodeError as error:
        raise errors.BadRequest("the query is not UTF-8") from error


def _exposition(*metrics: tuple[str, str, str, int]) -> str:
    """Metrics in Prometheus' text format."""
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n" for name, kind, text, value in metrics
    )


def _whole(query: Mapping[str, str], key: str, default: int = 0) -> int:
    text = query.get(key)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > _WHOLE_MAX:
        raise errors.BadRequest(f"{key} must be a whole number up to {_WHOLE_MAX}, not {text[:40]!r}")
    return int(text)


def _duration_ns(text: str) -> int:
    """Nanoseconds of a duration such as `1.5s` or `200ms`."""
    if not text:
        return 0
    try:
        return min(int(durations.nanoseconds(text)), _TIME_NS_MAX)
    except ValueError as error:
        raise errors.BadRequest(f"{text[:40]!r} is not a duration such as 200ms") from error


def _time_ns(text: str) -> int:
    if not text:
        return 0
    try:
        return min(int(datetime.fromisoformat(text).timestamp() * 1_000_000_000), _TIME_NS_MAX)
    except (ValueError, OverflowError) as error:
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


def _plain_body(body: bytes, encoding: str) -> bytes:
    """The body without its gzip; a small one that would become huge is refused before it does."""
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise errors.UnsupportedMediaType(f"content-encoding {encoding!r} is not understood, gzip is")
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(body, _BODY_BYTES_MAX)
    except zlib.error as error:
        raise errors.BadRequest(f"the body is not gzip: {error}") from error
    if unzip.unconsumed_tail:
        raise errors.TooLarge(f"an export may have at most {_BODY_BYTES_MAX} bytes")
    if not unzip.eof:
        raise errors.BadRequest("the body is not gzip: it is cut short")
    return plain


async def _send_failure(send: Send, error: errors.ApiError) -> None:
    failure = jaeger.failure(error.status_code, error.message)
    await _send(send, Answer(error.status_code, msgspec.json.encode(failure)), error.retry_after_s)


async def _send(send: Send, answer: Answer, retry_after_s: int | None = None) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
    ]
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
