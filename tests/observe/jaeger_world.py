"""A store with two traces of a shop, and the application that answers questions about them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ondol.base.clock import ManualClock
from ondol.observe.app import application
from ondol.observe.traces import otlp, spans
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.store import SpanStore
from ondol.web.application import Application

NOW_NS = 1_700_000_000_000_000_000
NOW_US, NOW_MS = NOW_NS // 1000, NOW_NS // 10**6
LONG = "0af7651916cd43dd8448eb211c80319c"
SHORT = "00000000000000001234567890abcdef"
FRONT, CART, JOB = "00f067aa0ba902b7", "00f067aa0ba902b8", "00f067aa0ba902b9"


def _pairs(**attributes: Any) -> list[Any]:
    forms = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    return [
        {
            "key": key.replace("__", "."),
            "value": {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
            if isinstance(value, list)
            else {forms[type(value)]: value},
        }
        for key, value in attributes.items()
    ]


def _span(ids: tuple[str, str], name: str, kind: int, ms: tuple[int, int], **more: Any) -> Any:
    (trace_id, span_id), (start_ms, size_ms) = ids, ms
    start_ns = NOW_NS + start_ms * 10**6
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + size_ms * 10**6),
        **more,
    }


EXPORT = {
    "resourceSpans": [
        {
            "resource": {"attributes": _pairs(service__name="front", host__name="node-1", replicas=2)},
            "scopeSpans": [
                {
                    "scope": {"name": "shop.web", "version": "1.2"},
                    "spans": [
                        _span(
                            (LONG, FRONT),
                            "GET /söup",
                            2,
                            (0, 20),
                            attributes=_pairs(
                                http__status_code=500, ratio=0.5, cached=False, big=2**60, path=["a", "b"]
                            ),
                            events=[
                                {
                                    "timeUnixNano": str(NOW_NS + 5_000_000),
                                    "name": "exception",
                                    "attributes": _pairs(exception__type="KeyError"),
                                }
                            ],
                            status={"code": 2, "message": "no soup"},
                            traceState="a=1",
                        )
                    ],
                }
            ],
        },
        {
            "resource": {"attributes": _pairs(service__name="cart")},
            "scopeSpans": [
                {
                    "spans": [
                        _span(
                            (LONG, CART),
                            "reserve",
                            2,
                            (5, 10),
                            parentSpanId=FRONT,
                            links=[
                                {"traceId": SHORT, "spanId": JOB},
                                {
                                    "traceId": SHORT,
                                    "spanId": JOB,
                                    "attributes": _pairs(opentracing__ref_type="child_of"),
                                },
                                {"traceId": "", "spanId": JOB},
                            ],
                            status={"code": 1},
                        ),
                        _span((SHORT, JOB), "sweep", 0, (1000, 1)),
                    ]
                }
            ],
        },
    ]
}


@contextlib.contextmanager
def opened(tmp_path: Path) -> Iterator[tuple[Application, SpanStore]]:
    """The application, and its store with the traces of the shop in it; the clock is two seconds later."""
    store = SpanStore(tmp_path / "traces.db")
    clock = ManualClock(NOW_NS / 1e9 + 2)
    store.add(map(spans.row, otlp.from_json(json.dumps(EXPORT).encode())))
    try:
        yield application(store, Exports(store, clock), clock, {}), store
    finally:
        store.close()


async def get(app: Application, target: str) -> tuple[int, bytes]:
    """Status and body of the answer; what is not in ASCII goes as it is, in UTF-8."""
    path, _, query = target.partition("?")
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await app(
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "client": None,
            "headers": [],
        },
        receive,
        send,
    )
    return sent[0]["status"], bytes(sent[1]["body"])
