"""Spans written in OTLP's JSON form, grouped by what made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ondol.api.objects import Object
from ondol.observe.traces.spans import KINDS, SERVICE_NAME, STATUS_ERROR, STATUS_OK, Span


def groups(spans: Iterable[Span]) -> list[Object]:
    """`resourceSpans` entries, one for each service, or for each of its processes that say who they are."""
    by_resource: dict[tuple[str, bytes], list[Span]] = {}
    for span in spans:
        key = (span.service, msgspec.json.encode(span.details.resource))
        by_resource.setdefault(key, []).append(span)
    return [
        {
            "resource": {
                "attributes": _attributes({SERVICE_NAME: service, **of_resource[0].details.resource})
            },
            "scopeSpans": _scopes(of_resource),
        }
        for (service, _), of_resource in by_resource.items()
    ]


def _scopes(spans: Iterable[Span]) -> list[Object]:
    by_scope: dict[tuple[str, str], list[Object]] = {}
    for span in spans:
        by_scope.setdefault((span.details.scope, span.details.scope_version), []).append(_span(span))
    return [
        {
            "scope": {key: text for key, text in (("name", name), ("version", version)) if text},
            "spans": documents,
        }
        for (name, version), documents in by_scope.items()
    ]


def _span(span: Span) -> Object:
    details = span.details
    document: Object = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": KINDS.index(span.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
        "status": _status(span),
    }
    if span.parent_id:
        document["parentSpanId"] = span.parent_id
    if details.trace_state:
        document["traceState"] = details.trace_state
    if details.events:
        document["events"] = [
            {
                "timeUnixNano": str(event.time_ns),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in details.events
        ]
    if details.links:
        document["links"] = [
            {"traceId": link.trace_id, "spanId": link.span_id, "attributes": _attributes(link.attributes)}
            for link in details.links
        ]
    return document


def _status(span: Span) -> Object:
    status: Object = {}
    if span.error or span.details.is_ok:
        status["code"] = STATUS_ERROR if span.error else STATUS_OK
    if span.details.message:
        status["message"] = span.details.message
    return status


def _attributes(attributes: Mapping[str, Any]) -> list[Object]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> Object:
    if value is None:
        return {}
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
