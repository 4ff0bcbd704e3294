"""OTLP trace exports in protobuf, read field by field (opentelemetry-proto 1.x).

What a row of the store needs is read, everything else is passed over, and what most spans share is read
once: no objects are built only to ask them for their values, and no generated classes are loaded. As with
protobuf's own readers the last of a repeated single field counts, the parts of a message that comes in
pieces are one message, and a known number with another wire type is unknown.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from ondol.base import errors, protowire
from ondol.contracts import proxy
from ondol.observe.traces import spans
from ondol.observe.traces.spans import Details, Event, Link, Row

# Tags: number << 3 | wire type, of ExportTraceServiceRequest, ResourceSpans, Resource, ScopeSpans, ...
_RESOURCE_SPANS: Final = 1 << 3 | protowire.BYTES
_RESOURCE: Final = 1 << 3 | protowire.BYTES
_SCOPE_SPANS: Final = 2 << 3 | protowire.BYTES
_RESOURCE_ATTRIBUTES: Final = 1 << 3 | protowire.BYTES
_SCOPE: Final = 1 << 3 | protowire.BYTES
_SCOPE_NAME: Final = 1 << 3 | protowire.BYTES
_SCOPE_VERSION: Final = 2 << 3 | protowire.BYTES
_SPANS: Final = 2 << 3 | protowire.BYTES
# ... of Span and Status, ...
_TRACE_ID: Final = 1 << 3 | protowire.BYTES
_SPAN_ID: Final = 2 << 3 | protowire.BYTES
_TRACE_STATE: Final = 3 << 3 | protowire.BYTES
_PARENT_ID: Final = 4 << 3 | protowire.BYTES
_NAME: Final = 5 << 3 | protowire.BYTES
_KIND: Final = 6 << 3 | protowire.VARINT
_START: Final = 7 << 3 | protowire.FIXED64
_END: Final = 8 << 3 | protowire.FIXED64
_ATTRIBUTES: Final = 9 << 3 | protowire.BYTES
_EVENTS: Final = 11 << 3 | protowire.BYTES
_LINKS: Final = 13 << 3 | protowire.BYTES
_STATUS: Final = 15 << 3 | protowire.BYTES
_MESSAGE: Final = 2 << 3 | protowire.BYTES
_CODE: Final = 3 << 3 | protowire.VARINT
_RARE: Final = frozenset({_TRACE_STATE, _EVENTS, _LINKS, _STATUS})
"""What of a span goes into its details."""
# ... of Event and Link, ...
_EVENT_TIME: Final = 1 << 3 | protowire.FIXED64
_EVENT_NAME: Final = 2 << 3 | protowire.BYTES
_EVENT_ATTRIBUTES: Final = 3 << 3 | protowire.BYTES
_LINK_TRACE_ID: Final = 1 << 3 | protowire.BYTES
_LINK_SPAN_ID: Final = 2 << 3 | protowire.BYTES
_LINK_ATTRIBUTES: Final = 4 << 3 | protowire.BYTES
# ... of KeyValue, and of AnyValue, whose fields exclude one another, ArrayValue and KeyValueList.
_KEY: Final = 1 << 3 | protowire.BYTES
_VALUE: Final = 2 << 3 | protowire.BYTES
_STRING: Final = 1 << 3 | protowire.BYTES
_BOOL: Final = 2 << 3 | protowire.VARINT
_INT: Final = 3 << 3 | protowire.VARINT
_DOUBLE: Final = 4 << 3 | protowire.FIXED64
_ARRAY: Final = 5 << 3 | protowire.BYTES
_PAIRS: Final = 6 << 3 | protowire.BYTES
_RAW: Final = 7 << 3 | protowire.BYTES
_ITEMS: Final = 1 << 3 | protowire.BYTES
_VALUES: Final = frozenset({_STRING, _BOOL, _INT, _DOUBLE, _ARRAY, _PAIRS, _RAW})

_ENUM: Final = (1 << 32) - 1
"""Enumerations have 32 bits, whatever their varint has."""
_DEPTH_MAX: Final = 100
"""How deep values may lie in one another: what protobuf's own readers allow of messages."""
_SHORT_BYTES: Final = 256
_SHORT_COUNT: Final = 2048
"""So many short attributes and called clusters are remembered: most recur from span to span."""


def rows(body: bytes) -> Iterator[Row]:
    """Spans of an `ExportTraceServiceRequest`; `BadRequest` on the way if it is none."""
    try:
        for tag, value in protowire.tagged(body):
            if tag == _RESOURCE_SPANS:
                yield from _resource_spans(value)
    except (ValueError, IndexError) as error:
        raise errors.BadRequest(f"not an OTLP trace export: {error}") from error


def _resource_spans(data: Any) -> Iterator[Row]:
    resource: list[Any] = []
    scopes: list[Any] = []
    for tag, value in protowire.tagged(data):
        if tag == _RESOURCE:
            resource.append(value)
        elif tag == _SCOPE_SPANS:
            scopes.append(value)
    attributes = _pairs(resource, _RESOURCE_ATTRIBUTES, 1)
    service = spans.service(attributes)
    for scope in scopes:
        fields = list(protowire.tagged(scope))
        origin = _origin(attributes, [value for tag, value in fields if tag == _SCOPE])
        for tag, value in fields:
            if tag == _SPANS:
                yield _row(value, service, *origin)


def _origin(resource: dict[str, Any], scopes: Iterable[Any]) -> tuple[Details, bytes]:
    """What all spans of a scope share, and how that is stored."""
    name = version = b""
    value: Any
    for tag, value in (field for part in scopes for field in protowire.tagged(part)):
        if tag == _SCOPE_NAME:
            name = value
        elif tag == _SCOPE_VERSION:
            version = value
    origin = spans.origin(resource, name.decode(), version.decode())
    return origin, spans.stored(origin)


def _row(data: Any, service: str, origin: Details, plain: bytes) -> Row:  # noqa: C901, PLR0912 - a branch for each field, where calls would cost most
    trace_id, span_id, parent_id, name, kind, start_ns, end_ns, at = _head(data) or _NO_HEAD
    code, end = 0, len(data)
    attributes: dict[str, bytes] = {}
    rare: list[tuple[int, Any]] = []
    value: Any
    while at < end:
        # Most of a span is short attributes: what `field` would answer, without a call for each.
        if data[at] == _ATTRIBUTES and (size := data[at + 1]) < 0x80:
            begin = at + 2
            at = begin + size
            key, member = _short_member(data[begin:at])
            attributes[key] = member
            continue
        tag, value, at = protowire.field(data, at)
        if tag == _ATTRIBUTES:
            key, member = _member(value)
            attributes[key] = member
        elif tag == _START:
            start_ns = int.from_bytes(value, "little")
        elif tag == _END:
            end_ns = int.from_bytes(value, "little")
        elif tag == _TRACE_ID:
            trace_id = value
        elif tag == _SPAN_ID:
            span_id = value
        elif tag == _PARENT_ID:
            parent_id = value
        elif tag == _NAME:
            name = value
        elif tag == _KIND:
            kind = value
        elif tag in _RARE:
            rare.append((tag, value))
            if tag == _STATUS:
                code = _code(value, code)
    if at > end:
        raise ValueError("unexpected EOF")
    called = _called(attributes)
    return Row(
        trace_id.hex(),
        span_id.hex(),
        spans.parent(parent_id.hex()),
        service,
        name.decode(),
        spans.kind(kind & _ENUM),
        start_ns,
        max(0, end_ns - start_ns),
        code & _ENUM == spans.STATUS_ERROR,
        b"{%b}" % b",".join(attributes.values()),
        called,
        spans.stored(_details(rare, origin, code & _ENUM)) if rare else plain,
    )


def _details(rare: Iterable[tuple[int, Any]], origin: Details, code: int) -> Details:
    events: list[Event] = []
    links: list[Link] = []
    message = trace_state = b""
    for tag, value in rare:
        if tag == _EVENTS and len(events) < spans.ITEMS_MAX:
            events.append(_event(value))
        elif tag == _LINKS and len(links) < spans.ITEMS_MAX:
            links.append(_link(value))
        elif tag == _TRACE_STATE:
            trace_state = value
        elif tag == _STATUS:
            message = next((text for inner, text in _backwards(value) if inner == _MESSAGE), message)
    return msgspec.structs.replace(
        origin,
        events=tuple(events),
        links=spans.links(links),
        message=message.decode(),
        is_ok=code == spans.STATUS_OK,
        trace_state=trace_state.decode(),
    )


def _backwards(data: bytes) -> Iterator[tuple[int, Any]]:
    return reversed(list(protowire.tagged(data)))


def _event(data: bytes) -> Event:
    time_ns, name = 0, b""
    value: Any
    attributes: dict[str, Any] = {}
    for tag, value in protowire.tagged(data):
        if tag == _EVENT_TIME:
            time_ns = int.from_bytes(value, "little")
        elif tag == _EVENT_NAME:
            name = value
        elif tag == _EVENT_ATTRIBUTES:
            attributes.update([_pair(value, 1)])
    return Event(time_ns=time_ns, name=name.decode(), attributes=attributes)


def _link(data: bytes) -> Link:
    trace_id = span_id = b""
    value: Any
    attributes: dict[str, Any] = {}
    for tag, value in protowire.tagged(data):
        if tag == _LINK_TRACE_ID:
            trace_id = value
        elif tag == _LINK_SPAN_ID:
            span_id = value
        elif tag == _LINK_ATTRIBUTES:
            attributes.update([_pair(value, 1)])
    return Link(trace_id=trace_id.hex(), span_id=span_id.hex(), attributes=attributes)


_IDS: Final = struct.Struct("<2s16s2s8s2s8s")
_TIMES: Final = struct.Struct("<BBBQBQ")
_NO_HEAD: Final = (b"", b"", b"", b"", 0, 0, 0, 0)


def _head(data: bytes) -> tuple[bytes, bytes, bytes, bytes, int, int, int, int] | None:
    """Ids, name, kind and times of a span in which they stand first and in order, and the place after them.

    So exporters write them. None if it is otherwise: then they are read one by one.
    """
    if len(data) < _IDS.size + 2:
        return None
    of_trace, trace_id, of_span, span_id, of_parent, parent_id = _IDS.unpack_from(data)
    if of_trace != b"\x0a\x10" or of_span != b"\x12\x08":
        return None
    at = _IDS.size
    if of_parent != b"\x22\x08":
        parent_id, at = b"", at - 10
    begin = at + 2
    at = begin + data[at + 1]
    if data[begin - 2] != _NAME or data[begin - 1] >= 0x80 or at + _TIMES.size > len(data):
        return None
    of_kind, kind, of_start, start_ns, of_end, end_ns = _TIMES.unpack_from(data, at)
    if of_kind != _KIND or kind >= 0x80 or of_start != _START or of_end != _END:
        return None
    return trace_id, span_id, parent_id, data[begin:at], kind, start_ns, end_ns, at + _TIMES.size


def _code(status: bytes, code: Any) -> Any:
    """The code of a status, of which earlier parts had said `code`."""
    for tag, value in protowire.tagged(status):
        if tag == _CODE:
            code = value
    return code


_OF_CALLEE: Final = (*proxy.CLUSTER_ATTRIBUTES, proxy.CALLEE_ATTRIBUTE)


def _called(attributes: dict[str, bytes]) -> str:
    members = tuple(map(attributes.get, _OF_CALLEE))
    if sum(len(member or b"") for member in members) > _SHORT_BYTES:
        return _called_in(members)
    return _short_called(members)


def _called_in(members: tuple[bytes | None, ...]) -> str:
    return spans.called(msgspec.json.decode(b"{%b}" % b",".join(filter(None, members))))


_short_called = functools.lru_cache(_SHORT_COUNT)(_called_in)


def _member(data: bytes) -> tuple[str, bytes]:
    """The key of an attribute, and the attribute as a member of a JSON object: `"key":value`."""
    key, value = _text_pair(data) or _pair(data, 1)
    return key, msgspec.json.encode({key: value})[1:-1]


_short_member = functools.lru_cache(_SHORT_COUNT)(_member)


def _text_pair(data: bytes) -> tuple[str, str] | None:
    """What `_pair` would answer for a short key with a short text, as nearly all are; None for others."""
    size = len(data)
    if not 6 <= size <= 0x80 or data[0] != _KEY:
        return None
    at = 2 + data[1]
    if at + 4 > size or data[at] != _VALUE or data[at + 2] != _STRING:
        return None
    if at + 4 + data[at + 3] != size or at + 2 + data[at + 1] != size:
        return None
    return data[2:at].decode(), data[at + 4 :].decode()


def _pair(data: bytes, depth: int) -> tuple[str, Any]:
    key: Any = b""
    parts: list[Any] = []
    for tag, value in protowire.tagged(data):
        if tag == _KEY:
            key = value
        elif tag == _VALUE:
            parts.append(value)
    return key.decode(), _value(parts, depth)


def _pairs(parts: Iterable[bytes], field: int, depth: int) -> dict[str, Any]:
    """The attributes in the parts of a message that has them in the field with this tag."""
    pairs: Iterator[Any] = (value for part in parts for tag, value in protowire.tagged(part) if tag == field)
    return dict(_pair(pair, depth) for pair in pairs)


def _value(parts: Iterable[bytes], depth: int) -> Any:
    """The value in the parts of an `AnyValue`; None if it has none."""
    if depth > _DEPTH_MAX:
        raise ValueError("values lie too deep in one another")
    which = 0
    contents: list[Any] = []
    for part in parts:
        for tag, content in protowire.tagged(part):
            if tag not in _VALUES:
                continue
            if tag != which or tag not in {_ARRAY, _PAIRS}:
                which, contents = tag, []
            contents.append(content)
    return _read(which, contents, depth) if contents else None


def _read(which: int, contents: list[Any], depth: int) -> Any:
    if which == _ARRAY:
        items: Iterator[Any] = (
            item for part in contents for tag, item in protowire.tagged(part) if tag == _ITEMS
        )
        return [_value([item], depth + 1) for item in items]
    if which == _PAIRS:
        return _pairs(contents, _ITEMS, depth + 1)
    return _SCALARS[which](contents[0])


_SCALARS: Final[dict[int, Any]] = {
    _STRING: bytes.decode,
    _BOOL: bool,
    _INT: protowire.signed,
    _DOUBLE: lambda content: struct.unpack("<d", content)[0],
    _RAW: bytes.hex,
}
