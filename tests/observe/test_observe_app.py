"""The application: OTLP in, Jaeger's shapes out, bad input answered."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from ondol.base.clock import ManualClock
from ondol.observe import otlp
from ondol.observe.app import App
from ondol.observe.store import Query, SpanStore

pytestmark = pytest.mark.anyio
TRACE, NOW_NS = "0af7651916cd43dd8448eb211c80319c", 1_700_000_000_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    found = SpanStore(tmp_path / "traces.db")
    yield found
    found.close()


@pytest.fixture
def app(store: SpanStore) -> App:
    return App(store, ManualClock())


async def _call(
    app: App, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    target, _, query = path.partition("?")
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def _export() -> bytes:
    """A front that calls reviews through the proxy: two spans of one trace."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    found = request.resource_spans.add()
    found.resource.attributes.add(key="service.name").value.string_value = "front"
    scopes = getattr(found, found.DESCRIPTOR.fields_by_number[2].name)
    spans = scopes.add().spans
    outer = spans.add(trace_id=bytes.fromhex(TRACE), span_id=b"\1" * 8, name="reviews:80/*", kind=3)
    outer.start_time_unix_nano, outer.end_time_unix_nano = NOW_NS, NOW_NS + 5_000_000
    inner = spans.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=b"\2" * 8,
        parent_span_id=b"\1" * 8,
        name="router egress",
        kind=3,
    )
    inner.start_time_unix_nano, inner.end_time_unix_nano = NOW_NS + 1_000_000, NOW_NS + 4_000_000
    inner.attributes.add(
        key="upstream_cluster.name"
    ).value.string_value = "outbound|80|v1|reviews.shop.svc.cluster.local"
    inner.attributes.add(key="http.status_code").value.int_value = 503
    inner.status.code = 2
    return bytes(request.SerializeToString())


async def test_protobuf_in_jaeger_out(app: App) -> None:
    """A protobuf export is found again by service and by id, with its tags and its parent."""
    assert (await _call(app, "POST", "/v1/traces", body=_export()))[0] == 200
    assert (await _call(app, "GET", "/api/services"))[1]["data"] == ["front"]
    _, found = await _call(app, "GET", "/api/traces?service=front&limit=5")
    spans = {span["spanID"]: span for span in found["data"][0]["spans"]}
    inner = spans["02" * 8]
    assert inner["references"] == [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": "01" * 8}]
    assert (inner["startTime"], inner["duration"]) == (NOW_NS // 1000 + 1000, 3000)
    assert {"key": "http.status_code", "type": "int64", "value": 503} in inner["tags"]
    assert {"key": "error", "type": "bool", "value": True} in inner["tags"]
    assert (await _call(app, "GET", f"/api/traces/{TRACE}"))[1]["data"][0]["traceID"] == TRACE


async def test_gzip_and_repeated_exports(app: App, store: SpanStore) -> None:
    """Compressed exports are read; an export sent twice is kept once."""
    body = gzip.compress(_export())
    for _ in range(2):
        status, _answer = await _call(
            app, "POST", "/v1/traces", body=body, headers={"content-encoding": "gzip"}
        )
        assert status == 200
    assert len(store.trace(TRACE)) == 2


async def test_json_round_trip_through_v3(app: App) -> None:
    """What the v3 API answers can be sent in again as OTLP JSON and is the same."""
    await _call(app, "POST", "/v1/traces", body=_export())
    _, before = await _call(app, "GET", f"/api/v3/traces/{TRACE}")
    again = json.dumps(before["result"]).replace(TRACE, "f" * 32).encode()
    await _call(app, "POST", "/v1/traces", body=again, headers={"content-type": "application/json"})
    _, after = await _call(app, "GET", f"/api/v3/traces/{'f' * 32}")
    assert json.loads(json.dumps(after).replace("f" * 32, TRACE)) == before


async def test_summaries_and_dependencies(app: App) -> None:
    """A search sums traces up, and the graph says who calls whom."""
    await _call(app, "POST", "/v1/traces", body=_export())
    _, found = await _call(app, "GET", "/api/v3/trace-summaries?query.serviceName=front&query.searchDepth=3")
    assert found["summaries"][0]["spanCount"] == 2
    assert found["summaries"][0]["errorSpanCount"] == 1
    _, graph = await _call(app, "GET", f"/api/dependencies?endTs={NOW_NS // 10**6 + 1}&lookback=1000")
    assert graph["data"] == [{"parent": "front", "child": "reviews", "callCount": 1}]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/traces?service=front&minDuration=4ms", 1),
        ("/api/traces?service=front&minDuration=6ms", 0),
        ("/api/traces?service=other", 0),
        ('/api/traces?service=front&tags={"http.status_code":"503"}', 1),
        ('/api/traces?service=front&tags={"http.status_code":"200"}', 0),
        (f"/api/traces?service=front&start={NOW_NS // 1000 + 2_000}", 0),
    ],
)
async def test_searches_narrow(app: App, path: str, expected: int) -> None:
    """Duration, attributes, service and time each narrow the result."""
    await _call(app, "POST", "/v1/traces", body=_export())
    assert len((await _call(app, "GET", path))[1]["data"]) == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/v1/traces", b"\xff\xff\xff", {}, 400),
        ("POST", "/v1/traces", b"{", {"content-type": "application/json"}, 400),
        ("POST", "/v1/traces", b"[1]", {"content-type": "application/json"}, 400),
        ("POST", "/v1/traces", b"plain", {"content-encoding": "gzip"}, 400),
        ("GET", "/api/traces/abc", b"", {}, 404),
        ("GET", "/api/traces?limit=many", b"", {}, 400),
        ("GET", "/api/traces?minDuration=long", b"", {}, 400),
        ("GET", "/nothing", b"", {}, 404),
        ("DELETE", "/api/traces", b"", {}, 405),
    ],
)
async def test_bad_requests_are_answered(  # noqa: PLR0917 - a row of the table
    app: App, method: str, path: str, body: bytes, headers: Mapping[str, str], status: int
) -> None:
    """Wrong input gets a status and a message, never a broken connection."""
    found, document = await _call(app, method, path, body=body, headers=headers)
    assert found == status
    assert document["errors"][0]["msg"]


def test_retention_drops_the_oldest(store: SpanStore) -> None:
    """Old spans go first, and then what is too much."""
    spans = otlp.from_protobuf(_export())
    store.add(spans)
    assert store.forget(before_ns=0, keep_spans=10) == 0
    assert store.forget(before_ns=0, keep_spans=1) == 1
    assert store.forget(before_ns=NOW_NS * 2, keep_spans=10) == 1
    assert store.search(Query()) == []


def test_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    """A file that is no database does not stop the process, and is kept for whoever wants to look."""
    file = tmp_path / "traces.db"
    file.write_bytes(b"this is not a database, it is only text" * 100)
    store = SpanStore(file)
    assert store.services() == []
    store.close()
    assert (tmp_path / "traces.damaged").read_bytes().startswith(b"this is not")
