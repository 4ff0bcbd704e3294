"""CloudEvents over HTTP: what is read as an event, what is refused and why, and how one is sent."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.eventing.cloudevents import errors, http
from ondol.eventing.cloudevents.event import Event, new

Headers = list[tuple[bytes, bytes]]
REQUIRED: Headers = [
    (b"ce-specversion", b"1.0"),
    (b"ce-type", b"com.example.someevent"),
    (b"ce-id", b"1234-1234-1234"),
    (b"ce-source", b"/mycontext/subcontext"),
]
ATTRIBUTES = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "id": "1234-1234-1234",
    "source": "/mycontext/subcontext",
}
BODY = b'{\n    "message": "Hello World!"\n}'


def _with(name: str, value: bytes) -> Headers:
    return [*REQUIRED, (name.encode(), value)]


def _decoded(headers: Headers, body: bytes = b"") -> Event:
    [event] = http.decode(headers, body)
    return event


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_an_event_in_binary_mode(content_type: str) -> None:
    """Headers that begin with ce- are its attributes, the content type is one, the body is its data."""
    headers = [(b"host", b"example.com"), *REQUIRED, (b"ce-time", b"2018-04-05T03:56:24Z")]
    headers += [(b"content-type", content_type.encode()), (b"content-length", b"33")]
    event = _decoded(headers, BODY)
    assert event.attributes == {**ATTRIBUTES, "time": "2018-04-05T03:56:24Z", "datacontenttype": content_type}
    assert event.data == BODY


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8"]
)
def test_an_event_in_structured_mode(content_type: str) -> None:
    """The document has everything, whatever headers stand beside it."""
    document = {**ATTRIBUTES, "datacontenttype": "application/json", "data": {"message": "Hello World!"}}
    headers = [(b"content-type", content_type.encode()), (b"ce-id", b"another")]
    event = _decoded(headers, json.dumps(document).encode())
    assert event.attributes == {**ATTRIBUTES, "datacontenttype": "application/json"}
    assert event.data == b'{"message": "Hello World!"}'


def test_an_event_of_the_version_before_stays_one() -> None:
    """It is taken, and nothing of it is lifted to this version."""
    headers = [*_drop(b"ce-specversion"), (b"ce-specversion", b"0.3"), (b"ce-schemaurl", b"/s")]
    (event,) = http.decode([*headers, (b"content-type", b"text/plain")], b"hello")
    assert (event.attributes["specversion"], event.attributes["schemaurl"]) == ("0.3", "/s")
    assert event.is_former
    sent, body = http.encode(event)
    assert {(b"ce-specversion", b"0.3"), (b"ce-schemaurl", b"/s")} <= set(sent)
    assert body == b"hello"


def test_names_of_headers_are_of_any_case() -> None:
    """As HTTP has it."""
    headers = [(name.upper(), value) for name, value in _with("ce-MyExt", b"x")]
    assert _decoded(headers).attributes == {**ATTRIBUTES, "myext": "x"}


def test_no_body_is_no_data() -> None:
    """Over HTTP there is no telling them apart."""
    assert _decoded(REQUIRED).data is None


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"%e2%82%ac", "€"),
        (b"%41%42", "AB"),
        (b"100%", "100%"),
        (b"100%zz", "100%zz"),
        (b"%2541", "%41"),
        (b'"a b"', "a b"),
        (b'"a \\"b\\" \\\\c"', 'a "b" \\c'),
        (b'"%E2%82%AC"', "€"),
        (b'{"a":1}', '{"a":1}'),
        (b'"', '"'),
        (b'"open', '"open'),
        ("€".encode(), "€"),
        (b"", ""),
    ],
)
def test_values_of_headers(sent: bytes, value: str) -> None:
    """Quotes around a value and one round of percent-encoding come off; bare UTF-8 is taken too."""
    assert _decoded(_with("ce-myext", sent)).attributes["myext"] == value


def _drop(name: bytes) -> Headers:
    return [header for header in REQUIRED if header[0] != name]


MALFORMED: list[tuple[str, Headers, str]] = [
    ("nothing", [], "neither a header ce-specversion"),
    ("no event", [(b"content-type", b"application/json")], "neither a header ce-specversion"),
    ("no version", _drop(b"ce-specversion"), "neither a header ce-specversion"),
    ("no id", _drop(b"ce-id"), "attribute id is required"),
    ("no type", _drop(b"ce-type"), "attribute type is required"),
    ("no source", _drop(b"ce-source"), "attribute source is required"),
    ("empty id", [*_drop(b"ce-id"), (b"ce-id", b"")], "attribute id is required and must not be empty"),
    ("old version", [*_drop(b"ce-specversion"), (b"ce-specversion", b"0.2")], "specversion '0.2' is not"),
    (
        "schema of the version before",
        [*_drop(b"ce-specversion"), (b"ce-specversion", b"0.3"), (b"ce-schemaurl", b":")],
        "attribute schemaurl is not a URI",
    ),
    (
        "encoding of the version before",
        [*_drop(b"ce-specversion"), (b"ce-specversion", b"0.3"), (b"ce-datacontentencoding", b"7bit")],
        "attribute datacontentencoding '7bit' is not supported",
    ),
    ("twice", _with("ce-id", b"2"), "header ce-id is sent more than once"),
    ("twice in capitals", _with("CE-ID", b"2"), "header ce-id is sent more than once"),
    (
        "two content types",
        [*REQUIRED, (b"content-type", b"text/plain"), (b"Content-Type", b"text/plain")],
        "header content-type is sent more than once",
    ),
    ("name", _with("ce-my-ext", b"x"), "attribute name 'my-ext' is invalid"),
    ("no name", _with("ce-", b"x"), "attribute name '' is invalid"),
    ("name of letters elsewhere", [*REQUIRED, (b"ce-\xe9", b"x")], "attribute name 'é' is invalid"),
    ("payload", _with("ce-data", b"x"), "attribute name 'data' is reserved"),
    ("data content type", _with("ce-datacontenttype", b"text/plain"), "content-type says it"),
    ("control character", _with("ce-x", b"a%0Ab"), "attribute x has the character U+000A"),
    ("delete", _with("ce-x", b"a%7Fb"), "attribute x has the character U+007F"),
    ("noncharacter", _with("ce-x", b"%EF%BF%BF"), "attribute x has the character U+FFFF"),
    ("overlong", _with("ce-x", b"%C0%A0"), "attribute x is not valid UTF-8"),
    ("latin-1", _with("ce-x", b"cr\xe8me"), "attribute x is not valid UTF-8"),
    ("surrogate", _with("ce-x", b"%ED%A0%80"), "attribute x is not valid UTF-8"),
    ("time", _with("ce-time", b"lunchtime"), "attribute time is not an RFC 3339 time"),
    ("empty subject", _with("ce-subject", b""), "attribute subject must not be empty"),
    ("content type", _with("content-type", b"xyz"), "attribute datacontenttype is not a media type"),
    ("empty content type", _with("content-type", b""), "datacontenttype must not be empty"),
    ("source", [*_drop(b"ce-source"), (b"ce-source", b"/a%zz")], "source is not a URI-reference"),
    ("source without a scheme", [*_drop(b"ce-source"), (b"ce-source", b":a")], "not a URI-reference"),
]


@pytest.mark.parametrize(
    ("headers", "message"), [(h, m) for _, h, m in MALFORMED], ids=[n for n, *_ in MALFORMED]
)
def test_what_is_no_event_is_refused(headers: Headers, message: str) -> None:
    """With status 400 and the reason."""
    with pytest.raises(errors.Malformed) as raised:
        http.decode(headers, b"{}")
    assert message in raised.value.message
    assert raised.value.status_code == 400


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        (b"application/cloudevents+avro", "format application/cloudevents+avro is not supported"),
        (b"application/cloudevents", "send application/cloudevents+json"),
        (b"application/cloudevents+json; charset=utf-16", "events are read in UTF-8, not in utf-16"),
        (b"application/cloudevents-batch+json", "batches are not taken here"),
    ],
)
def test_formats_that_are_not_read(content_type: bytes, message: str) -> None:
    """With status 415, and what to send in place of it."""
    with pytest.raises(errors.UnsupportedFormat) as raised:
        http.decode([(b"content-type", content_type)], b"{}")
    assert message in raised.value.message
    assert raised.value.status_code == 415


def test_a_batch_where_it_is_asked_for() -> None:
    """Each event of the list, also none."""
    headers = [(b"content-type", b"application/cloudevents-batch+json")]
    body = json.dumps([ATTRIBUTES, {**ATTRIBUTES, "id": "2"}]).encode()
    assert [event.id for event in http.decode(headers, body, batches=True)] == ["1234-1234-1234", "2"]
    assert http.decode(headers, b"[]", batches=True) == []
    with pytest.raises(errors.UnsupportedFormat, match=r"cloudevents-batch\+avro is not supported"):
        http.decode([(b"content-type", b"application/cloudevents-batch+avro")], body, batches=True)


@pytest.mark.parametrize(
    ("headers", "mode"),
    [
        (REQUIRED, "binary"),
        ([(b"CE-SpecVersion", b"1.0")], "binary"),
        ([(b"content-type", b"application/cloudevents+json")], "structured"),
        ([(b"Content-Type", b"APPLICATION/CLOUDEVENTS-BATCH+json")], "batch"),
        ([*REQUIRED, (b"content-type", b"application/json")], "binary"),
        ([(b"content-type", b"application/json"), (b"ce-id", b"1")], None),
        ([], None),
    ],
)
def test_whether_a_message_carries_events(headers: Headers, mode: str | None) -> None:
    """An answer without an event is told from a malformed one."""
    assert http.mode(headers) == mode


def test_an_event_that_is_sent_in_binary_mode() -> None:
    """What is not printable ASCII is escaped, and the space, the quote and the percent sign are."""
    event = new(id="1", source="/s", type="t", data=b"x", datacontenttype="text/plain", myext='Euro € 😀 "%"')
    headers, body = http.encode(event)
    assert dict(headers) == {
        b"ce-specversion": b"1.0",
        b"ce-id": b"1",
        b"ce-source": b"/s",
        b"ce-type": b"t",
        b"ce-myext": b"Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25%22",
        b"content-type": b"text/plain",
    }
    assert body == b"x"


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1)
EVENTS = st.builds(
    lambda key, kind, subject, extensions, data: Event(
        {**extensions, "specversion": "1.0", "id": key, "source": "/s", "type": kind, "subject": subject},
        data or None,
    ),
    TEXTS,
    TEXTS,
    TEXTS,
    st.dictionaries(st.from_regex(r"x[a-z0-9]{1,8}", fullmatch=True), TEXTS, max_size=3),
    st.binary(max_size=50),
)


@given(EVENTS)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    """In binary mode, in structured mode and in a batch."""
    assert http.decode(*http.encode(event)) == [event]
    assert http.decode(*http.encode(event, "structured")) == [event]
    assert http.decode(*http.encode_batch([event, event]), batches=True) == [event, event]


@given(st.lists(st.tuples(st.binary(max_size=12).map(lambda name: b"ce-" + name), st.binary(max_size=20))))
def test_any_message_is_an_event_or_refused(headers: Headers) -> None:
    """Nothing but the two errors comes out of strange bytes."""
    with contextlib.suppress(errors.Malformed, errors.UnsupportedFormat):
        http.decode([*REQUIRED, *headers], b"")


def test_an_event_is_changed_by_making_another() -> None:
    """Attributes are set and dropped in a copy."""
    event = new(id="1", source="/s", type="t", data=b"x", traceid="a")
    assert event.with_attributes({"ttl": "2"}, traceid="b").extensions == {"ttl": "2", "traceid": "b"}
    assert event.without("traceid", "missing").extensions == {}
    assert event.extensions == {"traceid": "a"}
    assert (event.subject, event.time, event.datacontenttype, event.dataschema) == (None, None, None, None)
