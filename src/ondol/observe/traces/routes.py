"""Routes of traces: OTLP exports in, both generations of Jaeger's query API out.

Whatever reads the store runs on a worker thread, the writing of its answer too, and few do at a time: the
loop and the other threads are for those who hand in spans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.observe.traces import exports, jaeger, queries
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.parameters import Fail, Parameters
from ondol.observe.traces.store import SpanStore
from ondol.web.application import Mount, Request, Response, Route, query_pairs

_Answer: TypeAlias = Callable[[Request, Parameters], Any]
"""What a question is answered with, as JSON will have it; called on a worker thread."""

_ANSWERS_MAX: Final = 2
"""Answers in the making at once; further ones wait."""
_INDENT: Final = 4


def routes(store: SpanStore, intake: Exports, clock: Clock) -> list[Route | Mount]:
    """All routes of the signal; the newer generation first, for its paths begin as the older one's."""
    limiter = anyio.CapacityLimiter(_ANSWERS_MAX)
    return [
        Route(exports.PATH, intake.post, methods=["POST"]),
        Mount("/api/v3", routes=_V3(store, limiter).routes()),
        Mount("/api", routes=_V1(store, limiter, clock).routes()),
    ]


def failure(error: errors.ApiError) -> Response:
    """An error in the form that Jaeger's clients read."""
    return _json(jaeger.failure_v1(error.status_code, error.message), error.status_code)


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


class _Generation:
    """What both generations share: how a question becomes an answer."""

    _fail: Fail

    def __init__(self, store: SpanStore, limiter: anyio.CapacityLimiter) -> None:
        self._store = store
        self._limiter = limiter

    async def _answered(self, request: Request, answer: _Answer) -> Response:
        """A query that is not UTF-8 is refused, read or not."""
        parameters = Parameters(query_pairs(request), self._fail)
        body = await anyio.to_thread.run_sync(_written, answer, request, parameters, limiter=self._limiter)
        return Response(body, media_type="application/json")


def _written(answer: _Answer, request: Request, parameters: Parameters) -> bytes:
    body = msgspec.json.encode(answer(request, parameters))
    if parameters.text("prettyPrint") not in {"", "false"}:
        return msgspec.json.format(body, indent=_INDENT)
    return body


class _V1(_Generation):
    """The API of Jaeger's own page and of Grafana: data in an envelope."""

    _fail = staticmethod(queries.fail_v1)

    def __init__(self, store: SpanStore, limiter: anyio.CapacityLimiter, clock: Clock) -> None:
        super().__init__(store, limiter)
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

    def _route(self, path: str, answer: _Answer) -> Route:
        async def get(request: Request) -> Response:
            return await self._answered(request, answer)

        return Route(path, get)

    def _services(self, _request: Request, _parameters: Parameters) -> Any:
        services = self._store.services()
        return jaeger.envelope(services, total=len(services))

    def _operation_names(self, request: Request, _parameters: Parameters) -> Any:
        operations = self._store.operations(request.path_params["service"])
        names = list(dict.fromkeys(name for name, _ in operations))
        return jaeger.envelope(names, total=len(names))

    def _operations(self, _request: Request, parameters: Parameters) -> Any:
        if not (service := parameters.text("service")):
            raise errors.BadRequest("parameter 'service' is required")
        operations = self._store.operations(service, parameters.text("spanKind"))
        return jaeger.envelope(jaeger.operations_v1(operations), total=len(operations))

    def _search(self, _request: Request, parameters: Parameters) -> Any:
        query, ids = queries.search_v1(parameters, self._now_ns())
        if not ids:
            return jaeger.envelope([jaeger.trace(spans) for spans in self._store.search(query)])
        traces = self._store.traces(ids)
        missing = [jaeger.missing(trace_id) for trace_id, spans in traces.items() if not spans]
        documents = [jaeger.trace(spans) for spans in traces.values() if spans]
        return jaeger.envelope(documents, failures=missing or None)

    def _trace(self, request: Request, parameters: Parameters) -> Any:
        queries.check_trace_v1(parameters)
        spans = self._store.trace(queries.trace_id(request.path_params["trace_id"]))
        if not spans:
            raise errors.NotFound("trace not found")
        return jaeger.envelope([jaeger.trace(spans)])

    def _dependencies(self, _request: Request, parameters: Parameters) -> Any:
        start_ns, end_ns = queries.dependencies_v1(parameters, self._now_ns())
        calls = self._store.calls(start_ns, end_ns)
        return jaeger.envelope(jaeger.dependencies(calls, parameters.text("service")))

    def _now_ns(self) -> int:
        return int(self._clock.now() * 1e9)


class _V3(_Generation):
    """The API in OTLP's shapes, with errors in those of the gateway from JSON to gRPC."""

    _fail = staticmethod(queries.fail_v3)

    def routes(self) -> list[Route]:
        return [
            self._route("/services", self._services),
            self._route("/operations", self._operations),
            self._route("/traces", self._search),
            self._route("/traces/{trace_id:path}", self._trace),
            self._route("/trace-summaries", self._summaries),
            self._route("/dependencies", self._dependencies),
        ]

    def _route(self, path: str, answer: _Answer) -> Route:
        async def get(request: Request) -> Response:
            try:
                return await self._answered(request, answer)
            except errors.ApiError as error:
                response = _json(jaeger.failure_v3(error.status_code, error.message), error.status_code)
                if error.retry_after_s is not None:
                    response.headers["retry-after"] = str(error.retry_after_s)
                return response

        return Route(path, get)

    def _services(self, _request: Request, _parameters: Parameters) -> Any:
        return {"services": self._store.services()}

    def _operations(self, _request: Request, parameters: Parameters) -> Any:
        kind = parameters.text("spanKind", "span_kind")
        operations = self._store.operations(parameters.text("service"), kind)
        return {"operations": jaeger.operations_v3(operations)}

    def _search(self, _request: Request, parameters: Parameters) -> Any:
        traces = self._store.search(queries.search_v3(parameters))
        if not traces:
            raise errors.NotFound("No traces found")
        return jaeger.result(traces)

    def _trace(self, request: Request, parameters: Parameters) -> Any:
        try:
            trace_id = queries.trace_id(request.path_params["trace_id"])
        except errors.BadRequest as error:
            raise parameters.fail("trace_id", error.message) from None
        queries.check_trace_v3(parameters)
        spans = self._store.trace(trace_id)
        if not spans:
            raise errors.NotFound("No traces found")
        return jaeger.result([spans])

    def _summaries(self, _request: Request, parameters: Parameters) -> Any:
        traces = self._store.search(queries.search_v3(parameters))
        return {"summaries": [jaeger.summary(spans) for spans in traces]}

    def _dependencies(self, _request: Request, parameters: Parameters) -> Any:
        calls = self._store.calls(*queries.dependencies_v3(parameters))
        return {
            "dependencies": [
                {**link, "callCount": str(link["callCount"])} for link in jaeger.dependencies(calls)
            ]
        }
