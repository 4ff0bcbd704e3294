"""Jaeger's query services by gRPC: a client of gRPC's own asks, generated classes read the spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from tests.observe.jaeger_world import CART, FRONT, JOB, LONG, NOW_NS, SHORT, get, opened

from ondol.base import errors
from ondol.base.protowire import put_bytes, put_number
from ondol.observe.traces import grpc_queries, jaeger_protobuf, otlp_protobuf
from ondol.observe.traces.jaeger_protobuf import Message
from ondol.observe.traces.spans import Span, row
from ondol.observe.traces.store import SpanStore

_INVALID, _NONE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
_UNAVAILABLE, _UNIMPLEMENTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED
_SECOND = NOW_NS // 10**9


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Any, SpanStore]]:
    """A channel to both services, and the store that they ask by way of the application."""
    lock = threading.Lock()
    with opened(tmp_path) as (app, store), anyio.from_thread.start_blocking_portal() as portal:

        def ask(target: str) -> tuple[int, bytes]:
            with lock:
                return portal.call(get, app, target)

        with (
            grpc_queries.serving(ask, "127.0.0.1:0") as port,
            grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel,
        ):
            yield channel, store


@pytest.fixture
def channel(world: tuple[Any, SpanStore]) -> Any:
    return world[0]


def _ask(channel: Any, method: str, request: bytes = b"", version: int = 3) -> list[Any]:
    """The messages of the answer, of one if the method streams none."""
    streams = method in {"GetTrace", "FindTraces", "FindTraceSummaries"}
    call = channel.unary_stream if streams else channel.unary_unary
    answer = call(f"/jaeger.api_v{version}.QueryService/{method}")(request, timeout=10)
    return list(answer) if streams else [answer]


def _refused(channel: Any, method: str, request: bytes, version: int = 3) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(channel, method, request, version)
    return caught.value.code()


def _time(number: int, second: int, nanos: int = 0) -> bytes:
    return put_bytes(number, put_number(1, second) + put_number(2, nanos))


_WINDOW = _time(4, _SECOND - 60) + _time(5, _SECOND + 60)


def _query(*fields: bytes) -> bytes:
    return put_bytes(1, b"".join(fields))


def _spans(chunks: list[bytes]) -> list[Any]:
    """The spans of messages `TracesData`, as the generated classes read exports, which look the same."""
    spans: list[Any] = []
    for chunk in chunks:
        for resource_spans in trace_service_pb2.ExportTraceServiceRequest.FromString(chunk).resource_spans:
            for scope in getattr(resource_spans, resource_spans.DESCRIPTOR.fields_by_number[2].name):
                spans += scope.spans
    return spans


def test_a_trace_of_v3_is_otlp(channel: Any) -> None:
    """What is streamed is what was handed in: the store's own reader makes the same spans of it."""
    chunks = _ask(channel, "GetTrace", put_bytes(1, LONG.encode()))
    front, cart = _spans(chunks)
    assert (front.span_id.hex(), front.name, front.kind, front.trace_state) == (FRONT, "GET /söup", 2, "a=1")
    assert (front.status.code, front.status.message) == (2, "no soup")
    assert (cart.parent_span_id.hex(), cart.links[0].span_id.hex()) == (FRONT, JOB)
    assert front.end_time_unix_nano - front.start_time_unix_nano == 20_000_000
    rows = [each for chunk in chunks for each in otlp_protobuf.rows(chunk)]
    assert [(each.service, each.span_id, each.error) for each in rows] == [
        ("front", FRONT, True),
        ("cart", CART, False),
    ]


def test_what_is_streamed_is_stored_alike(world: tuple[Any, SpanStore]) -> None:
    """Every attribute, event and link of both traces, byte by byte as it is in the store."""
    channel, store = world
    chunks = _ask(channel, "FindTraces", _query(_WINDOW))
    streamed = {each.span_id: each for chunk in chunks for each in otlp_protobuf.rows(chunk)}
    kept = store._db.rows("SELECT span_id, attributes, details, start_ns, duration_ns FROM spans")
    assert len(kept) == 3
    for span_id, attributes, details, start_ns, duration_ns in kept:
        its = streamed[span_id]
        assert (its.attributes, its.details) == (attributes, details)
        assert (its.start_ns, its.duration_ns) == (start_ns, duration_ns)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ([put_bytes(1, b"cart")], {LONG, SHORT}),
        ([put_bytes(1, b"cart"), put_number(8, 1)], {SHORT}),
        ([put_bytes(1, b"cart"), put_number(8, -1)], {LONG, SHORT}),
        ([put_bytes(1, b"cart"), put_bytes(2, b"sweep")], {SHORT}),
        ([put_bytes(3, put_bytes(1, b"http.status_code") + put_bytes(2, b"500"))], {LONG}),
        ([put_bytes(6, put_number(2, 10_000_001))], {LONG}),
        ([put_bytes(7, put_number(2, 1_000_000))], {SHORT}),
        ([_time(4, _SECOND, 5_000_001)], {SHORT}),
        ([_time(5, _SECOND, 999_999_999)], {LONG}),
        ([put_bytes(1, b"nobody")], set()),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_searches_narrow(channel: Any, version: int, fields: list[bytes], ids: set[str]) -> None:
    """Every field of the query, in both generations; what is asked for later in a message counts."""
    chunks = _ask(channel, "FindTraces", _query(_WINDOW, *fields), version)
    if version == 3:
        assert {span.trace_id.hex() for span in _spans(chunks)} == ids
    else:
        assert {span.data(1).hex() for chunk in chunks for span in Message(chunk).messages(1)} == ids


def test_a_trace_of_v2(channel: Any) -> None:
    """Spans with process, references, typed tags and logs; ids of 8 bytes are the short ones."""
    (chunk,) = _ask(channel, "GetTrace", put_bytes(1, bytes.fromhex(LONG)), 2)
    front, cart = Message(chunk).messages(1)
    assert (front.data(2).hex(), front.text(3)) == (FRONT, "GET /söup")
    assert (Message(front.data(6)).number(1), Message(front.data(7)).number(2)) == (_SECOND, 20_000_000)
    process = Message(front.data(10))
    assert process.text(1) == "front"
    tags = {tag.text(1): tag for tag in front.messages(8)}
    assert tags["span.kind"].text(3) == "server"
    assert (tags["error"].number(2), tags["error"].number(4)) == (1, 1)
    assert (tags["http.status_code"].number(2), tags["http.status_code"].number(5)) == (2, 500)
    assert tags["ratio"].number(2) == 3
    (log,) = front.messages(9)
    assert Message(log.data(1)).number(2) == 5_000_000
    references = cart.messages(4)
    assert [(each.data(2).hex(), each.number(3)) for each in references] == [(FRONT, 0), (JOB, 1), (JOB, 0)]
    (chunk,) = _ask(channel, "GetTrace", put_bytes(1, bytes.fromhex(SHORT[16:])), 2)
    assert len(Message(chunk).messages(1)) == 1


def test_names_and_dependencies(channel: Any) -> None:
    """Services, operations with kinds, who called whom, and summaries, in both generations."""
    for version in (2, 3):
        (services,) = _ask(channel, "GetServices", version=version)
        assert Message(services)._fields[1] == [b"cart", b"front"]
        (answer,) = _ask(channel, "GetOperations", put_bytes(1, b"cart"), version)
        operations = Message(answer).messages(1 if version == 3 else 2)
        assert [(each.text(1), each.text(2)) for each in operations] == [
            ("reserve", "server"),
            ("sweep", "internal"),
        ]
        (answer,) = _ask(channel, "GetDependencies", _time(1, _SECOND) + _time(2, _SECOND + 1), version)
        (link,) = Message(answer).messages(1)
        assert (link.text(1), link.text(2), link.number(3)) == ("front", "cart", 1)
    (answer,) = _ask(channel, "GetOperations", put_bytes(1, b"cart") + put_bytes(2, b"server"), 2)
    assert Message(answer)._fields[1] == [b"reserve"]
    (answer,) = _ask(channel, "FindTraceSummaries", _query(_WINDOW, put_bytes(1, b"front")))
    (summary,) = Message(answer).messages(1)
    assert (summary.text(1), summary.text(2), summary.number(6), summary.number(7)) == (LONG, "front", 2, 1)


@pytest.mark.parametrize(
    ("version", "method", "request_", "code"),
    [
        (3, "GetTrace", put_bytes(1, b"1"), _NONE),
        (3, "GetTrace", put_bytes(1, b"../services"), _INVALID),
        (3, "GetTrace", b"", _INVALID),
        (3, "GetTrace", b"\xff", _INVALID),
        (3, "GetTrace", put_bytes(1, b"\xff"), _INVALID),
        (3, "FindTraces", b"", _INVALID),
        (3, "FindTraces", _query(_time(4, _SECOND)), _INVALID),
        (3, "FindTraces", _query(_WINDOW, _time(5, _SECOND - 61)), _INVALID),
        (3, "FindTraces", _query(_WINDOW, _time(5, -62_135_596_800)), _INVALID),
        (3, "FindTraces", _query(_WINDOW, _time(5, 2**62)), _INVALID),
        (3, "FindTraces", _query(_WINDOW, _time(5, 1, 2**33)), _INVALID),
        (3, "FindTraces", _query(_WINDOW, put_bytes(6, put_number(1, 2**62))), _INVALID),
        (3, "FindTraces", _query(_WINDOW, put_bytes(10, b"")), _INVALID),
        (3, "FindTraceSummaries", _query(), _INVALID),
        (3, "GetDependencies", _time(2, _SECOND), _INVALID),
        (2, "GetTrace", put_bytes(1, bytes(16)), _INVALID),
        (2, "GetTrace", put_bytes(1, b"\1"), _INVALID),
        (2, "GetTrace", put_bytes(1, b"\1" * 16), _NONE),
        (2, "FindTraces", b"", _INVALID),
        (2, "GetDependencies", b"", _INVALID),
        (2, "ArchiveTrace", b"", _UNIMPLEMENTED),
    ],
)
def test_wrong_questions_have_jaegers_codes(
    channel: Any, version: int, method: str, request_: bytes, code: Any
) -> None:
    """Never a broken stream, whatever is asked."""
    assert _refused(channel, method, request_, version) is code


def test_large_traces_come_in_messages_that_clients_take(world: tuple[Any, SpanStore]) -> None:
    """A trace of 8 MB: no message is larger than a client takes by default, none of v2 has more than 10."""
    channel, store = world
    attributes = {"text": "x" * 100_000}
    spans = [
        Span(
            trace_id="1" * 32,
            span_id=f"{number + 1:016x}",
            service="s",
            name="n",
            start_ns=NOW_NS,
            duration_ns=1,
            attributes=attributes,
        )
        for number in range(80)
    ]
    store.add(map(row, spans))
    chunks = _ask(channel, "GetTrace", put_bytes(1, b"1" * 32))
    assert len(_spans(chunks)) == 80
    assert max(map(len, chunks)) < 2 << 20
    counts = [
        len(Message(chunk).messages(1)) for chunk in _ask(channel, "GetTrace", put_bytes(1, b"\x11" * 16), 2)
    ]
    assert (sum(counts), max(counts)) == (80, 10)


def test_who_does_not_answer_is_unavailable() -> None:
    """When `observe` is away, and when it is too busy to answer."""

    def away(_target: str) -> tuple[int, bytes]:
        raise ConnectionRefusedError("nobody there")

    def busy(_target: str) -> tuple[int, bytes]:
        return 503, b'{"error": {"httpCode": 503, "message": "later"}}'

    for ask in (away, busy):
        with (
            grpc_queries.serving(ask, "127.0.0.1:0") as port,
            grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel,
        ):
            assert _refused(channel, "GetServices", b"") is _UNAVAILABLE
            with (
                pytest.raises(errors.HostError, match="cannot listen"),
                grpc_queries.serving(ask, f"127.0.0.1:{port}"),
            ):
                pass


def test_an_answer_of_any_value_is_written() -> None:
    """Values of every form, even none: lists in maps, what is empty, and numbers below zero."""
    value = {
        "kvlistValue": {
            "values": [
                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "-1"}, {}]}}},
                {"key": "", "value": {"stringValue": ""}},
            ]
        }
    }
    entry = {
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
        "scopeSpans": [
            {
                "scope": {},
                "spans": [
                    {
                        "traceId": LONG,
                        "spanId": FRONT,
                        "name": "",
                        "kind": 0,
                        "startTimeUnixNano": "1",
                        "endTimeUnixNano": "1",
                        "attributes": [{"key": "v", "value": value}],
                        "status": {},
                    }
                ],
            }
        ],
    }
    (chunk,) = jaeger_protobuf.traces_data(entry)
    (only,) = otlp_protobuf.rows(chunk)
    assert only.attributes == b'{"v":{"list":[-1,null],"":""}}'
