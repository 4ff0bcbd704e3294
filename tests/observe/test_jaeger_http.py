"""Jaeger's HTTP APIs of both generations: what its page and Grafana ask, and what anybody may ask wrongly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.observe.jaeger_world import CART, FRONT, JOB, LONG, NOW_MS, NOW_NS, NOW_US, SHORT, get, opened

from ondol.observe.traces import store as stores
from ondol.observe.traces.spans import Span, row
from ondol.observe.traces.store import SpanStore
from ondol.web.application import Application

pytestmark = pytest.mark.anyio
SHORT_ID = SHORT[16:]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Application, SpanStore]]:
    with opened(tmp_path) as opened_world:
        yield opened_world


@pytest.fixture
def app(world: tuple[Application, SpanStore]) -> Application:
    return world[0]


async def _document(app: Application, target: str) -> Any:
    status, body = await get(app, target)
    assert status == 200, body
    return json.loads(body)


_FRONT_SPAN = {
    "traceID": LONG,
    "spanID": FRONT,
    "operationName": "GET /söup",
    "references": [],
    "startTime": NOW_US,
    "duration": 20_000,
    "tags": [
        {"key": "otel.scope.name", "type": "string", "value": "shop.web"},
        {"key": "otel.scope.version", "type": "string", "value": "1.2"},
        {"key": "http.status_code", "type": "int64", "value": 500},
        {"key": "ratio", "type": "float64", "value": 0.5},
        {"key": "cached", "type": "bool", "value": False},
        {"key": "big", "type": "int64", "value": str(2**60)},  # more than JavaScript's numbers hold
        {"key": "path", "type": "string", "value": '["a","b"]'},
        {"key": "span.kind", "type": "string", "value": "server"},
        {"key": "otel.status_code", "type": "string", "value": "ERROR"},
        {"key": "error", "type": "bool", "value": True},
        {"key": "otel.status_description", "type": "string", "value": "no soup"},
        {"key": "w3c.tracestate", "type": "string", "value": "a=1"},
    ],
    "logs": [
        {
            "timestamp": NOW_US + 5000,
            "fields": [
                {"key": "event", "type": "string", "value": "exception"},
                {"key": "exception.type", "type": "string", "value": "KeyError"},
            ],
        }
    ],
    "processID": "p1",
    "warnings": None,
}


async def test_a_trace_is_written_as_jaeger_writes_it(app: Application) -> None:
    """Processes, references of both types, tags with types, logs, what OTLP says of status and scope."""
    document = await _document(app, f"/api/traces/{LONG}")
    assert {key: document[key] for key in ("total", "limit", "offset", "errors")} == {
        "total": 0,
        "limit": 0,
        "offset": 0,
        "errors": None,
    }
    (trace,) = document["data"]
    front, cart = trace["spans"]
    assert trace["processes"] == {
        "p1": {
            "serviceName": "front",
            "tags": [
                {"key": "host.name", "type": "string", "value": "node-1"},
                {"key": "replicas", "type": "int64", "value": 2},
            ],
        },
        "p2": {"serviceName": "cart", "tags": []},
    }
    assert trace["warnings"] is None
    assert front == _FRONT_SPAN
    assert cart["references"] == [
        {"refType": "CHILD_OF", "traceID": LONG, "spanID": FRONT},
        {"refType": "FOLLOWS_FROM", "traceID": SHORT_ID, "spanID": JOB},
        {"refType": "CHILD_OF", "traceID": SHORT_ID, "spanID": JOB},
    ]
    assert {"key": "otel.status_code", "type": "string", "value": "OK"} in cart["tags"]


@pytest.mark.parametrize(
    "name",
    [
        LONG,
        LONG.upper(),
        SHORT,
        SHORT_ID,
        SHORT_ID.upper(),
        "EjRWeJCrze8=",
        "EjRWeJCrze8",
        "CvdlGRbNQ92ESOshHIAxnA",
    ],
)
@pytest.mark.parametrize("path", ["/api/traces/", "/api/v3/traces/"])
async def test_ids_are_read_in_every_form(app: Application, path: str, name: str) -> None:
    """Hex with or without the zeros before it, in either case, or base64 with or without its padding."""
    status, body = await get(app, path + name)
    assert status == 200
    assert (LONG if name.upper() == LONG.upper() or name.startswith("Cv") else SHORT_ID).encode() in body


_WINDOW_V1 = f"start={NOW_US - 3_600_000_000}&end={NOW_US + 2_000_000}"
_WINDOW_V3 = "2023-11-14T21:13:20.000000Z", "2023-11-14T22:13:22.000Z"
_SEARCH_V3 = f"query.startTimeMin={_WINDOW_V3[0]}&query.startTimeMax={_WINDOW_V3[1]}"
_SEARCH_OLD = f"query.start_time_min={_WINDOW_V3[0]}&query.start_time_max={_WINDOW_V3[1]}"


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        # Jaeger's page up to 1.76
        ("/api/services", "data", ["cart", "front"]),
        ("/api/services/front/operations", "data", ["GET /söup"]),
        ("/api/operations?service=front", "data", [{"name": "GET /söup", "spanKind": "server"}]),
        (f"/api/traces?{_WINDOW_V1}&limit=20&lookback=1h&maxDuration&minDuration&service=front", "data#", 1),
        (f"/api/traces?{_WINDOW_V1}&limit=20&lookback=custom&operation=reserve&service=cart", "data#", 1),
        (f"/api/traces?traceID={LONG}&traceID={SHORT_ID}", "data#", 2),
        (f"/api/traces/{LONG}?prettyPrint=true", "data#", 1),
        (f"/api/traces/{LONG}?raw=true&prettyPrint=true", "data#", 1),
        (f"/api/traces/{LONG}?start={NOW_US}&end={NOW_US + 9}", "data#", 1),
        (
            f"/api/dependencies?endTs={NOW_MS + 2000}&lookback=604800000",
            "data",
            [{"parent": "front", "child": "cart", "callCount": 1}],
        ),
        # its page of 2.20
        ("/api/v3/services", "services", ["cart", "front"]),
        ("/api/v3/operations?service=cart", "operations#", 2),
        (
            f"/api/v3/trace-summaries?query.serviceName=cart&{_SEARCH_V3}&query.searchDepth=20",
            "summaries#",
            2,
        ),
        (f"/api/v3/traces/{LONG}", "result.resourceSpans#", 2),
        # Grafana's data source
        (f"/api/traces?{_WINDOW_V1}&limit=20&operation=&service=front&lookback=custom", "data#", 1),
        ('/api/traces?limit=20&service=front&tags={"error":"true"}&minDuration=1.2ms', "data#", 1),
        ("/api/v3/operations?service=front", "operations#", 1),
        (f"/api/v3/traces?query.service_name=front&{_SEARCH_OLD}", "result.resourceSpans#", 2),
        (f"/api/v3/traces/{LONG}?start_time=2023-11-14T22:13:20+01:00&end_time=", "result.resourceSpans#", 2),
    ],
)
async def test_what_jaegers_page_and_grafana_ask(
    app: Application, target: str, path: str, expected: Any
) -> None:
    """Their requests as they send them, and the part of the answer that they read."""
    value = await _document(app, target)
    for key in path.rstrip("#").split("."):
        value = value[key]
    assert (len(value) if path.endswith("#") else value) == expected


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("service=cart", [SHORT_ID, LONG]),
        ("service=cart&limit=1", [SHORT_ID]),
        ("service=cart&limit=2000000000", [SHORT_ID, LONG]),
        ("service=cart&operation=sweep", [SHORT_ID]),
        ("service=cart&minDuration=0h0m10000.0us", [LONG]),
        ("service=cart&minDuration=10.001ms", []),
        ("service=cart&maxDuration=1000000ns", [SHORT_ID]),
        ("service=cart&maxDuration=-1s", []),
        ("service=cart&minDuration=-1s", [SHORT_ID, LONG]),
        ("service=front&tag=http.status_code:500&tag=cached:false", [LONG]),
        ("service=front&tag=http.status_code:500&tag=cached:true", []),
        ('service=front&tags={"error":"true"}&tags={"span.kind":"server"}', [LONG]),
        ("service=front&tag=otel.status_code:ERROR", [LONG]),
        ("service=cart&tag=otel.status_code:ERROR", []),
        ("service=front&tag=host.name:node-1", [LONG]),
        ("service=front&tag=exception.type:KeyError", [LONG]),
        ("service=front&tag=name:exception", []),
        ('service=front&tags={"big":"1152921504606846976"}', [LONG]),
        ("service=front&tags=null", [LONG]),
        ("service=GET /söup", []),
        ("service=front&operation=GET /söup", [LONG]),
        (f"service=cart&start={NOW_US + 1_000_000}", [SHORT_ID]),
        (f"service=cart&end={NOW_US + 999_999}", [LONG]),
        (f"service=cart&start={NOW_US + 9}&end={NOW_US}", []),
        ("service=cart&start=-5", [SHORT_ID, LONG]),
        ("service=cart&end=-5", []),
        ("service=cart&end=0", []),
        (f"service=cart&start={2**63 - 1}", []),
        ("service=cart&lookback=1m", [SHORT_ID, LONG]),
        (f"service=cart&lookback=1m&end={NOW_US + 60_500_000}", [SHORT_ID]),
        ("service=cart&lookback=yesterday", [SHORT_ID, LONG]),
        ("service=cart&minDuration=NaN", 400),
        ("service=cart&minDuration=1", 400),
        ("service=cart&minDuration=.s", 400),
        ("service=cart&minDuration=1e400s", 400),
        ("service=cart&minDuration=9999999999999s", 400),
        ("service=cart&minDuration=2s&maxDuration=1s", 400),
        ("service=cart&limit=0", 400),
        ("service=cart&limit=3000000000", 400),
        ("service=cart&limit=" + "9" * 5000, 400),
        ("service=cart&limit=٣", 400),
        ("service=cart&start=1.5", 400),
        (f"service=cart&start={2**63}", 400),
        ("service=cart&tag=error", 400),
        ("service=cart&tags=error", 400),
        ('service=cart&tags={"a":1}', 400),
        ('service=cart&tags={"a":"\\ud800"}', 400),
        ("service=cart&tags=" + "[" * 50_000, 400),
        ("service=cart&" + "&".join(f"tag=k{number}:v" for number in range(65)), 400),
        ("operation=sweep", 400),
        ("", 400),
        ("traceID=none", 400),
        ("traceID=" + "1" * 33, 400),
        ("&".join(["traceID=1"] * 1501), 400),
    ],
)
async def test_searches_of_v1(app: Application, query: str, ids: list[str] | int) -> None:
    """Traces newest first, or Jaeger's refusal in its envelope; whatever the numbers, never more."""
    status, body = await get(app, f"/api/traces?{query}")
    document = json.loads(body)
    if isinstance(ids, int):
        assert (status, document["data"], document["errors"][0]["code"]) == (ids, None, ids)
        assert 0 < len(document["errors"][0]["msg"]) < 300
    else:
        assert (status, [trace["traceID"] for trace in document["data"]]) == (200, ids)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ('query.attributes={"http.status_code":"500"}', 1),
        ("query.serviceName=cart&query.durationMin=10ms", 1),
        ("query.service_name=cart&query.duration_max=1ms&query.operation_name=sweep", 1),
        ("query.serviceName=cart&query.num_traces=1", 1),
        ("query.serviceName=cart&query.search_depth=2&query.raw_traces=true", 2),
        ("query.startTimeMin=2023-11-14T22:13:20.005000001Z", 1),
        ("query.startTimeMax=2023-11-14T22:13:20.999999999Z", 1),
        ("query.startTimeMax=2023-11-14T22:13:20 00:00", 1),
        ("query.startTimeMin=0001-01-01T00:00:00Z&query.startTimeMax=9999-12-31T23:59:59-23:59", 2),
        ("query.serviceName=nobody", 404),
        ("query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-14T22:13:20Z", 400),
        ("query.startTimeMin=2024-11-14T22:13:20Z&query.startTimeMax=2023-11-14T22:13:20Z", 400),
        ("query.startTimeMin=2023-11-14", 400),
        ("query.startTimeMin=2023-13-14T22:13:20Z", 400),
        ("query.startTimeMin=now", 400),
        ("query.durationMin=NaNs", 400),
        ("query.searchDepth=many", 400),
        ("query.searchDepth=0", 400),
        ("query.rawTraces=perhaps", 400),
        ("query.attributes=[]", 400),
        ("query.filter={}", 400),
    ],
)
async def test_searches_of_v3(app: Application, query: str, count: int) -> None:
    """Both spellings of each parameter; refusals as the gateway to gRPC has them."""
    status, body = await get(app, f"/api/v3/traces?{query}")
    document = json.loads(body)
    if count >= 400:
        assert (status, document["error"]["httpCode"]) == (count, count)
        assert document["error"]["message"]
    else:
        spans = [
            span
            for group in document["result"]["resourceSpans"]
            for scope in group["scopeSpans"]
            for span in scope["spans"]
        ]
        assert (status, len({span["traceId"] for span in spans})) == (200, count)


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/api/traces/1", 404, "trace not found"),
        ("/api/traces/none", 400, "trace id"),
        (f"/api/traces/{LONG}0", 400, "trace id"),
        ("/api/traces/../../etc/passwd", 400, "trace id"),
        ("/api/traces/日本", 400, "trace id"),
        (f"/api/traces/{LONG}?raw=perhaps", 400, "unable to parse param 'raw'"),
        (f"/api/traces/{LONG}?start=soon", 400, "unable to parse param 'start'"),
        ("/api/operations", 400, "parameter 'service' is required"),
        ("/api/dependencies?endTs=x", 400, "unable to parse param 'endTs'"),
        ("/api/dependencies?lookback=1h", 400, "unable to parse param 'lookback'"),
        ("/api/v3/traces/1", 404, "No traces found"),
        ("/api/v3/traces/none", 400, "malformed parameter trace_id"),
        (f"/api/v3/traces/{LONG}?startTime=1", 400, "malformed parameter startTime"),
        (f"/api/v3/traces/{LONG}?raw_traces=2", 400, "malformed parameter raw_traces"),
        ("/api/v3/dependencies?end_time=2023-11-14T22:13:20Z", 400, "start_time is required"),
    ],
)
async def test_refusals_are_jaegers(app: Application, target: str, status: int, message: str) -> None:
    """Each generation says what is wrong in its own shape."""
    code, body = await get(app, target)
    document = json.loads(body)
    if "v3" in target:
        assert set(document["error"]) == {"httpCode", "message"}
        assert (code, document["error"]["httpCode"]) == (status, status)
        assert message in document["error"]["message"]
    else:
        assert (code, document["errors"][0]["code"], document["data"]) == (status, status, None)
        assert message in document["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("target", "operations"),
    [
        ("/api/operations?service=cart&spanKind=server", [("reserve", "server")]),
        ("/api/operations?service=cart", [("reserve", "server"), ("sweep", "")]),
        ("/api/operations?service=cart&spanKind=client", []),
        ("/api/v3/operations?service=cart", [("reserve", "server"), ("sweep", "internal")]),
        ("/api/v3/operations?service=cart&span_kind=server", [("reserve", "server")]),
    ],
)
async def test_operations_have_kinds(app: Application, target: str, operations: list[Any]) -> None:
    """They are chosen by kind; what has none is internal to v3 and nothing to v1."""
    document = await _document(app, target)
    entries = document["operations"] if "v3" in target else document["data"]
    assert [(entry["name"], entry["spanKind"]) for entry in entries] == operations
    if "v3" not in target:
        assert document["total"] == len(operations)


async def test_some_of_several_traces_are_missing(app: Application) -> None:
    """Those that there are are answered, each of the others with an entry of its own."""
    document = await _document(app, f"/api/traces?traceID={LONG}&traceID=5&traceID={LONG}")
    assert [trace["traceID"] for trace in document["data"]] == [LONG]
    assert document["errors"] == [{"msg": "trace not found", "traceID": "0000000000000005"}]


async def test_dependencies_of_one_service_and_of_v3(app: Application) -> None:
    """A service's own calls alone; v3 counts in texts, as JSON has numbers of 64 bits."""
    query = f"endTs={NOW_MS + 2000}&lookback=60000"
    assert (await _document(app, f"/api/dependencies?{query}&service=job"))["data"] == []
    assert len((await _document(app, f"/api/dependencies?{query}&service=cart"))["data"]) == 1
    assert (await _document(app, "/api/dependencies?lookback=-1"))["data"] == []
    window = "start_time=2023-11-14T22:13:20Z&end_time=2023-11-14T22:13:21Z"
    assert await _document(app, f"/api/v3/dependencies?{window}") == {
        "dependencies": [{"parent": "front", "child": "cart", "callCount": "1"}]
    }


async def test_pretty_print_changes_nothing_but_spaces(app: Application) -> None:
    """With `prettyPrint`, unless that is false, the same document has lines."""
    _, plain = await get(app, f"/api/traces/{LONG}?prettyPrint=false")
    _, pretty = await get(app, f"/api/traces/{LONG}?prettyPrint=1")
    assert b'\n    "data": [' in pretty
    assert b"\n" not in plain
    assert json.loads(pretty) == json.loads(plain)


async def test_v3_says_all_that_was_sent(app: Application) -> None:
    """Resources, scopes, events, links, status and state of a trace come back as they were handed in."""
    document = await _document(app, f"/api/v3/traces/{LONG}")
    front, cart = document["result"]["resourceSpans"]
    assert [pair["key"] for pair in front["resource"]["attributes"]] == [
        "service.name",
        "host.name",
        "replicas",
    ]
    assert front["scopeSpans"][0]["scope"] == {"name": "shop.web", "version": "1.2"}
    (span,) = front["scopeSpans"][0]["spans"]
    assert (span["status"], span["traceState"]) == ({"code": 2, "message": "no soup"}, "a=1")
    assert span["events"][0]["name"] == "exception"
    (span,) = cart["scopeSpans"][0]["spans"]
    assert (span["spanId"], span["status"], len(span["links"])) == (CART, {"code": 1}, 2)


async def test_a_trace_too_large_is_cut_and_says_so(
    world: tuple[Application, SpanStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded number of spans of one trace is answered; a search leaves traces out instead."""
    app, store = world
    monkeypatch.setattr(stores, "ANSWER_SPANS_MAX", 2000)
    monkeypatch.setattr("ondol.observe.traces.jaeger.ANSWER_SPANS_MAX", 2000)
    store.add(
        row(
            Span(
                trace_id=f"{trace:032x}",
                span_id=f"{number + 1:016x}",
                service="loop",
                name="turn",
                start_ns=NOW_NS + trace,
                duration_ns=1,
            )
        )
        for trace, count in ((1, 2500), (2, 1500), (3, 1000))
        for number in range(count)
    )
    (trace,) = (await _document(app, "/api/traces/1"))["data"]
    assert (len(trace["spans"]), trace["warnings"]) == (2000, ["only 2000 spans of this trace are shown"])
    traces = (await _document(app, "/api/traces?service=loop"))["data"]
    assert [(trace["traceID"][-1], len(trace["spans"])) for trace in traces] == [("3", 1000)]
