"""Jaeger's query services by gRPC (jaeger.api_v3 and jaeger.api_v2), answered by its HTTP API of v3.

Loaded by `ondol traces serve` alone: the library is heavy, and `observe` does without it. A question
becomes the same question by HTTP, so that both are read, bounded and refused alike; the answer to that is
written in protobuf.
"""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, Protocol, TypeAlias

import grpc

from ondol.base import errors
from ondol.base.protowire import put_bytes
from ondol.observe.traces import jaeger_protobuf as messages
from ondol.observe.traces import otlp
from ondol.observe.traces.jaeger_protobuf import Message

Ask: TypeAlias = Callable[[str], tuple[int, bytes]]
"""Status and body of the answer to `GET` of a path; `OSError` where nobody answers."""

_V3: Final = "jaeger.api_v3.QueryService"
_V2: Final = "jaeger.api_v2.QueryService"
_V2_SPANS: Final = 10
"""Spans in a message of v2, as Jaeger has it."""
_THREADS: Final = 4
_CALLS_MAX: Final = 64
_STOP_GRACE_S: Final = 0.2
_ID_BYTES: Final = (8, 16)
_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class _Context(Protocol):
    """gRPC's context of a call: what of it is used."""

    def abort(self, code: Any, details: str) -> NoReturn: ...


class _Refused(Exception):
    """The question is answered with this code and these words."""

    def __init__(self, code: Any, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


def _invalid(words: str) -> _Refused:
    return _Refused(grpc.StatusCode.INVALID_ARGUMENT, words)


@contextlib.contextmanager
def serving(ask: Ask, address: str) -> Iterator[int]:
    """Answer at the address inside the block; the port is given. `HostError` where that cannot be."""
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc"),
        options=(("grpc.so_reuseport", 0),),
        maximum_concurrent_rpcs=_CALLS_MAX,
    )
    server.add_generic_rpc_handlers(_handlers(_Queries(ask)))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise errors.HostError(
            f"cannot listen on {address}: {error}", remedy="choose another with --grpc-port"
        ) from error
    server.start()
    try:
        yield port
    finally:
        server.stop(_STOP_GRACE_S).wait()


def _handlers(queries: _Queries) -> tuple[Any, ...]:
    streams = {
        _V3: {
            "GetTrace": queries.trace_v3,
            "FindTraces": queries.find_v3,
            "FindTraceSummaries": queries.summaries,
        },
        _V2: {"GetTrace": queries.trace_v2, "FindTraces": queries.find_v2},
    }
    single = {
        _V3: {
            "GetServices": queries.services,
            "GetOperations": queries.operations_v3,
            "GetDependencies": queries.dependencies_v3,
        },
        _V2: {
            "GetServices": queries.services,
            "GetOperations": queries.operations_v2,
            "GetDependencies": queries.dependencies_v2,
        },
    }
    return tuple(
        grpc.method_handlers_generic_handler(
            service,
            {
                name: grpc.unary_stream_rpc_method_handler(_stream(make))
                for name, make in streams[service].items()
            }
            | {
                name: grpc.unary_unary_rpc_method_handler(_unary(make))
                for name, make in single[service].items()
            },
        )
        for service in (_V3, _V2)
    )


def _unary(make: Callable[[Message], bytes]) -> Any:
    def answer(request: bytes, context: _Context) -> bytes:
        with _explained(context):
            return make(Message(request))

    return answer


def _stream(make: Callable[[Message], Iterator[bytes]]) -> Any:
    def answer(request: bytes, context: _Context) -> Iterator[bytes]:
        with _explained(context):
            yield from make(Message(request))

    return answer


@contextlib.contextmanager
def _explained(context: _Context) -> Iterator[None]:
    try:
        yield
    except _Refused as refusal:
        context.abort(refusal.code, refusal.words)
    except ValueError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except OSError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, f"observe does not answer: {error}")


class _Queries:
    """The methods of both services: a request's fields in, messages out."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def _answer(self, path: str, **parameters: str) -> Any:
        """What the HTTP API answers; `_Refused` with its words if that is no success."""
        query = urllib.parse.urlencode({key: text for key, text in parameters.items() if text})
        status, body = self._ask(f"/api/v3/{path}{query and '?'}{query}")
        document = json.loads(body)
        if status == 200:
            return document
        words = document.get("error", {}).get("message", "") or f"observe answered {status}"
        raise _Refused(_CODES.get(status, grpc.StatusCode.INTERNAL), words)

    def _searched(self, query: Message) -> Any:
        """The entries of a search, which both generations ask for in the same fields; none are no error."""
        try:
            return self._answer("traces", **_search(query))["result"]
        except _Refused as refusal:
            if refusal.code is grpc.StatusCode.NOT_FOUND:
                return {"resourceSpans": []}
            raise

    def _trace(self, trace_id: str) -> Any:
        try:
            return self._answer(f"traces/{urllib.parse.quote(trace_id, safe='')}")["result"]
        except _Refused as refusal:
            if refusal.code is grpc.StatusCode.NOT_FOUND:
                raise _Refused(refusal.code, "trace not found") from None
            raise

    def trace_v3(self, request: Message) -> Iterator[bytes]:
        if not (trace_id := request.text(1)):
            raise _invalid("malformed trace ID: it is empty")
        for entry in self._trace(trace_id)["resourceSpans"]:
            yield from messages.traces_data(entry)

    def find_v3(self, request: Message) -> Iterator[bytes]:
        for entry in self._searched(_query_v3(request))["resourceSpans"]:
            yield from messages.traces_data(entry)

    def summaries(self, request: Message) -> Iterator[bytes]:
        entries = self._answer("trace-summaries", **_search(_query_v3(request)))["summaries"]
        yield from messages.chunked(put_bytes(1, messages.put_summary(entry)) for entry in entries)

    def services(self, _request: Message) -> bytes:
        """The same message in both generations."""
        return messages.put_texts(1, self._answer("services")["services"])

    def _operations(self, request: Message) -> Any:
        return self._answer("operations", service=request.text(1), spanKind=request.text(2))["operations"]

    def operations_v3(self, request: Message) -> bytes:
        return b"".join(put_bytes(1, messages.put_operation(each)) for each in self._operations(request))

    def operations_v2(self, request: Message) -> bytes:
        operations = self._operations(request)
        names = dict.fromkeys(operation["name"] for operation in operations)
        return messages.put_texts(1, names) + b"".join(
            put_bytes(2, messages.put_operation(each)) for each in operations
        )

    def dependencies_v3(self, request: Message) -> bytes:
        document = self._answer("dependencies", startTime=request.time(1), endTime=request.time(2))
        return b"".join(put_bytes(1, messages.put_dependency(each)) for each in document["dependencies"])

    def dependencies_v2(self, request: Message) -> bytes:
        if not request.time(1) or not request.time(2):
            raise _invalid("StartTime and EndTime must be initialized.")
        return self.dependencies_v3(request)

    def trace_v2(self, request: Message) -> Iterator[bytes]:
        trace_id = request.data(1)
        if not trace_id.strip(b"\0") or len(trace_id) not in _ID_BYTES:
            raise _invalid("uninitialized TraceID is not allowed")
        return self._spans_v2(self._trace(trace_id.hex()))

    def find_v2(self, request: Message) -> Iterator[bytes]:
        return self._spans_v2(self._searched(_query(request)))

    def _spans_v2(self, result: Any) -> Iterator[bytes]:
        spans = otlp.from_json(json.dumps(result).encode())
        return messages.chunked((put_bytes(1, messages.put_span(span)) for span in spans), _V2_SPANS)


def _query(request: Message) -> Message:
    if not request.has(1):
        raise _invalid("missing query")
    return Message(request.data(1))


def _query_v3(request: Message) -> Message:
    """v3 asks for both times."""
    query = _query(request)
    if not query.time(4) or not query.time(5):
        raise _invalid("start time min and max are required parameters")
    if query.has(10):
        raise _invalid("filter is not served; use attributes")
    return query


def _search(query: Message) -> dict[str, str]:
    """The fields of a `TraceQueryParameters` as parameters; a depth that is none is the default."""
    attributes, depth = query.pairs(3), query.number(8)
    return {
        "query.serviceName": query.text(1),
        "query.operationName": query.text(2),
        "query.attributes": json.dumps(attributes) if attributes else "",
        "query.startTimeMin": query.time(4),
        "query.startTimeMax": query.time(5),
        "query.durationMin": query.duration(6),
        "query.durationMax": query.duration(7),
        "query.searchDepth": str(depth) if depth > 0 else "",
    }
