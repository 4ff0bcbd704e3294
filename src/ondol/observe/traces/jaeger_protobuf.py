"""The messages of Jaeger's gRPC query services, written and read field by field.

Source: jaegertracing/jaeger-idl proto/api_v3/query_service.proto, proto/api_v2/query.proto and model.proto;
opentelemetry-proto trace/v1/trace.proto, whose JSON form is what `put_resource_spans` is given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ondol.api.objects import Object
from ondol.base import protowire
from ondol.base.protowire import put_bytes, put_fixed64, put_number
from ondol.observe.traces import jaeger
from ondol.observe.traces.spans import Span

_SECOND_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TIME_S: Final = -62_135_596_800
"""The first second of the year 1, which Go writes where no time was set."""
_REFERENCE_TYPES: Final = {"CHILD_OF": 0, "FOLLOWS_FROM": 1}
_BOOL, _INT, _FLOAT = 1, 2, 3
_CHUNK_BYTES: Final = 1 << 20
"""About how large a message of a stream becomes; clients take 4 MB by default."""


class Message:
    """The fields of a message by number; `ValueError` if the bytes are none."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in protowire.fields(data):
            self._fields.setdefault(number, []).append(value)

    def data(self, number: int) -> bytes:
        """The content of the last such field; empty if there is none."""
        value = self._last(number)
        return value if isinstance(value, bytes) else b""

    def text(self, number: int) -> str:
        return self.data(number).decode()

    def number(self, number: int) -> int:
        value = self._last(number)
        return protowire.signed(value) if isinstance(value, int) else 0

    def has(self, number: int) -> bool:
        return number in self._fields

    def pairs(self, number: int) -> dict[str, str]:
        """A map of texts."""
        return {entry.text(1): entry.text(2) for entry in self.messages(number)}

    def messages(self, number: int) -> list[Message]:
        """The messages in a repeated field."""
        return [Message(value) for value in self._fields.get(number, ()) if isinstance(value, bytes)]

    def time(self, number: int) -> str:
        """A `Timestamp` as RFC 3339; empty if there is none, or the time that is none in Go."""
        moment = Message(self.data(number))
        if not self.has(number) or moment.number(1) == _NO_TIME_S:
            return ""
        try:
            second = (_EPOCH + timedelta(seconds=moment.number(1))).isoformat().removesuffix("+00:00")
        except OverflowError:
            raise ValueError("a time is not between the years 1 and 9999") from None
        if not 0 <= moment.number(2) < _SECOND_NS:
            raise ValueError("a time has more than a second of nanoseconds")
        return f"{second}.{moment.number(2):09}Z"

    def duration(self, number: int) -> str:
        """A `Duration`; empty if there is none."""
        size = Message(self.data(number))
        size_ns = size.number(1) * _SECOND_NS + size.number(2)
        return f"{size_ns}ns" if size_ns else ""

    def _last(self, number: int) -> int | bytes | None:
        return self._fields.get(number, [None])[-1]


def put_texts(number: int, texts: Iterable[str]) -> bytes:
    return b"".join(put_bytes(number, text.encode()) for text in texts)


def put_text(number: int, text: str) -> bytes:
    return put_bytes(number, text.encode()) if text else b""


def put_operation(operation: Mapping[str, str]) -> bytes:
    """An `Operation`, of which both generations have the same."""
    return put_text(1, operation["name"]) + put_text(2, operation["spanKind"])


def put_dependency(link: Object) -> bytes:
    return put_text(1, link["parent"]) + put_text(2, link["child"]) + put_number(3, int(link["callCount"]))


def put_summary(summary: Object) -> bytes:
    """A `TraceSummary`."""
    services = (
        put_text(1, service["name"])
        + put_number(2, service["spanCount"])
        + put_number(3, service["errorSpanCount"])
        for service in summary["services"]
    )
    return b"".join(
        (
            put_text(1, summary["traceId"]),
            put_text(2, summary["rootServiceName"]),
            put_text(3, summary["rootOperationName"]),
            put_fixed64(4, int(summary["minStartTimeUnixNano"])),
            put_fixed64(5, int(summary["maxEndTimeUnixNano"])),
            put_number(6, summary["spanCount"]),
            put_number(7, summary["errorSpanCount"]),
            put_number(8, summary["orphanSpanCount"]),
            *(put_bytes(9, service) for service in services),
        )
    )


def traces_data(entry: Object) -> Iterator[bytes]:
    """Messages `TracesData` with all of an entry of `resourceSpans`, none of them much too large."""
    resource = put_bytes(1, _put_pairs(1, entry["resource"]["attributes"]))
    for scope_spans in entry["scopeSpans"]:
        scope = scope_spans["scope"]
        head = put_bytes(1, put_text(1, scope.get("name", "")) + put_text(2, scope.get("version", "")))
        spans = (put_bytes(2, _put_otlp_span(span)) for span in scope_spans["spans"])
        for chunk in chunked(spans):
            yield put_bytes(1, resource + put_bytes(2, head + chunk))


def chunked(parts: Iterable[bytes], count: int = 0) -> Iterator[bytes]:
    """The parts together, in chunks of a bounded size, and of so many parts at most."""
    chunk: list[bytes] = []
    size = 0
    for part in parts:
        chunk.append(part)
        size += len(part)
        if size >= _CHUNK_BYTES or len(chunk) == count:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)


def _put_otlp_span(span: Object) -> bytes:
    status = span["status"]
    events = (
        put_fixed64(1, int(event["timeUnixNano"]))
        + put_text(2, event["name"])
        + _put_pairs(3, event["attributes"])
        for event in span.get("events", ())
    )
    links = (
        put_bytes(1, bytes.fromhex(link["traceId"]))
        + put_bytes(2, bytes.fromhex(link["spanId"]))
        + _put_pairs(4, link["attributes"])
        for link in span.get("links", ())
    )
    return b"".join(
        (
            put_bytes(1, bytes.fromhex(span["traceId"])),
            put_bytes(2, bytes.fromhex(span["spanId"])),
            put_text(3, span.get("traceState", "")),
            put_bytes(4, bytes.fromhex(span["parentSpanId"])) if "parentSpanId" in span else b"",
            put_text(5, span["name"]),
            put_number(6, span["kind"]),
            put_fixed64(7, int(span["startTimeUnixNano"])),
            put_fixed64(8, int(span["endTimeUnixNano"])),
            _put_pairs(9, span["attributes"]),
            *(put_bytes(11, event) for event in events),
            *(put_bytes(13, link) for link in links),
            put_bytes(15, put_text(2, status.get("message", "")) + put_number(3, status.get("code", 0))),
        )
    )


def _put_pairs(number: int, pairs: Iterable[Object]) -> bytes:
    return b"".join(
        put_bytes(number, put_text(1, pair["key"]) + put_bytes(2, _put_value(pair["value"])))
        for pair in pairs
    )


def _put_value(value: Object) -> bytes:
    """An `AnyValue`, of which even an empty text says which form it has."""
    if not value:
        return b""
    form, content = next(iter(value.items()))
    match form:
        case "boolValue":
            return put_number(2, content)
        case "intValue":
            return put_number(3, int(content))
        case "doubleValue":
            return put_double(4, content)
        case "arrayValue":
            return put_bytes(5, b"".join(put_bytes(1, _put_value(item)) for item in content["values"]))
        case "kvlistValue":
            return put_bytes(6, _put_pairs(1, content["values"]))
    return put_bytes(1, str(content).encode())


def put_double(number: int, value: float) -> bytes:
    return put_fixed64(number, int.from_bytes(struct.pack("<d", value), "little"))


def put_span(span: Span) -> bytes:
    """A `Span` of v2, with its process in it."""
    process = put_text(1, span.service) + _put_tags(2, span.details.resource)
    references = (
        put_bytes(1, bytes.fromhex(trace_id))
        + put_bytes(2, bytes.fromhex(span_id))
        + put_number(3, _REFERENCE_TYPES[kind])
        for kind, trace_id, span_id in jaeger.references(span)
    )
    logs = (
        put_bytes(1, _put_time(event.time_ns)) + _put_tags(2, jaeger.fields(event))
        for event in span.details.events
    )
    return b"".join(
        (
            put_bytes(1, bytes.fromhex(span.trace_id)),
            put_bytes(2, bytes.fromhex(span.span_id)),
            put_text(3, span.name),
            *(put_bytes(4, reference) for reference in references),
            put_bytes(6, _put_time(span.start_ns)),
            put_bytes(7, _put_time(span.duration_ns)),
            _put_tags(8, jaeger.attributes(span)),
            *(put_bytes(9, log) for log in logs),
            put_bytes(10, process),
        )
    )


def _put_time(time_ns: int) -> bytes:
    """A `Timestamp`, or a `Duration`, which looks the same."""
    return put_number(1, time_ns // _SECOND_NS) + put_number(2, time_ns % _SECOND_NS)


def _put_tags(number: int, attributes: Mapping[str, Any]) -> bytes:
    return b"".join(
        put_bytes(number, put_text(1, key) + _put_tag(value)) for key, value in attributes.items()
    )


def _put_tag(value: Any) -> bytes:
    """Type and value of a `KeyValue`."""
    match value:
        case bool():
            return put_number(2, _BOOL) + put_number(4, value)
        case int():
            return put_number(2, _INT) + put_number(5, value)
        case float():
            return put_number(2, _FLOAT) + put_double(6, value)
    return put_text(3, str(jaeger.plain(value)))
