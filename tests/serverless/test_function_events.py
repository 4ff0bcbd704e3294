"""CloudEvents as a Python function's server decodes and encodes them."""

from __future__ import annotations

import json
import sys
import types
from datetime import UTC, datetime

import pytest

from ondol.serverless.functions.runtimes.python import events

HEADERS = [(b"ce-specversion", b"1.0"), (b"ce-id", b"1"), (b"ce-source", b"/s"), (b"ce-type", b"t")]


def decoded(headers: list[tuple[bytes, bytes]], body: bytes = b"") -> events.CloudEvent:
    event = events.decoded(headers, body)
    assert isinstance(event, events.CloudEvent)
    return event


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        (b"application/json", b'{"a": 1}', {"a": 1}),
        (b"application/vnd.x+json; charset=utf-8", b"[1]", [1]),
        (b"text/plain", b"hello", "hello"),
        (b"application/octet-stream", b"\x00\xff", b"\x00\xff"),
        (b"application/json", b"", None),
    ],
)
def test_binary_mode(content_type: bytes, body: bytes, data: object) -> None:
    """Attributes are headers, unescaped; data is what its type says."""
    event = decoded([*HEADERS, (b"ce-my", b"a%20b%C3%A9"), (b"content-type", content_type)], body)
    assert (event.get_id(), event.get_source(), event.get_type()) == ("1", "/s", "t")
    assert event.get_extension("my") == "a bé"
    assert event.get_data() == data
    assert event.get_datacontenttype() == content_type.decode()


def test_structured_mode() -> None:
    """A document has attributes and data, which may be bytes."""
    document = {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "data_base64": "AP8=",
        "n": None,
    }
    event = decoded([(b"content-type", b"application/cloudevents+json")], json.dumps(document).encode())
    assert event.get_data() == b"\x00\xff"
    assert "n" not in event.get_attributes()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], b"{}"),
        (HEADERS[1:], b""),
        ([(b"ce-specversion", b"0.2"), *HEADERS[1:]], b""),
        ([*HEADERS, (b"content-type", b"application/json")], b"{"),
        ([(b"content-type", b"application/cloudevents+json")], b"[]"),
        ([(b"content-type", b"application/cloudevents+json")], b'{"specversion": "1.0"}'),
        ([(b"content-type", b"application/cloudevents-batch+json")], b"[]"),
        ([*HEADERS, (b"content-type", b"text/plain")], b"\xff"),
    ],
)
def test_what_is_no_event_is_refused(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """It is named, so that the request is answered 400."""
    with pytest.raises(events.BadEvent):
        events.decoded(headers, body)


@pytest.mark.parametrize("data", [{"a": "é"}, "text", [1, None], b"\x00\xff", None])
def test_events_are_the_same_after_either_mode(data: object) -> None:
    """What one encodes the other decodes."""
    attributes: dict[str, object] = {"id": "1", "source": "/s é", "type": "t%", "flag": True}
    sent = events.CloudEvent(attributes, data)
    for encode in (events.structured, events.binary):
        headers, body = encode(sent)
        returned = decoded(headers, body)
        assert returned.get_data() == data
        assert returned.get_source() == "/s é"
        assert returned.get_extension("flag") == "true"


def test_events_are_of_the_package_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is made of the same attributes, with a time; what it refuses is a bad event."""

    class Theirs:
        def __init__(self, attributes: dict[str, object], data: object) -> None:
            if attributes["id"] == "bad":
                raise RuntimeError("its own class of refusals")
            self.attributes, self.data = attributes, data

    module = types.ModuleType("cloudevents.core.v1.event")
    module.CloudEvent = Theirs  # type: ignore[attr-defined]  # what the package has there
    monkeypatch.setitem(sys.modules, module.__name__, module)
    stamped = [*HEADERS, (b"ce-time", b"2020-01-02T03:04:05Z")]
    event = events.decoded([*stamped, (b"content-type", b"application/json")], b"[1]")
    assert isinstance(event, Theirs)
    assert event.data == [1]
    assert event.attributes["time"] == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    for name, value in ((b"ce-id", b"bad"), (b"ce-time", b"soon")):
        headers = [(key, text) for key, text in stamped if key != name]
        with pytest.raises(events.BadEvent):
            events.decoded([*headers, (name, value)], b"")
