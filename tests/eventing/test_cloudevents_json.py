"""The JSON format of CloudEvents: the conformance project's cases for formats, and data of all kinds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.eventing.cloudevents import json_format
from ondol.eventing.cloudevents.errors import Malformed
from ondol.eventing.cloudevents.event import Event, new

MINIMAL = {"specversion": "1.0", "id": "minimal", "type": "io.cloudevents.test", "source": "https://c.io"}
ALL_CORE = {
    **MINIMAL,
    "datacontenttype": "text/plain",
    "dataschema": "https://c.io/dataschema",
    "subject": "tests",
    "time": "2018-04-05T17:31:00Z",
}
EXTENSIONS = {
    "extinteger": 10,
    "extboolean": True,
    "extstring": "text",
    "exturi": "https://c.io",
    "exturiref": "//authority/path",
    "exttimestamp": "2023-03-31T15:12:00Z",
    "extbinary": "TWE=",
}


def _decoded(document: Any) -> Event:
    return json_format.decode(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("document", "attributes"),
    [
        (MINIMAL, MINIMAL),
        ({**MINIMAL, "datacontenttype": None, "dataschema": None, "subject": None, "time": None}, MINIMAL),
        ({**MINIMAL, "myext": None, "data_base64": None}, MINIMAL),
        (ALL_CORE, ALL_CORE),
        ({**MINIMAL, "source": "#fragment"}, {**MINIMAL, "source": "#fragment"}),
        ({**MINIMAL, **EXTENSIONS}, {**MINIMAL, **EXTENSIONS, "extinteger": "10", "extboolean": "true"}),
        ({**MINIMAL, "extinteger": -2147483648}, {**MINIMAL, "extinteger": "-2147483648"}),
    ],
)
def test_valid_events(document: dict[str, Any], attributes: dict[str, str]) -> None:
    """Attributes are kept as their canonical strings; one that is null is not there."""
    event = _decoded(document)
    assert event.attributes == attributes
    assert event.data is None


@pytest.mark.parametrize(
    "time",
    [
        "2018-04-05T17:31:00Z",
        "2018-04-05T17:31:00.000000000Z",
        "2018-04-05T18:31:00+01:00",
        "2018-04-05T16:31:00-01:00",
        "2018-04-05t17:31:00z",
        "2016-12-31T23:59:60Z",
        "2024-02-29T00:00:00Z",
    ],
)
def test_valid_times(time: str) -> None:
    """Any time that RFC 3339 can say, kept as it was said."""
    assert _decoded({**MINIMAL, "time": time}).time == time


@pytest.mark.parametrize(
    "time",
    [
        "lunchtime",
        "2018-04-05T18:31Z",
        "2018-04-05T18:31:00X",
        "2018-04-05T18:31:00",
        "2018-04-05T18:31:00+25:00",
        "2018-04-05T18:31:00+xx:00",
        "2018-04-05T18:31:00+05",
        "2018-04-05 18:31:00Z",
        "2018-04-05T24:00:00Z",
        "2018-04-31T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2018-13-01T00:00:00Z",
        "2018-04-05T18:31:00.Z",
        "\uff12018-04-05T18:31:00Z",
        "",
    ],
)
def test_invalid_times(time: str) -> None:
    """What is no time of RFC 3339 is refused."""
    with pytest.raises(Malformed, match="attribute time"):
        _decoded({**MINIMAL, "time": time})


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in MINIMAL.items() if key != name}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (_without("specversion"), "attribute specversion is required"),
        (_without("id"), "attribute id is required"),
        (_without("type"), "attribute type is required"),
        (_without("source"), "attribute source is required"),
        ({**MINIMAL, "id": None}, "attribute id is required"),
        ({**MINIMAL, "id": ""}, "attribute id is required and must not be empty"),
        ({**MINIMAL, "type": ""}, "attribute type is required and must not be empty"),
        ({**MINIMAL, "source": ""}, "attribute source is required and must not be empty"),
        ({**MINIMAL, "specversion": ""}, "specversion '' is not supported"),
        ({**MINIMAL, "specversion": "0.9"}, "specversion '0.9' is not supported"),
        ({**MINIMAL, "specversion": 1.0}, "attribute specversion must be a string"),
        ({**MINIMAL, "datacontenttype": "xyz"}, "attribute datacontenttype is not a media type"),
        ({**MINIMAL, "datacontenttype": ""}, "attribute datacontenttype must not be empty"),
        ({**MINIMAL, "dataschema": ""}, "attribute dataschema must not be empty"),
        ({**MINIMAL, "subject": ""}, "attribute subject must not be empty"),
        ({**MINIMAL, "id": 25}, "attribute id must be a string"),
        ({**MINIMAL, "id": {"xyz": "abc"}}, "attribute id must be a string"),
        ({**MINIMAL, "MyExtension": "bad"}, "attribute name 'MyExtension' is invalid"),
        ({**MINIMAL, "my.extension": "bad"}, "attribute name 'my.extension' is invalid"),
        ({**MINIMAL, "": None}, "attribute name '' is invalid"),
        ({**MINIMAL, "ext": 1.5}, "attribute ext must be a string, a boolean or an integer of 32 bits"),
        ({**MINIMAL, "ext": 2147483648}, "an integer of 32 bits"),
        ({**MINIMAL, "ext": 10**400}, "an integer of 32 bits"),
        ({**MINIMAL, "ext": ["a"]}, "attribute ext must be a string"),
        ({**MINIMAL, "ext": "a\nb"}, "attribute ext has the character U+000A"),
        ({**MINIMAL, "data": "text", "data_base64": "eyAieHl6IjogMTIzIH0="}, "exclude each other"),
        ({**MINIMAL, "data_base64": "%%%"}, "data_base64 is not Base64"),
        ({**MINIMAL, "data_base64": "TWE"}, "data_base64 is not Base64"),
        ({**MINIMAL, "data_base64": 5}, "data_base64 must be a string"),
        (["not an object"], "the event is not a JSON object"),
        ("text", "the event is not a JSON object"),
        (None, "the event is not a JSON object"),
    ],
)
def test_invalid_events(document: Any, message: str) -> None:
    """Refused with the reason."""
    with pytest.raises(Malformed) as raised:
        _decoded(document)
    assert message in raised.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"specversion":"1.0"',
        b'{"id": "\\ud800"}',
        b'{"specversion":"1.0","id":"\xff","type":"t","source":"/s"}',
        b"[" * 100_000,
        b'{"specversion":"1.0","id":"1","type":"t","source":"/s","data":' + b"[" * 100_000 + b"}",
        b'{"specversion":"1.0","id":"1","type":"t","source":"/s","data":"\xff"}',
        b'{"specversion":"1.0","id":"1","type":"t","source":"/s","data":{"a":"\xff"}}',
    ],
    ids=range(10),
)
def test_bodies_that_are_no_documents(body: bytes) -> None:
    """Cut off, nested too deeply or not UTF-8: refused, and nothing else happens."""
    with pytest.raises(Malformed):
        json_format.decode(body)


@pytest.mark.parametrize(
    ("members", "content_type", "payload"),
    [
        ('"datacontenttype":"text/plain","data":"Simple text"', "text/plain", b"Simple text"),
        ('"datacontenttype":"application/xml","data":"<much wow=\\"xml\\"/>"', None, b'<much wow="xml"/>'),
        ('"data":"I\'m just a string"', "application/json", b'"I\'m just a string"'),
        ('"datacontenttype":"application/json","data":"{}"', "application/json", b'"{}"'),
        ('"datacontenttype":"application/geo+json","data":1.50', None, b"1.50"),
        ('"datacontenttype":"Application/JSON;a=b","data": {"b" :1}', None, b'{"b" :1}'),
        ('"data":12345678901234567890123.10', "application/json", b"12345678901234567890123.10"),
        ('"data":1e999', "application/json", b"1e999"),
        ('"data":null', "application/json", b"null"),
        ('"datacontenttype":"text/plain","data":{"a":1}', "text/plain", b'{"a":1}'),
        ('"datacontenttype":"text/plain","data":""', "text/plain", b""),
        ('"data_base64":"eyAieHl6IjogMTIzIH0="', "", b'{ "xyz": 123 }'),
        ('"datacontenttype":"image/png","data_base64":"AAH/"', "image/png", b"\x00\x01\xff"),
    ],
)
def test_data(members: str, content_type: str | None, payload: bytes) -> None:
    """JSON is kept to the letter, text of another type is the text, and Base64 is bytes."""
    document = json.dumps(MINIMAL)[:-1] + "," + members + "}"
    event = json_format.decode(document.encode())
    assert event.data == payload
    if content_type is not None:
        assert (event.datacontenttype or "") == content_type


@pytest.mark.parametrize(
    ("documents", "count"),
    [
        ([], 0),
        ([MINIMAL], 1),
        ([MINIMAL, MINIMAL], 2),
        ([MINIMAL, ALL_CORE], 2),
        ([{**MINIMAL, **EXTENSIONS}], 1),
    ],
)
def test_valid_batches(documents: list[Any], count: int) -> None:
    """A list of events, also of none and of equal ones."""
    assert len(json_format.decode_batch(json.dumps(documents).encode())) == count


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([MINIMAL, {**MINIMAL, "specversion": "0.9"}], "event 1 of the batch: specversion '0.9'"),
        ([_without("id")], "event 0 of the batch: attribute id is required"),
        (["not an object", MINIMAL], "event 0 of the batch: the event is not a JSON object"),
        (MINIMAL, "the batch is not a JSON array"),
    ],
)
def test_invalid_batches(documents: Any, message: str) -> None:
    """The first event that is none is named."""
    with pytest.raises(Malformed) as raised:
        json_format.decode_batch(json.dumps(documents).encode())
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("content_type", "payload", "member"),
    [
        ("application/json", b'{"a": 1}', '"data":{"a": 1}'),
        ("application/json", b'"{}"', '"data":"{}"'),
        ("application/json", b"not json", '"data_base64":"bm90IGpzb24="'),
        ("application/json", b"[" * 50_000, '"data_base64":'),
        ("text/plain", b"text", '"data":"text"'),
        ("text/plain", b"\xff", '"data_base64":"/w=="'),
        ("application/atom+xml", b"<a/>", '"data":"<a/>"'),
        ("image/png", b"png", '"data_base64":"cG5n"'),
        (None, b"{}", '"data_base64":"e30="'),
    ],
)
def test_how_data_is_written(content_type: str | None, payload: bytes, member: str) -> None:
    """JSON as it is, text as a string, all else in Base64; bytes of no type are never taken for JSON."""
    event = new(id="1", source="/s", type="t", data=payload)
    if content_type is not None:
        event = event.with_attributes(datacontenttype=content_type)
    body = json_format.encode(event).decode()
    assert member in body
    assert json_format.decode(body.encode()) == event


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(), st.lists, max_leaves=5))
def test_json_data_goes_through_unchanged(value: Any) -> None:
    """Whatever JSON it is."""
    data = json.dumps(value).encode()
    event = new(id="1", source="/s", type="t", data=data, datacontenttype="application/json")
    assert json_format.decode(json_format.encode(event)) == event


@given(st.binary(max_size=60))
def test_any_body_is_an_event_or_refused(body: bytes) -> None:
    """Nothing but `Malformed` comes out of strange bytes."""
    with pytest.raises(Malformed):
        json_format.decode(body)


FORMER = {**MINIMAL, "specversion": "0.3"}


@pytest.mark.parametrize(
    ("members", "payload"),
    [
        ({"data": {"a": 1}}, b'{"a":1}'),
        ({"datacontenttype": "text/plain", "data": "hi"}, b"hi"),
        ({"datacontenttype": "image/png", "datacontentencoding": "base64", "data": "AAH/"}, b"\x00\x01\xff"),
        ({"datacontenttype": "image/png", "datacontentencoding": "Base64"}, None),
    ],
)
def test_documents_of_the_version_before(members: dict[str, Any], payload: bytes | None) -> None:
    """Their Base64 is said by an attribute; what is written of them is read as the same event."""
    event = json_format.decode(json.dumps({**FORMER, **members}, separators=(",", ":")).encode())
    assert event.data == payload
    assert event.attributes["specversion"] == "0.3"
    assert "datacontentencoding" not in event.attributes
    assert json_format.decode(json_format.encode(event)) == event
    assert b"data_base64" not in json_format.encode(event)


def test_text_that_a_header_called_base64_stays_text() -> None:
    """Who sent it encoded it; a document carries it as it came."""
    event = Event({**FORMER, "datacontentencoding": "base64", "datacontenttype": "image/png"}, b"AAH/")
    assert json.loads(json_format.encode(event))["data"] == "AAH/"
    assert json_format.decode(json_format.encode(event)).data == b"\x00\x01\xff"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"data_base64": "AAH/"}, "data_base64 came with version 1.0"),
        ({"datacontentencoding": "base64", "data": "%"}, "data is not Base64"),
        ({"datacontentencoding": "base64", "data": {}}, "data must be a string"),
        ({"datacontentencoding": "gzip", "data": ""}, "'gzip' is not supported"),
    ],
)
def test_invalid_documents_of_the_version_before(members: dict[str, Any], message: str) -> None:
    """The reason names the member."""
    with pytest.raises(Malformed, match=message):
        json_format.decode(json.dumps({**FORMER, **members}).encode())
