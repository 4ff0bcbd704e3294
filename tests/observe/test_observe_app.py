"""The application: OTLP in, Jaeger's shapes out, bad input answered."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.client
import ipaddress
import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from ondol.base import errors
from ondol.base.clock import ManualClock, SystemClock
from ondol.base.unix_http import UnixConnection
from ondol.observe import server
from ondol.observe.app import PodsOnly, application
from ondol.observe.traces import jaeger, otlp_protobuf
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.search import Query
from ondol.observe.traces.spans import Row, Span, row
from ondol.observe.traces.store import SpanStore
from ondol.web.application import Application

pytestmark = pytest.mark.anyio
TRACE, NOW_NS = "0af7651916cd43dd8448eb211c80319c", 1_700_000_000_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    opened = SpanStore(tmp_path / "traces.db")
    yield opened
    opened.close()


@pytest.fixture
def exports(store: SpanStore) -> Exports:
    return Exports(store, ManualClock())


@pytest.fixture
def app(store: SpanStore, exports: Exports) -> Application:
    return application(store, exports, ManualClock(), {})


async def _call(
    app: Application | PodsOnly,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> tuple[int, Any]:
    target, _, query = path.partition("?")
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "query_string": query.encode("latin-1"),
        "client": (host, 40000) if host else None,
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    await app(scope, receive, send)
    answer = bytes(sent[1]["body"])
    kind = dict(sent[0]["headers"])[b"content-type"]
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(answer)).encode()
    return sent[0]["status"], json.loads(answer) if kind == b"application/json" else answer.decode()


def _export() -> bytes:
    """A front that calls reviews through the proxy: two spans of one trace."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "front"
    scopes = getattr(resource, resource.DESCRIPTOR.fields_by_number[2].name)
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
    inner.attributes.add(key="retried").value.bool_value = True
    inner.attributes.add(key='it"s.a[0]').value.string_value = "key"
    inner.status.code = 2
    return bytes(request.SerializeToString())


async def test_protobuf_in_jaeger_out(app: Application) -> None:
    """A protobuf export is found again by service and by id, with its tags and its parent."""
    # OTLP: an export that was taken whole is answered by an empty message of its own kind
    assert await _call(app, "POST", "/v1/traces", body=_export()) == (200, "")
    # reviews has no span of its own: it calls nobody
    assert (await _call(app, "GET", "/api/services"))[1]["data"] == ["front", "reviews"]
    assert (await _call(app, "GET", "/api/v3/services"))[1]["services"] == ["front", "reviews"]
    _, document = await _call(app, "GET", "/api/traces?service=front&limit=5")
    spans = {span["spanID"]: span for span in document["data"][0]["spans"]}
    inner = spans["02" * 8]
    assert inner["references"] == [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": "01" * 8}]
    assert (inner["startTime"], inner["duration"]) == (NOW_NS // 1000 + 1000, 3000)
    assert {"key": "http.status_code", "type": "int64", "value": 503} in inner["tags"]
    assert {"key": "error", "type": "bool", "value": True} in inner["tags"]
    assert (await _call(app, "GET", f"/api/traces/{TRACE}"))[1]["data"][0]["traceID"] == TRACE


async def test_gzip_and_repeated_exports(app: Application, store: SpanStore) -> None:
    """Compressed exports are read; an export sent twice is kept once."""
    body = gzip.compress(_export())
    for _ in range(2):
        status, _answer = await _call(
            app, "POST", "/v1/traces", body=body, headers={"content-encoding": "gzip"}
        )
        assert status == 200
    assert len(store.trace(TRACE)) == 2


async def test_json_round_trip_through_v3(app: Application) -> None:
    """What the v3 API answers can be sent in again as OTLP JSON and is the same."""
    await _call(app, "POST", "/v1/traces", body=_export())
    _, before = await _call(app, "GET", f"/api/v3/traces/{TRACE}")
    again = json.dumps(before["result"]).replace(TRACE, "f" * 32).encode()
    await _call(app, "POST", "/v1/traces", body=again, headers={"content-type": "application/json"})
    _, after = await _call(app, "GET", f"/api/v3/traces/{'f' * 32}")
    assert json.loads(json.dumps(after).replace("f" * 32, TRACE)) == before


async def test_summaries_and_dependencies(app: Application) -> None:
    """A search sums traces up, and the graph says who calls whom."""
    await _call(app, "POST", "/v1/traces", body=_export())
    _, document = await _call(
        app, "GET", "/api/v3/trace-summaries?query.serviceName=front&query.searchDepth=3"
    )
    assert document["summaries"][0]["spanCount"] == 2
    assert document["summaries"][0]["errorSpanCount"] == 1
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
        ('/api/traces?service=front&tags={"error":"true"}', 1),
        ('/api/traces?service=front&tags={"error":"false"}', 0),
        ('/api/traces?service=front&tags={"span.kind":"client"}', 1),
        ('/api/traces?service=front&tags={"retried":"true"}', 1),
        ('/api/traces?service=front&tags={"it\\"s.a[0]":"key"}', 1),
        ('/api/traces?service=front&tags={"it\\"s.a[0]":"another"}', 0),
        ("/api/traces?service=front&maxDuration=99999h", 1),
        ("/api/v3/traces?query.startTimeMax=9999-12-31T23:59:59Z", 1),
        (f"/api/traces?service=front&start={NOW_NS // 1000 + 2_000}", 0),
    ],
)
async def test_searches_narrow(app: Application, path: str, expected: int) -> None:
    """Duration, attributes, service and time each narrow the result."""
    await _call(app, "POST", "/v1/traces", body=_export())
    status, document = await _call(app, "GET", path)
    assert status == 200
    assert len(document["result"]["resourceSpans"] if "v3" in path else document["data"]) == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/v1/traces", b"\xff\xff\xff", {}, 400),
        ("POST", "/v1/traces", b"\x0a\x05\x12", {}, 400),
        ("POST", "/v1/traces", b"{", {"content-type": "application/json"}, 400),
        ("POST", "/v1/traces", b"[1]", {"content-type": "application/json"}, 400),
        ("POST", "/v1/traces", b"plain", {"content-encoding": "gzip"}, 400),
        ("GET", "/api/traces/abc", b"", {}, 404),
        ("GET", "/api/traces?limit=many", b"", {}, 400),
        ("GET", "/api/traces?minDuration=long", b"", {}, 400),
        ("GET", "/api/traces?minDuration=1e400s", b"", {}, 400),
        ("GET", "/api/traces?limit=-1", b"", {}, 400),
        ("GET", f"/api/traces?start={10**20}", b"", {}, 400),
        ("GET", f"/api/dependencies?lookback={10**20}", b"", {}, 400),
        ("POST", "/v1/traces", b"[" * 100_000, {"content-type": "application/json"}, 400),
        ("GET", f"/api/traces?maxDuration={'9' * 200}s", b"", {}, 400),
        ("GET", "/nothing", b"", {}, 404),
        ("GET", "/api/services/%ff/operations?a=\xff", b"", {}, 400),
        ("POST", "/v1/traces", gzip.compress(b"x" * 1000, mtime=0)[:-9], {"content-encoding": "gzip"}, 400),
        ("POST", "/v1/traces", gzip.compress(bytes(40 << 20), mtime=0), {"content-encoding": "gzip"}, 413),
        ("POST", "/v1/traces", b"", {"content-encoding": "br"}, 415),
        ("POST", "/v1/traces", b"", {"content-type": "text/plain"}, 415),
        ("DELETE", "/api/traces", b"", {}, 405),
        ("GET", "/v1/traces", b"", {}, 405),
    ],
)
async def test_bad_requests_are_answered(  # noqa: PLR0917 - a row of the table
    app: Application, method: str, path: str, body: bytes, headers: Mapping[str, str], status: int
) -> None:
    """Wrong input gets a status and a message, never a broken connection."""
    code, document = await _call(app, method, path, body=body, headers=headers)
    assert code == status
    assert document["errors"][0]["msg"]


def test_retention_drops_the_oldest(store: SpanStore) -> None:
    """Old spans go first, and then what is too much."""
    store.add(otlp_protobuf.rows(_export()))
    plenty = 1 << 30
    assert store.forget(before_ns=0, keep_spans=10, keep_bytes=plenty) == 0
    assert store.forget(before_ns=0, keep_spans=1, keep_bytes=plenty) == 1
    assert store.forget(before_ns=NOW_NS * 2, keep_spans=10, keep_bytes=plenty) == 1
    assert store.search(Query()) == []


def test_a_service_that_calls_nobody_is_found(store: SpanStore) -> None:
    """It has no span of its own; those of its callers say that it took part, with or without a version."""
    call = Span(
        trace_id="1" * 32,
        span_id="1" * 16,
        service="front",
        name="egress",
        start_ns=NOW_NS,
        duration_ns=10,
        attributes={"upstream_cluster.name": "outbound|80|v2|reviews.shop.svc.cluster.local"},
    )
    other = Span(
        trace_id="2" * 32, span_id="2" * 16, service="cart", name="work", start_ns=NOW_NS, duration_ns=1
    )
    store.add([row(call), row(other)])
    (trace,) = store.search(Query(service="reviews"))
    assert trace == [call]
    assert [entry["name"] for entry in jaeger.summary(trace)["services"]] == ["front", "reviews"]
    assert store.search(Query(service="outbound")) == []


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Spans kept before callees were are still there, and new ones are kept beside them."""
    file = tmp_path / "old.db"
    migrated = SpanStore(file)
    migrated.add(_many(4))
    migrated.close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.executescript("DROP INDEX spans_by_called; ALTER TABLE spans DROP COLUMN called;")
    opened = SpanStore(file)
    opened.add(_many(8)[4:])
    assert len(opened.search(Query())) == 2
    opened.close()


def _many(count: int) -> list[Row]:
    return [
        row(
            Span(
                trace_id=f"{number // 4:032x}",
                span_id=f"{number:016x}",
                service=f"s{number % 3}",
                name="work",
                start_ns=NOW_NS + number,
                duration_ns=10,
                attributes={"text": "x" * 300},
            )
        )
        for number in range(count)
    ]


def test_retention_by_size_gives_the_disk_back(store: SpanStore, tmp_path: Path) -> None:
    """Above the size the oldest go, and the file itself becomes smaller."""
    store.add(_many(12_000))
    _, before = store.usage()
    assert store.forget(before_ns=0, keep_spans=1 << 30, keep_bytes=before // 4) > 8_000
    usage, after = store.usage()
    assert after <= before // 4 * 1.2
    assert (tmp_path / "traces.db").stat().st_size < before // 2
    newest = [spans[0].start_ns for spans in store.search(Query(limit=usage))]
    assert max(newest) >= NOW_NS + 11_990
    assert min(newest) > NOW_NS + 8_000


def test_services_are_listed_once_in_order(store: SpanStore) -> None:
    """However many spans there are, each service is named once; none when there are none."""
    assert store.services() == []
    store.add(_many(100))
    assert store.services() == ["s0", "s1", "s2"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from ondol.observe.traces.spans import Row, Span, row
from ondol.observe.traces.store import SpanStore
store = SpanStore(Path(sys.argv[1]))
for number in range(50):
    span = Span(trace_id="1" * 32, span_id=f"{number:016x}", service="s", name="n", start_ns=1, duration_ns=1)
    store.add([row(span)])
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """Every batch that `add` returned from is there after SIGKILL, without a clean end."""
    file = tmp_path / "traces.db"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    store = SpanStore(file)
    assert len(store.trace("1" * 32)) == len(done.stdout.split()) == 50
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"traceId": ""},
        {"traceId": "0" * 32},
        {"traceId": "../../etc/passwd"},
        {"spanId": "f" * 5000},
        {"spanId": "0" * 16},
        {"parentSpanId": "abc"},
        {"startTimeUnixNano": str(2**63), "endTimeUnixNano": str(2**63)},
        {"endTimeUnixNano": str(2**64 - 1)},
        {"startTimeUnixNano": "-5"},
    ],
    ids=str,
)
async def test_a_span_that_cannot_be_is_refused_alone(app: Application, wrong: dict[str, str]) -> None:
    """The others of its export are kept, the sender is told, and lists of traces go on working."""
    good = {
        "traceId": TRACE,
        "spanId": "1" * 16,
        "parentSpanId": "0" * 16,
        "name": "op",
        "startTimeUnixNano": str(NOW_NS),
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [good | {"spanId": "2" * 16} | wrong, good]}]}]}
    headers = {"content-type": "application/json"}
    status, answer = await _call(app, "POST", "/v1/traces", body=json.dumps(body).encode(), headers=headers)
    assert status == 200
    assert answer["partialSuccess"]["rejectedSpans"] == "1"
    _, document = await _call(app, "GET", "/api/v3/trace-summaries")
    assert [(entry["spanCount"], entry["orphanSpanCount"]) for entry in document["summaries"]] == [(1, 0)]
    _, text = await _call(app, "GET", "/metrics")
    assert "ondol_observe_spans_refused_total 1" in text


async def test_a_refused_span_is_told_in_protobuf_too(app: Application) -> None:
    """The answer is an ExportTraceServiceResponse whose partial success says how many and why."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(_export())
    scopes = getattr(request.resource_spans[0], request.resource_spans[0].DESCRIPTOR.fields_by_number[2].name)
    scopes[0].spans[0].trace_id = b"short"
    status, answer = await _call(app, "POST", "/v1/traces", body=request.SerializeToString())
    partial = answer.encode()
    words = b"a trace id has 16 bytes that are not all zero"
    inner = b"\x08\x01\x12" + bytes([len(words)]) + words
    assert (status, partial) == (200, b"\x0a" + bytes([len(inner)]) + inner)


async def test_a_store_that_cannot_write_asks_to_come_again(app: Application, store: SpanStore) -> None:
    """What goes wrong below is a 503 with a reason, never a broken connection."""
    store._db.execute("PRAGMA query_only = 1")
    status, document = await _call(app, "POST", "/v1/traces", body=_export())
    assert status == 503
    assert "cannot be read or written" in document["errors"][0]["msg"]
    store._db.execute("PRAGMA query_only = 0")
    assert (await _call(app, "POST", "/v1/traces", body=_export()))[0] == 200


async def test_exports_under_way_are_bounded_while_they_arrive(
    store: SpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sender has a share, another finds room beside it, Envoy has its own, and a refusal is counted."""
    monkeypatch.setattr("ondol.observe.traces.exports._BYTES_MAX", 8000)
    exports = Exports(store, ManualClock())
    app = application(store, exports, ManualClock(), {})
    async with anyio.create_task_group() as senders:
        for _ in range(5):
            senders.start_soon(_send_without_end, app, "10.100.0.7", bytes(1000))
        await anyio.wait_all_tasks_blocked()
        assert exports._bytes.taken == 3000
        status, document = await _call(app, "POST", "/v1/traces", body=_export() * 10, host="10.100.0.7")
        assert (status, document["errors"][0]["msg"]) == (429, "too many exports at once")
        for host in ("10.100.0.8", ""):
            assert (await _call(app, "POST", "/v1/traces", body=_export(), host=host))[0] == 200
        senders.cancel_scope.cancel()
    assert exports._bytes.taken == 0
    assert "ondol_observe_exports_refused_total 3" in (await _call(app, "GET", "/metrics"))[1]


async def test_an_export_must_arrive_in_time(store: SpanStore) -> None:
    """Who begins one and does not end it is answered, and gives back what it took."""
    clock = ManualClock()
    exports = Exports(store, clock)
    app = application(store, exports, clock, {})
    statuses: list[int] = []

    async def one() -> None:
        statuses.append(await _send_without_end(app, "10.100.0.7", b"begun"))

    async with anyio.create_task_group() as senders:
        senders.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        assert (statuses, exports._bytes.taken) == ([], 5)
        await clock.advance(10)
    assert (statuses, exports._bytes.taken) == ([504], 0)


async def _send_without_end(app: Application, host: str, piece: bytes) -> int:
    """Send one piece of an export and no more; the status of the answer, if there is one."""
    pieces = [piece]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": pieces.pop(), "more_body": True}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "POST", "path": "/v1/traces", "query_string": b"", "headers": []}
    await app({**scope, "client": (host, 40000)}, receive, send)
    return statuses[0]


async def test_metrics_count_what_came_in(app: Application) -> None:
    """Prometheus reads how many spans came and how many are kept."""
    await _call(app, "POST", "/v1/traces", body=_export())
    status, text = await _call(app, "GET", "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["ondol_observe_spans_received_total"]) == 2
    assert float(values["ondol_observe_spans"]) == 2
    assert float(values["ondol_observe_store_bytes"]) > 0


@pytest.mark.parametrize(
    ("caller", "exported", "status"),
    [
        ("10.100.0.7", 200, 404),
        ("10.100.255.254", 200, 404),
        ("10.100.0.1", 403, 403),  # the bridge: whoever is on this machine
        ("127.0.0.1", 403, 403),
        ("10.102.0.7", 403, 403),  # another platform's pod
        ("::ffff:10.100.0.7", 403, 403),
        ("", 403, 403),
    ],
)
async def test_pods_may_send_but_not_ask(store: SpanStore, caller: str, exported: int, status: int) -> None:
    """At the address for pods their spans are taken in, nobody else's, and nobody's traces are shown."""
    served = application(store, Exports(store, ManualClock()), ManualClock(), {})
    app = PodsOnly(served, ipaddress.IPv4Network("10.100.0.0/16"))
    assert (await _call(app, "POST", "/v1/traces", body=_export(), host=caller))[0] == exported
    assert (await _call(app, "GET", "/api/services", host=caller))[0] == status
    assert (await _call(app, "GET", "/v1/traces", host=caller))[0] == status


async def test_served_over_http_and_stopped_cleanly(tmp_path: Path) -> None:
    """The process serves at its socket, to its owner alone, and at its address; cancelling ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path / "observe.sock"
    config = server.ObserveConfig(tmp_path, path, server.Intake("127.0.0.2", port, "127.0.0.0/30"))

    def ask(connection: http.client.HTTPConnection, target: str, body: bytes | None = None) -> int:
        try:
            connection.request("POST" if body else "GET", target, body)
            return connection.getresponse().status
        finally:
            connection.close()

    def owner() -> http.client.HTTPConnection:
        return UnixConnection(str(path), timeout=5)

    def caller(source: str) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.2", port, timeout=5, source_address=(source, 0))

    async with anyio.create_task_group() as group:
        await group.start(server.run, config, SystemClock())
        in_thread = anyio.to_thread.run_sync
        assert await in_thread(ask, owner(), "/healthz") == 200
        assert path.stat().st_mode & 0o777 == 0o600
        assert await in_thread(ask, caller("127.0.0.2"), "/healthz") == 404
        assert await in_thread(ask, caller("127.0.0.2"), "/v1/traces", _export()) == 200
        assert await in_thread(ask, caller("127.0.0.1"), "/v1/traces", _export()) == 403
        other = dataclasses.replace(config, data_dir=tmp_path / "other", path=tmp_path / "other.sock")
        with pytest.raises(errors.HostError, match="it is in use") as caught:
            await server.run(other, SystemClock())
        assert "ss -ltnp" in caught.value.remedy
        group.cancel_scope.cancel()
    with socket.create_server(("127.0.0.2", port)):
        pass  # the port is free again
    with pytest.raises(ConnectionRefusedError):
        owner().connect()


def test_damaged_files_are_moved_aside(tmp_path: Path) -> None:
    """A file that is no database does not stop the process; each is kept for whoever wants to look."""
    file = tmp_path / "traces.db"
    for word in (b"first", b"second"):
        file.write_bytes(word + b" text that is no database" * 100)
        store = SpanStore(file)
        assert store.services() == []
        store.close()
    assert (tmp_path / "traces.damaged").read_bytes().startswith(b"first")
    assert (tmp_path / "traces.damaged1").read_bytes().startswith(b"second")


@pytest.mark.root
def test_a_full_disk_is_no_damage(small_disk: Any) -> None:
    """Traces are read on a full disk, and none are put aside for it."""
    file = small_disk.path / "traces.db"
    first = SpanStore(file)
    first.add(_many(100))
    first.close()
    small_disk.fill()
    store = SpanStore(file)
    assert store.usage()[0] == 100
    store.close()
    assert {path.name for path in small_disk.path.iterdir()} == {"ballast", "traces.db"}


def test_a_damaged_file_takes_its_log_with_it(tmp_path: Path) -> None:
    """The log of a file that was moved aside is not replayed into the new one."""
    file = tmp_path / "traces.db"
    first = SpanStore(file)
    first.add(_many(2_000))
    first.close()
    second = SpanStore(file)
    second.add(_many(1))  # a log that has only the pages that changed
    log = (tmp_path / "traces.db-wal").read_bytes()
    second.close()
    file.write_bytes(b"x" * file.stat().st_size)
    (tmp_path / "traces.db-wal").write_bytes(log)
    for _ in range(2):
        store = SpanStore(file)
        assert store.services() == []
        store.close()
    assert (tmp_path / "traces.damaged").exists()
