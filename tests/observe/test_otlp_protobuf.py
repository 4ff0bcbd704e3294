"""Exports read from the wire: the same rows as from the generated classes, and nothing but one error."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from ondol.base import errors, protowire
from ondol.contracts import proxy
from ondol.observe.traces import otlp_protobuf, spans
from ondol.observe.traces.spans import Details, Event, Link, Row, Span

_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.text(max_size=200),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.binary(max_size=20),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(("service.name", *proxy.CLUSTER_ATTRIBUTES)) | st.text(max_size=150)
_CLUSTERS = st.sampled_from(("outbound|80|v1|reviews.shop.svc.cluster.local", "outbound|80||b.c", "local"))
_PAIRS = st.lists(st.tuples(_KEYS, _VALUES | _CLUSTERS), max_size=6)
_TIMES = st.integers(0, 2**64 - 1) | st.integers(0, 2**62)
_IDS = st.binary(min_size=16, max_size=16) | st.sampled_from((b"", b"\0" * 16))
_SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.binary(min_size=16, max_size=16) | st.binary(max_size=20),
        "span_id": st.binary(min_size=8, max_size=8) | st.binary(max_size=10),
        "parent_span_id": st.sampled_from((b"", b"\0" * 8)) | st.binary(min_size=8, max_size=8),
        "trace_state": st.text(max_size=5),
        "name": st.text(max_size=150),
        "kind": st.integers(-(2**31), 2**31 - 1) | st.integers(0, 6),
        "start_time_unix_nano": _TIMES,
        "end_time_unix_nano": _TIMES,
        "code": st.integers(0, 3),
        "message": st.text(max_size=5),
        "attributes": _PAIRS,
        "events": st.lists(st.tuples(st.text(max_size=5), _TIMES, _PAIRS), max_size=2)
        | st.just([("event", 1, [])] * 130),
        "links": st.lists(st.tuples(_IDS, st.binary(min_size=8, max_size=8), _PAIRS), max_size=2),
    }
)
_RESOURCES = st.lists(st.tuples(_PAIRS, st.lists(st.lists(_SPANS, max_size=3), max_size=2)), max_size=3)


def _put(target: Any, value: Any) -> None:
    """A Python value into an `AnyValue`."""
    match value:
        case None:
            pass
        case bool():
            target.bool_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case str():
            target.string_value = value
        case bytes():
            target.bytes_value = value
        case list():
            target.array_value.SetInParent()
            for item in value:
                _put(target.array_value.values.add(), item)
        case dict():
            target.kvlist_value.SetInParent()
            _put_pairs(target.kvlist_value.values, value.items())


def _put_pairs(target: Any, pairs: Iterable[tuple[str, Any]]) -> None:
    for key, value in pairs:
        _put(target.add(key=key).value, value)


def _scopes(resource_spans: Any) -> Any:
    """Field 2 by number: releases of the generated classes have called it by different names."""
    return getattr(resource_spans, resource_spans.DESCRIPTOR.fields_by_number[2].name)


def _encoded(resources: Any) -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    for attributes, scopes in resources:
        resource_spans = request.resource_spans.add()
        _put_pairs(resource_spans.resource.attributes, attributes)
        for scope in scopes:
            target = _scopes(resource_spans).add().spans
            for fields in scope:
                apart = ("attributes", "code", "message", "events", "links")
                span = target.add(**{name: value for name, value in fields.items() if name not in apart})
                _put_pairs(span.attributes, fields["attributes"])
                span.status.code, span.status.message = fields["code"], fields["message"]
                for name, time_ns, pairs in fields["events"]:
                    _put_pairs(span.events.add(name=name, time_unix_nano=time_ns).attributes, pairs)
                for trace_id, span_id, pairs in fields["links"]:
                    _put_pairs(span.links.add(trace_id=trace_id, span_id=span_id).attributes, pairs)
    return bytes(request.SerializeToString())


def _by_classes(body: bytes) -> list[Row]:
    """The rows as the generated classes have it; `DecodeError` if they do not read the bytes."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    return [
        spans.row(
            Span(
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=spans.parent(span.parent_span_id.hex()),
                service=spans.service(_dict(resource_spans.resource.attributes)),
                name=span.name,
                kind=spans.kind(span.kind),
                start_ns=span.start_time_unix_nano,
                duration_ns=max(0, span.end_time_unix_nano - span.start_time_unix_nano),
                error=span.status.code == 2,
                attributes=_dict(span.attributes),
                details=_details(span, resource_spans, scope),
            )
        )
        for resource_spans in request.resource_spans
        for scope in _scopes(resource_spans)
        for span in scope.spans
    ]


def _details(span: Any, resource_spans: Any, scope: Any) -> Details:
    library = getattr(scope, scope.DESCRIPTOR.fields_by_number[1].name)
    resource = _dict(resource_spans.resource.attributes)
    resource.pop("service.name", None)
    return Details(
        events=tuple(
            Event(time_ns=event.time_unix_nano, name=event.name, attributes=_dict(event.attributes))
            for event in span.events[:128]
        ),
        links=tuple(
            Link(trace_id=link.trace_id.hex(), span_id=link.span_id.hex(), attributes=_dict(link.attributes))
            for link in span.links[:128]
            if len(link.trace_id.strip(b"\0")) and len(link.trace_id) == 16
            if len(link.span_id.strip(b"\0")) and len(link.span_id) == 8
        ),
        resource=resource,
        scope=library.name,
        scope_version=library.version,
        message=span.status.message,
        is_ok=span.status.code == 1,
        trace_state=span.trace_state,
    )


def _dict(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _python(pair.value) for pair in pairs}


def _python(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    content = getattr(value, which)
    if which == "array_value":
        return [_python(item) for item in content.values]
    if which == "kvlist_value":
        return _dict(content.values)
    return content.hex() if which == "bytes_value" else content


def _rows(body: bytes) -> list[Row] | None:
    """The rows that are read; None if the bytes are refused, which is the only error there is."""
    try:
        return list(otlp_protobuf.rows(body))
    except errors.BadRequest:
        return None


def _agree(body: bytes) -> None:
    """What the classes read is read alike. They refuse more: text that is not stored is not looked at."""
    try:
        expected = _by_classes(body)
    except DecodeError:
        _rows(body)
    else:
        assert _rows(body) == expected


@given(_RESOURCES)
def test_rows_are_those_of_the_generated_classes(resources: Any) -> None:
    """Whatever an exporter may send, the rows are the same, field by field and byte by byte."""
    body = _encoded(resources)
    assert _rows(body) == _by_classes(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_alike_or_refused(body: bytes) -> None:
    """Bytes that are no export give the one error; if the classes read them, the rows are theirs."""
    _agree(body)


@given(_RESOURCES, st.data())
def test_damaged_exports_are_read_alike_or_refused(resources: Any, data: st.DataObject) -> None:
    """Exports cut short, with bytes changed, doubled or taken out."""
    body = bytearray(_encoded(resources))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        end = min(len(body), at + data.draw(st.integers(0, 3)))
        body[at:end] = data.draw(st.binary(max_size=3)) + body[at:end] * data.draw(st.integers(0, 2))
    _agree(bytes(body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body))


def _wire(*parts: bytes, around: Iterable[int] = ()) -> bytes:
    """Fields as one message, put into further ones by their numbers, the innermost first."""
    body = b"".join(parts)
    for number in around:
        body = protowire.put_bytes(number, body)
    return body


_SPAN = (2, 2, 1)
"""The numbers by which a span lies in an export, from the inside."""
_VALUE = (2, 9, *_SPAN)
"""Likewise a value."""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_wire(b"\x2a\x01a", b"\x2a\x01b", around=_SPAN), id="the last name"),
        pytest.param(_wire(b"\x30\x82\x80\x80\x80\x10", around=_SPAN), id="a kind of more than 32 bits"),
        pytest.param(_wire(b"\x7a\x02\x18\x02\x7a\x00", around=_SPAN), id="a status in two parts"),
        pytest.param(_wire(b"\x28\x07\x2a\x01a", around=_SPAN), id="a name that is a number"),
        pytest.param(_wire(b"\xaa\x00\x01a", around=_SPAN), id="a tag longer than it need be"),
        pytest.param(_wire(b"\x0b\x0b\x08\x01\x0c\x0c\x2a\x01a", around=_SPAN), id="groups"),
        pytest.param(_wire(b"\x2a\x00\x0a\x01a\x10\x01\x2a\x00", around=_VALUE), id="a value of many forms"),
        pytest.param(_wire(b"\x2a\x04\x0a\x02\x10\x01" * 2, around=_VALUE), id="a list in two"),
        pytest.param(_wire(b"\x12\x02\x10\x01\x0a\x01k\x12\x00", around=(9, *_SPAN)), id="a value in two"),
        pytest.param(
            _wire(_wire(around=(2, 2)), b"\x0a\x00", _wire(b"\x0a\x01k", around=(1, 1)), around=(1,)),
            id="a resource after its spans, in two",
        ),
    ],
)
def test_unusual_forms_are_read_as_the_classes_read_them(body: bytes) -> None:
    """Protobuf allows fields in any order, again, in parts and with what nobody knows."""
    assert _by_classes(body)
    assert _rows(body) == _by_classes(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x0a", id="no length"),
        pytest.param(b"\x0a\x05\x12", id="a length past the end"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="a length of 2^64"),
        pytest.param(b"\x0a" + b"\x80" * 11, id="a varint without an end"),
        pytest.param(b"\x02\x00", id="field 0"),
        pytest.param(b"\x0e", id="wire type 6"),
        pytest.param(b"\x0c", id="the end of no group"),
        pytest.param(b"\x0b\x14", id="the end of another group"),
        pytest.param(b"\x0b", id="a group without an end"),
        pytest.param(b"\x0b" * 100_000, id="groups in groups"),
        pytest.param(b"\x09\x00", id="a number cut short"),
        pytest.param(_wire(b"\x4a\x20\x0a", around=_SPAN), id="an attribute past its span"),
        pytest.param(_wire(b"\x4a", around=_SPAN), id="an attribute without a length"),
        pytest.param(_wire(b"\x2a\x01\xff", around=_SPAN), id="a name that is no text"),
        pytest.param(_wire(b"\x0a\x01\xff", around=(9, *_SPAN)), id="a key that is no text"),
        pytest.param(_wire(b"\x0a\x01\xff", around=_VALUE), id="a value that is no text"),
        pytest.param(_wire(around=((1, 5) * 200) + _VALUE), id="lists in lists"),
        pytest.param(_wire(around=((2, 1, 6) * 200) + _VALUE), id="maps in maps"),
    ],
)
def test_malformed_exports_are_refused(body: bytes) -> None:
    """By the one error, as the classes refuse them."""
    with pytest.raises(DecodeError):
        _by_classes(body)
    with pytest.raises(errors.BadRequest, match="not an OTLP trace export"):
        list(otlp_protobuf.rows(body))


class _Counted(bytes):
    """Bytes that count how many of them are copied out."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(key, slice):
            _Counted.copied += len(part)
            return _Counted(part)
        return part


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(_wire(around=(1, 1)), id="a resource in many parts"),
        pytest.param(_wire(b"\x2a\x00", around=(2, 9, 2, 2)), id="many values"),
        pytest.param(_wire(around=(2, 2)), id="many empty spans"),
        pytest.param(_wire(b"\x2a\x00" * 20, around=(2, 9, 2, 2)), id="a value in many parts"),
    ],
)
def test_work_grows_with_the_bytes_alone(piece: bytes) -> None:
    """Ten times the pieces are ten times the bytes looked at, not a hundred."""

    def copied(count: int) -> int:
        _Counted.copied = 0
        _rows(_Counted(protowire.put_bytes(1, piece * count)))
        return _Counted.copied

    copied(100)  # short attributes are remembered from here on
    assert copied(1_000) <= 11 * copied(100)


@given(st.dictionaries(st.text(max_size=150), _VALUES, max_size=3), st.integers(0, 200))
@example({"upstream_cluster": "outbound|80|v1|reviews.shop"}, 0)
def test_what_is_remembered_is_what_would_be_read(attributes: dict[str, Any], padding: int) -> None:
    """The same attributes a second time, beside others, give the same members."""
    request = common_pb2.KeyValueList()
    _put_pairs(request.values, [*attributes.items(), ("padding", "x" * padding)])
    body = _wire(*(protowire.put_bytes(9, pair.SerializeToString()) for pair in request.values), around=_SPAN)
    assert _rows(body) == _rows(body) == _by_classes(body)


def test_doubles_of_every_kind() -> None:
    """JSON has no infinities: both forms store null for them."""
    for number in (1.5, float("inf"), float("nan")):
        body = _wire(b"\x21" + struct.pack("<d", number), around=_VALUE)
        assert _rows(body) == _by_classes(body)
