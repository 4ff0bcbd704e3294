"""OTLP trace exports decoded to spans, from protobuf or JSON (opentelemetry-proto 1.x)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ondol.base import errors
from ondol.observe.spans import KINDS, Span

_STATUS_ERROR = 2
_NO_PARENT = "0" * 16
"""As some exporters say that a span is a root."""


def from_protobuf(body: bytes) -> list[Span]:
    """Spans of an `ExportTraceServiceRequest`; `BadRequest` if it is none."""
    # The generated classes cost memory: they are loaded with the first export, not with the process.
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415

    request = trace_service_pb2.ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise errors.BadRequest(f"not an OTLP trace export: {error}") from error
    return list(_spans(request))


def _spans(request: Any) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        service = str(resource.get("service.name") or "unknown")
        # Field 2 by number: releases of the generated classes have called it by different names.
        for scope_spans in getattr(resource_spans, resource_spans.DESCRIPTOR.fields_by_number[2].name):
            for span in scope_spans.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=_parent(span.parent_span_id.hex()),
                    service=service,
                    name=span.name,
                    kind=_kind(span.kind),
                    start_ns=span.start_time_unix_nano,
                    duration_ns=max(0, span.end_time_unix_nano - span.start_time_unix_nano),
                    error=span.status.code == _STATUS_ERROR,
                    attributes=_attributes(span.attributes),
                )


def _parent(text: str) -> str:
    return "" if text == _NO_PARENT else text


def _kind(number: int) -> str:
    return KINDS[number] if 0 <= number < len(KINDS) else KINDS[0]


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    # Nearly all values are text, which is told without asking which of its forms a value has.
    return {pair.key: (value := pair.value).string_value or _value(value) for pair in pairs}


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    found = getattr(value, which)
    if which == "array_value":
        return [_value(item) for item in found.values]
    if which == "kvlist_value":
        return _attributes(found.values)
    return found.hex() if which == "bytes_value" else found


def from_json(body: bytes) -> list[Span]:
    """Spans of the JSON form of an export; `BadRequest` if it is none."""
    try:
        document = msgspec.json.decode(body)
        return [
            _json_span(span, str(resource.get("service.name") or "unknown"))
            for resource_spans in document.get("resourceSpans") or ()
            for resource in [_json_attributes((resource_spans.get("resource") or {}).get("attributes"))]
            for scope_spans in resource_spans.get("scopeSpans") or ()
            for span in scope_spans.get("spans") or ()
        ]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise errors.BadRequest(f"not an OTLP trace export: {error}") from error


def _json_span(span: Mapping[str, Any], service: str) -> Span:
    start_ns, end_ns = int(span.get("startTimeUnixNano") or 0), int(span.get("endTimeUnixNano") or 0)
    return Span(
        trace_id=str(span.get("traceId") or "").lower(),
        span_id=str(span.get("spanId") or "").lower(),
        parent_id=_parent(str(span.get("parentSpanId") or "").lower()),
        service=service,
        name=str(span.get("name") or ""),
        kind=_kind(int(span.get("kind") or 0)),
        start_ns=start_ns,
        duration_ns=max(0, end_ns - start_ns),
        error=(span.get("status") or {}).get("code") == _STATUS_ERROR,
        attributes=_json_attributes(span.get("attributes")),
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
    text = message.encode()
    inner = b"\x08" + _varint(rejected) + b"\x12" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(inner)) + inner


def partial_success_json(rejected: int, message: str) -> bytes:
    return msgspec.json.encode({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}})


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
