"""OTLP trace exports in JSON decoded to spans (opentelemetry-proto 1.x), and the answers to exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ondol.base import errors, protowire
from ondol.observe.traces import spans
from ondol.observe.traces.spans import Details, Event, Link, Span


def from_json(body: bytes) -> list[Span]:
    """Spans of the JSON form of an export; `BadRequest` if it is none."""
    try:
        document = msgspec.json.decode(body)
        return [
            _json_span(span, spans.service(resource), _json_origin(resource, scope_spans))
            for resource_spans in document.get("resourceSpans") or ()
            for resource in [_json_attributes((resource_spans.get("resource") or {}).get("attributes"))]
            for scope_spans in resource_spans.get("scopeSpans") or ()
            for span in scope_spans.get("spans") or ()
        ]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise errors.BadRequest(f"not an OTLP trace export: {error}") from error


def _json_origin(resource: Mapping[str, Any], scope_spans: Mapping[str, Any]) -> Details:
    scope = scope_spans.get("scope") or {}
    return spans.origin(resource, str(scope.get("name") or ""), str(scope.get("version") or ""))


def _json_span(span: Mapping[str, Any], service: str, origin: Details) -> Span:
    status = span.get("status") or {}
    start_ns, end_ns = int(span.get("startTimeUnixNano") or 0), int(span.get("endTimeUnixNano") or 0)
    return Span(
        trace_id=spans.identifier(str(span.get("traceId") or "")),
        span_id=spans.identifier(str(span.get("spanId") or "")),
        parent_id=spans.parent(spans.identifier(str(span.get("parentSpanId") or ""))),
        service=service,
        name=str(span.get("name") or ""),
        kind=spans.kind(int(span.get("kind") or 0)),
        start_ns=start_ns,
        duration_ns=max(0, end_ns - start_ns),
        error=status.get("code") in {spans.STATUS_ERROR, "STATUS_CODE_ERROR"},
        attributes=_json_attributes(span.get("attributes")),
        details=msgspec.structs.replace(
            origin,
            events=tuple(_json_event(event) for event in (span.get("events") or ())[: spans.ITEMS_MAX]),
            links=spans.links(_json_link(link) for link in (span.get("links") or ())[: spans.ITEMS_MAX]),
            message=str(status.get("message") or ""),
            is_ok=status.get("code") in {spans.STATUS_OK, "STATUS_CODE_OK"},
            trace_state=str(span.get("traceState") or ""),
        ),
    )


def _json_event(event: Mapping[str, Any]) -> Event:
    return Event(
        time_ns=int(event.get("timeUnixNano") or 0),
        name=str(event.get("name") or ""),
        attributes=_json_attributes(event.get("attributes")),
    )


def _json_link(link: Mapping[str, Any]) -> Link:
    return Link(
        trace_id=spans.identifier(str(link.get("traceId") or "")),
        span_id=spans.identifier(str(link.get("spanId") or "")),
        attributes=_json_attributes(link.get("attributes")),
    )


def _json_attributes(pairs: Any) -> dict[str, Any]:
    return {pair["key"]: _json_value(pair.get("value") or {}) for pair in pairs or ()}


def _json_value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_json_value(item) for item in value["arrayValue"].get("values") or ()]
    if "kvlistValue" in value:
        return _json_attributes(value["kvlistValue"].get("values"))
    return next(iter(value.values()), None)


# The answer to an export of which not all was taken. Written out, for not every release of the
# generated classes has it: ExportTraceServiceResponse.partial_success = 1, in which rejected_spans = 1
# and error_message = 2.


def partial_success(rejected: int, message: str) -> bytes:
    inner = protowire.put_number(1, rejected) + protowire.put_bytes(2, message.encode())
    return protowire.put_bytes(1, inner)


def partial_success_json(rejected: int, message: str) -> bytes:
    return msgspec.json.encode({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}})
