"""Spans written in OTLP's JSON form, grouped by service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ondol.api.objects import Object
from ondol.observe.traces.spans import KINDS, Span


def groups(spans: Iterable[Span]) -> list[Object]:
    """`resourceSpans` entries, one a service."""
    by_service: dict[str, list[Span]] = {}
    for span in spans:
        by_service.setdefault(span.service, []).append(span)
    return [
        {
            "resource": {"attributes": _attributes({"service.name": service})},
            "scopeSpans": [{"scope": {}, "spans": [_span(span) for span in of_service]}],
        }
        for service, of_service in by_service.items()
    ]


def _span(span: Span) -> Object:
    document: Object = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": KINDS.index(span.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
        "status": {"code": 2} if span.error else {},
    }
    if span.parent_id:
        document["parentSpanId"] = span.parent_id
    return document


def _attributes(attributes: Mapping[str, Any]) -> list[Object]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> Object:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _attributes(value)}}
    return {"stringValue": str(value)}
