"""Events over HTTP: binary (headers and body), structured (one document) and batches. The hot path.

Headers are pairs of bytes, as ASGI has them. What comes is read by the type of the body; what goes out
escapes in headers whatever is not printable ASCII.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from ondol.eventing.cloudevents import attributes as rules
from ondol.eventing.cloudevents import json_format
from ondol.eventing.cloudevents.errors import Malformed, UnsupportedFormat
from ondol.eventing.cloudevents.event import Event

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
Mode: TypeAlias = Literal["binary", "structured", "batch"]

_CONTENT_TYPE: Final = b"content-type"
_PREFIX: Final = b"ce-"
_VERSION: Final = b"ce-specversion"
_FAMILY: Final = "application/cloudevents"
_BATCHES: Final = "application/cloudevents-batch"
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii"})
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_ESCAPED: Final = re.compile(r"[^\x21\x23\x24\x26-\x7e]")
_BACKSLASH: Final = re.compile(rb"\\(.)", re.DOTALL)
_REMEMBERED: Final = 1024


def mode(headers: Headers) -> Mode | None:
    """In which way a message carries events; None if nothing of it says that it does."""
    has_version = False
    for name, value in headers:
        lowered = name.lower()
        if lowered == _CONTENT_TYPE:
            kind = _mode_of(value)
            if kind != "binary":
                return kind
        has_version = has_version or lowered == _VERSION
    return "binary" if has_version else None


def decode(headers: Headers, body: bytes, *, batches: bool = False) -> list[Event]:
    """The events of a message: one, or any number where `batches` are asked for.

    `Malformed` (400) if it is no event of this version, `UnsupportedFormat` (415) if it cannot be read.
    """
    attributes: dict[str, str] = {}
    content_type: bytes | None = None
    for name, value in headers:
        lowered = name.lower()
        if lowered[:3] == _PREFIX:
            attribute = _attribute(lowered)
            if attribute in attributes:
                raise Malformed(f"header {lowered.decode()} is sent more than once")
            attributes[attribute] = _value(attribute, value)
        elif lowered == _CONTENT_TYPE:
            if content_type is not None:
                raise Malformed("header content-type is sent more than once")
            content_type = value
    if content_type is not None:
        if (kind := _mode_of(content_type)) != "binary":
            return _in_document(kind, content_type, body, batches=batches)
        attributes["datacontenttype"] = _header_text("content-type", content_type)
    if "specversion" not in attributes:
        raise Malformed(
            "the request is not a CloudEvent: it has neither a header ce-specversion"
            f" nor the content type {json_format.MEDIA_TYPE}"
        )
    if reason := rules.problem(attributes):
        raise Malformed(reason)
    return [Event(attributes, body or None)]


def encode(
    event: Event, mode: Literal["binary", "structured"] = "binary"
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a message with this event."""
    if mode == "structured":
        return [(_CONTENT_TYPE, json_format.MEDIA_TYPE.encode())], json_format.encode(event)
    headers = [
        (_header(name), _escaped(value))
        for name, value in event.attributes.items()
        if name != "datacontenttype"
    ]
    if (content_type := event.datacontenttype) is not None:
        headers.append((_CONTENT_TYPE, content_type.encode()))
    return headers, event.data or b""


def encode_batch(events: Sequence[Event]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a message with these events."""
    headers = [(_CONTENT_TYPE, json_format.BATCH_MEDIA_TYPE.encode())]
    return headers, json_format.encode_batch(events)


@functools.lru_cache(_REMEMBERED)
def _mode_of(content_type: bytes) -> Mode:
    kind = rules.media_type(content_type.decode("latin-1"))
    if not kind.startswith(_FAMILY):
        return "binary"
    return "batch" if kind.startswith(_BATCHES) else "structured"


def _in_document(kind: Mode, content_type: bytes, body: bytes, *, batches: bool) -> list[Event]:
    text = content_type.decode("latin-1")
    charset = _CHARSET.search(text)
    if charset and charset[1].lower() not in _UTF8:
        raise UnsupportedFormat(f"events are read in UTF-8, not in {charset[1]}")
    if kind == "batch" and not batches:
        raise UnsupportedFormat("batches are not taken here: send each event by itself")
    media_type = json_format.BATCH_MEDIA_TYPE if kind == "batch" else json_format.MEDIA_TYPE
    if rules.media_type(text) != media_type:
        raise UnsupportedFormat(f"format {rules.media_type(text)} is not supported: send {media_type}")
    return json_format.decode_batch(body) if kind == "batch" else [json_format.decode(body)]


@functools.lru_cache(_REMEMBERED)
def _attribute(header: bytes) -> str:
    """The attribute of a header's name in lower case."""
    name = header[len(_PREFIX) :].decode("latin-1")
    if reason := rules.name_problem(name):
        raise Malformed(reason)
    if name == "datacontenttype":
        raise Malformed("header ce-datacontenttype must not be sent: content-type says it")
    return name


@functools.lru_cache(_REMEMBERED)
def _header(attribute: str) -> bytes:
    return _PREFIX + attribute.encode()


def _value(attribute: str, value: bytes) -> str:
    if b"%" not in value and value[:1] != b'"':
        return _header_text(attribute, value)
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = _BACKSLASH.sub(rb"\1", value[1:-1])
    return _header_text(attribute, unquote_to_bytes(value))


def _header_text(attribute: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"attribute {attribute} is not valid UTF-8: {error.reason}") from error
    if not (text.isascii() and text.isprintable()) and (reason := rules.value_problem(attribute, text)):
        raise Malformed(reason)
    return text


def _escaped(value: str) -> bytes:
    if _ESCAPED.search(value) is None:
        return value.encode()
    return _ESCAPED.sub(_percent, value).encode()


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
