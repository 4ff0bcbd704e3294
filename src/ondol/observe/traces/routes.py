"""Routes of traces: OTLP exports in, both generations of Jaeger's query API out.

Every call of the store runs on a worker thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from anyio.to_thread import run_sync

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.observe.traces import exports, jaeger, queries
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.spans import Span
from ondol.observe.traces.store import SpanStore
from ondol.web.application import Mount, Request, Response, Route, query

_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def routes(store: SpanStore, intake: Exports, clock: Clock) -> list[Route | Mount]:
    """All routes of the signal; the newer generation first, for its paths begin as the older one's."""
    return [
        Route(exports.PATH, intake.post, methods=["POST"]),
        Mount("/api/v3", routes=_V3(store).routes()),
        Mount("/api", routes=_V1(store, clock).routes()),
    ]


def failure(error: errors.ApiError) -> Response:
    """An error in the form that Jaeger's clients read."""
    document = jaeger.failure(error.status_code, error.message)
    return Response(msgspec.json.encode(document), error.status_code, media_type="application/json")


def _json(make: Callable[[Request], Awaitable[Any]]) -> _Endpoint:
    """An endpoint that answers what `make` returns; a query that is not UTF-8 is refused, read or not."""

    async def get(request: Request) -> Response:
        query(request)
        return Response(msgspec.json.encode(await make(request)), media_type="application/json")

    return get


async def _trace(store: SpanStore, request: Request) -> Sequence[Span]:
    spans = await run_sync(store.trace, request.path_params["trace_id"])
    if not spans:
        raise errors.NotFound("trace not found")
    return spans


class _V1:
    """The API of Jaeger's own page and of Grafana: data in an envelope."""

    def __init__(self, store: SpanStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            self._route("/services", self._services),
            self._route("/services/{service:path}/operations", self._operation_names),
            self._route("/operations", self._operations),
            self._route("/traces", self._search),
            self._route("/traces/{trace_id:path}", self._trace),
            self._route("/dependencies", self._dependencies),
        ]

    def _route(self, path: str, data: Callable[[Request], Awaitable[list[Any]]]) -> Route:
        async def enveloped(request: Request) -> Any:
            return jaeger.envelope(await data(request))

        return Route(path, _json(enveloped))

    async def _services(self, _request: Request) -> list[Any]:
        return await run_sync(self._store.services)

    async def _operation_names(self, request: Request) -> list[Any]:
        operations = await run_sync(self._store.operations, request.path_params["service"])
        return [name for name, _ in operations]

    async def _operations(self, request: Request) -> list[Any]:
        operations = await run_sync(self._store.operations, query(request).get("service", ""))
        return [{"name": name, "spanKind": kind} for name, kind in operations]

    async def _search(self, request: Request) -> list[Any]:
        traces = await run_sync(self._store.search, queries.search_v1(query(request)))
        return [jaeger.trace(spans) for spans in traces]

    async def _trace(self, request: Request) -> list[Any]:
        return [jaeger.trace(await _trace(self._store, request))]

    async def _dependencies(self, request: Request) -> list[Any]:
        start_ns, end_ns = queries.interval_ns(query(request), self._clock.now())
        return jaeger.dependencies(await run_sync(self._store.calls, start_ns, end_ns))


class _V3:
    """The API in OTLP's shapes."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        return [
            Route("/services", _json(self._services)),
            Route("/operations", _json(self._operations)),
            Route("/traces", _json(self._search)),
            Route("/traces/{trace_id:path}", _json(self._trace)),
            Route("/trace-summaries", _json(self._summaries)),
        ]

    async def _services(self, _request: Request) -> Any:
        return {"services": await run_sync(self._store.services)}

    async def _operations(self, request: Request) -> Any:
        operations = await run_sync(self._store.operations, query(request).get("service", ""))
        return {"operations": [{"name": name, "spanKind": kind} for name, kind in operations]}

    async def _search(self, request: Request) -> Any:
        return jaeger.result(await run_sync(self._store.search, queries.search_v3(query(request))))

    async def _trace(self, request: Request) -> Any:
        return jaeger.result([await _trace(self._store, request)])

    async def _summaries(self, request: Request) -> Any:
        traces = await run_sync(self._store.search, queries.search_v3(query(request)))
        return {"summaries": [jaeger.summary(spans) for spans in traces]}
