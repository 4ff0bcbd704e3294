"""Records as events and events as records: the Kafka protocol binding of CloudEvents 1.0. Pure.

A record that is no event becomes one, with the attributes that Knative's KafkaSource has for it.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ondol.api import objects
from ondol.base.timestamps import rfc3339_micro
from ondol.contracts import eventing
from ondol.eventing.cloudevents import attributes as rules
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents import json_format
from ondol.eventing.cloudevents.errors import Malformed
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import order

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
KeyType: TypeAlias = Literal["string", "int", "float", "byte-array"]
ContentMode: TypeAlias = Literal["binary", "structured"]

TYPE: Final = "dev.knative.kafka.event"
KEY_TYPE_LABEL: Final = f"kafkasources.{eventing.SOURCES}/key-type"
KEY_TYPES: Final[tuple[KeyType, ...]] = ("string", "int", "float", "byte-array")
_PREFIX: Final = "ce_"
_VERSION: Final = "ce_specversion"
_CONTENT_TYPE: Final = "content-type"
_FAMILY: Final = "application/cloudevents"
_KEY: Final = "key"
_HEADER: Final = "kafkaheader"
_UNFIT: Final = re.compile("[^a-z0-9]")
_FLOATS: Final = {4: struct.Struct(">f"), 8: struct.Struct(">d")}
_INTEGER_BYTES: Final = 4


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `timestamp_ms` is negative where there is none."""

    partition: Partition
    offset: int
    timestamp_ms: int = -1
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = field(default=())

    @property
    def size_bytes(self) -> int:
        """What it takes of memory, roughly."""
        return len(self.key or b"") + len(self.value or b"") + sum(len(value) for _, value in self.headers)


def source(document: Mapping[str, Any], topic: str) -> str:
    """The attribute `source` of the events that are made of a KafkaSource's records."""
    place = f"namespaces/{objects.namespace(document)}/kafkasources/{objects.name(document)}"
    return f"/apis/v1/{place}#{topic}"


def attributes(document: Mapping[str, Any]) -> list[objects.Object]:
    """`status.ceAttributes` of a KafkaSource."""
    topics = objects.spec(document).get("topics") or ()
    return [{"type": TYPE, "source": source(document, str(topic))} for topic in topics]


def key_type(document: Mapping[str, Any]) -> KeyType:
    """What the keys of a KafkaSource's records are."""
    label = objects.labels(document).get(KEY_TYPE_LABEL)
    return next((each for each in KEY_TYPES if each == label), "string")


def decode(record: Record, document: Mapping[str, Any]) -> Event:
    """The event that a record carries in binary or structured mode; else one that wraps the record."""
    try:
        event = _carried(record)
    except Malformed:
        event = None
    return event or _wrapped(record, document)


def encode(event: Event, mode: ContentMode) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the record of an event, whose partition key is the record's."""
    partition_key = event.attributes.get(order.KEY_ATTRIBUTE)
    key = partition_key.encode() if partition_key else None
    if mode == "structured":
        return key, json_format.encode(event), ((_CONTENT_TYPE, json_format.MEDIA_TYPE.encode()),)
    headers = [
        (_CONTENT_TYPE if name == "datacontenttype" else _PREFIX + name, value.encode())
        for name, value in event.attributes.items()
    ]
    return key, event.data, tuple(headers)


def _carried(record: Record) -> Event | None:
    """The event in a record; None if nothing says that there is one, `Malformed` if it is none after all."""
    content_type = _content_type(record)
    if rules.media_type(content_type).startswith(_FAMILY):
        if rules.media_type(content_type) != json_format.MEDIA_TYPE:
            return None
        return json_format.decode(record.value or b"")
    if all(name != _VERSION for name, _ in record.headers):
        return None
    carried: dict[str, str] = {}
    for header, value in record.headers:
        name = header.removeprefix(_PREFIX)
        if name == header:
            continue
        text = _text(value)
        reason = rules.name_problem(name) or ("it is no text" if text is None else None)
        if reason or name in carried or text is None:
            raise Malformed(reason or f"header {header} is there more than once")
        if reason := rules.value_problem(name, text):
            raise Malformed(reason)
        carried[name] = text
    if content_type:
        carried["datacontenttype"] = content_type
    if reason := rules.problem(carried):
        raise Malformed(reason)
    return Event(carried, record.value)


def _wrapped(record: Record, document: Mapping[str, Any]) -> Event:
    topic, number = record.partition
    optional = {"subject": f"partition:{number}#{record.offset}"}
    if record.timestamp_ms >= 0:
        optional["time"] = rfc3339_micro(record.timestamp_ms / 1000)
    if record.key:
        key = _key_text(record.key, key_type(document))
        optional |= {_KEY: key, order.KEY_ATTRIBUTE: key}
    for header, value in record.headers:
        text = _text(value)
        if header.lower() == _CONTENT_TYPE:
            if text and rules.is_media_type(text):
                optional["datacontenttype"] = text
        elif text is not None and rules.value_problem(header, text) is None:
            optional[_HEADER + _UNFIT.sub("", header.lower())] = text
    return events.new(
        id=f"partition:{number}/offset:{record.offset}",
        source=source(document, topic),
        type=TYPE,
        data=record.value,
        **optional,
    )


def _content_type(record: Record) -> str:
    value = next((value for name, value in record.headers if name.lower() == _CONTENT_TYPE), b"")
    return _text(value) or ""


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _key_text(key: bytes, kind: KeyType) -> str:
    """The key as an attribute; in Base64 where it is bytes, or is no text that an attribute may be."""
    if kind == "int" and len(key) == _INTEGER_BYTES:
        return str(int.from_bytes(key, "big", signed=True))
    if kind == "float" and len(key) in _FLOATS:
        return str(_FLOATS[len(key)].unpack(key)[0])
    text = None if kind == "byte-array" else _text(key)
    if text is not None and rules.value_problem(_KEY, text) is None:
        return text
    return base64.b64encode(key).decode()
