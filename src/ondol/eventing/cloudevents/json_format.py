"""Events in JSON: `application/cloudevents+json`, and a list of them as a batch.

JSON data is kept as the bytes that stood in the document: numbers of any size, their spelling and the
order of keys arrive as they were sent.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.eventing.cloudevents import attributes as rules
from ondol.eventing.cloudevents.errors import Malformed
from ondol.eventing.cloudevents.event import CORE, FORMER_VERSION, SPEC_VERSION, Event

MEDIA_TYPE: Final = "application/cloudevents+json"
BATCH_MEDIA_TYPE: Final = "application/cloudevents-batch+json"
_BASE64: Final = "data_base64"
_JSON: Final = "application/json"
_NULL: Final = b"null"
_INTEGER: Final = re.compile(rb"-?(?:0|[1-9]\d{0,9})")
_TEXTUAL: Final = re.compile(
    r"text/.*|.*/(?:.*\+)?(?:xml|yaml)|application/(?:javascript|x-www-form-urlencoded)"
)
_DOCUMENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DOCUMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_STRING: Final = msgspec.json.Decoder(str)
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_ENCODER: Final = msgspec.json.Encoder()
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(body: bytes) -> Event:
    """The event of a document; `Malformed` if it is none."""
    try:
        members = _DOCUMENT.decode(body)
    except _UNREADABLE as error:
        raise Malformed(f"the event is not a JSON object: {_reason(error)}") from error
    return _event({name: bytes(raw) for name, raw in members.items()})


def decode_batch(body: bytes) -> list[Event]:
    """The events of a list, which may be empty; `Malformed` names the first that is none."""
    try:
        documents = _DOCUMENTS.decode(body)
    except _UNREADABLE as error:
        raise Malformed(f"the batch is not a JSON array: {_reason(error)}") from error
    events = []
    for number, document in enumerate(documents):
        try:
            events.append(decode(bytes(document)))
        except Malformed as error:
            raise Malformed(f"event {number} of the batch: {error.message}") from error
    return events


def encode(event: Event) -> bytes:
    """The event as one document."""
    return _ENCODER.encode(_document(event))


def encode_batch(events: Sequence[Event]) -> bytes:
    """The events as one list."""
    return _ENCODER.encode([_document(event) for event in events])


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _event(members: dict[str, bytes]) -> Event:
    payload = members.pop(rules.DATA, None)
    encoded = members.pop(_BASE64, _NULL)
    attributes = {name: _value(name, raw) for name, raw in members.items() if _is_set(name, raw)}
    if reason := rules.problem(attributes):
        raise Malformed(reason)
    if attributes["specversion"] == FORMER_VERSION:
        return _former(attributes, payload, encoded)
    if encoded != _NULL:
        if payload is not None:
            raise Malformed(f"{rules.DATA} and {_BASE64} exclude each other: send one of them")
        return Event(attributes, _decoded(encoded))
    if payload is None:
        return Event(attributes)
    content_type = attributes.setdefault("datacontenttype", _JSON)
    return Event(attributes, _data(payload, content_type))


def _former(attributes: dict[str, str], payload: bytes | None, encoded: bytes) -> Event:
    """An event of the version before, which says by an attribute that its data is Base64."""
    if encoded != _NULL:
        raise Malformed(f"{_BASE64} came with version {SPEC_VERSION}: send {rules.DATA}")
    encoding = attributes.pop(rules.ENCODING, None)
    if payload is None:
        return Event(attributes)
    if encoding is not None:
        return Event(attributes, _decoded(payload, rules.DATA))
    content_type = attributes.setdefault("datacontenttype", _JSON)
    return Event(attributes, _data(payload, content_type))


def _is_set(name: str, raw: bytes) -> bool:
    """An attribute that is null is one that is left out; its name must be one all the same."""
    if reason := rules.name_problem(name):
        raise Malformed(reason)
    return raw != _NULL


def _value(name: str, raw: bytes) -> str:
    """An attribute's value as its canonical string."""
    if raw[:1] == b'"':
        text = _text(name, raw)
        if reason := rules.value_problem(name, text):
            raise Malformed(reason)
        return text
    if name in CORE:
        raise Malformed(f"attribute {name} must be a string")
    if raw in {b"true", b"false"}:
        return raw.decode()
    if _INTEGER.fullmatch(raw) and rules.INTEGER_MIN <= (number := int(raw)) <= rules.INTEGER_MAX:
        return str(number)
    raise Malformed(f"attribute {name} must be a string, a boolean or an integer of 32 bits")


def _text(name: str, raw: bytes) -> str:
    try:
        return _STRING.decode(raw)
    except _UNREADABLE as error:
        raise Malformed(f"{name} is not a JSON string: {_reason(error)}") from error


def _decoded(encoded: bytes, member: str = _BASE64) -> bytes:
    if encoded[:1] != b'"':
        raise Malformed(f"{member} must be a string")
    try:
        return base64.b64decode(_text(member, encoded), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{member} is not Base64: {error}") from error


def _data(payload: bytes, content_type: str) -> bytes:
    """JSON as it stands; of another type, the text itself, or JSON where the sender wrote no string."""
    if payload[:1] == b'"' and not rules.is_json(content_type):
        return _text(rules.DATA, payload).encode()
    if not _is_utf8(payload):
        raise Malformed(f"{rules.DATA} is not valid UTF-8")
    return payload


def _document(event: Event) -> Mapping[str, Any]:
    if event.data is None:
        return event.attributes
    if rules.ENCODING in event.attributes and _is_utf8(event.data):
        # A header said so: the data came as text, and is that still.
        return {**event.attributes, rules.DATA: event.data.decode()}
    content_type = event.datacontenttype
    if content_type is not None and rules.is_json(content_type):
        if _is_document(event.data):
            return {**event.attributes, rules.DATA: msgspec.Raw(event.data)}
    elif content_type is not None and _is_text(event.data, content_type):
        return {**event.attributes, rules.DATA: event.data.decode()}
    encoded = base64.b64encode(event.data).decode()
    if event.is_former:
        return {**event.attributes, rules.ENCODING: rules.BASE64, rules.DATA: encoded}
    return {**event.attributes, _BASE64: encoded}


def _is_text(data: bytes, content_type: str) -> bool:
    return _TEXTUAL.fullmatch(rules.media_type(content_type)) is not None and _is_utf8(data)


def _is_document(text: bytes) -> bool:
    """Whether data that calls itself JSON is that; else it travels as any other bytes."""
    try:
        _VALUE.decode(text)
    except _UNREADABLE:
        return False
    return _is_utf8(text)


def _is_utf8(text: bytes) -> bool:
    """What a document is skipped over is looked at in all else."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
