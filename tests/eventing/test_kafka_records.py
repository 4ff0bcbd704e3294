"""Records of Kafka as events, and events as records: the protocol binding, and what else is wrapped."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, strategies

from ondol.eventing.cloudevents.event import Event, new
from ondol.eventing.kafka import records
from ondol.eventing.kafka.records import Partition, Record

SOURCE = {"metadata": {"namespace": "shop", "name": "orders"}, "spec": {"topics": ["t"]}}
PLACE = Partition("t", 3)
BINARY = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/s"), ("ce_type", b"order"))
STRUCTURED = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
DOCUMENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"order","data":{"a":1}}'


def _record(value: bytes | None = b"v", headers: records.Headers = (), key: bytes | None = None) -> Record:
    return Record(PLACE, 7, 1_700_000_000_123, key, value, headers)


def _wrapped(value: bytes | None = b"v", **optional: str) -> Event:
    return new(
        id="partition:3/offset:7",
        source="/apis/v1/namespaces/shop/kafkasources/orders#t",
        type="dev.knative.kafka.event",
        data=value,
        subject="partition:3#7",
        time="2023-11-14T22:13:20.123000Z",
        **optional,
    )


@pytest.mark.parametrize(
    ("record", "event"),
    [
        (_record(headers=BINARY), new(id="1", source="/s", type="order", data=b"v")),
        (
            _record(
                headers=(
                    *BINARY,
                    ("Content-Type", b"text/plain"),
                    ("ce_shop", "\u00fc 1%".encode()),
                    ("x", b"y"),
                )
            ),
            new(id="1", source="/s", type="order", data=b"v", datacontenttype="text/plain", shop="\u00fc 1%"),
        ),
        (_record(None, BINARY), new(id="1", source="/s", type="order")),
        (
            _record(DOCUMENT, STRUCTURED),
            new(id="1", source="/s", type="order", data=b'{"a":1}', datacontenttype="application/json"),
        ),
        # What says that it is an event and is none is wrapped like any other record: nothing is lost.
        (
            _record(b"no", STRUCTURED),
            _wrapped(b"no", datacontenttype="application/cloudevents+json; charset=utf-8"),
        ),
        (
            _record(b"[]", (("content-type", b"application/cloudevents-batch+json"),)),
            _wrapped(b"[]", datacontenttype="application/cloudevents-batch+json"),
        ),
        (_record(headers=BINARY[:1]), _wrapped(kafkaheadercespecversion="1.0")),
        (_record(headers=(("ce_specversion", b"9"),)), _wrapped(kafkaheadercespecversion="9")),
        (
            _record(headers=(*BINARY, ("ce_data", b"x"))),
            _wrapped(
                kafkaheadercespecversion="1.0",
                kafkaheaderceid="1",
                kafkaheadercesource="/s",
                kafkaheadercetype="order",
                kafkaheadercedata="x",
            ),
        ),
        (
            _record(
                headers=(("X-Trace", b"7"), ("content-type", b"text/csv"), ("odd", b"\xff"), ("nl", b"a\n"))
            ),
            _wrapped(kafkaheaderxtrace="7", datacontenttype="text/csv"),
        ),
        (_record(headers=(("content-type", b"no type"),)), _wrapped()),
        (_record(None), _wrapped(None)),
        (_record(key=b"k"), _wrapped(key="k", partitionkey="k")),
        (_record(key=b"\xff\x00"), _wrapped(key="/wA=", partitionkey="/wA=")),
    ],
)
def test_a_record_is_an_event(record: Record, event: Event) -> None:
    """In binary and in structured mode; of whatever else Knative's wrapper is made."""
    assert records.decode(record, SOURCE) == event


def test_a_record_without_a_time_has_none() -> None:
    """Very old producers set none."""
    assert records.decode(Record(PLACE, 7, value=b"v"), SOURCE).time is None


@pytest.mark.parametrize(
    ("kind", "key", "text"),
    [
        ("int", struct.pack(">i", -5), "-5"),
        ("int", b"abc", "abc"),
        ("float", struct.pack(">f", 0.5), "0.5"),
        ("float", struct.pack(">d", 0.1), "0.1"),
        ("float", b"abc", "abc"),
        ("byte-array", b"abc", "YWJj"),
        ("string", b"abc", "abc"),
        ("other", b"abc", "abc"),
    ],
)
def test_keys_are_of_the_type_that_a_label_says(kind: str, key: bytes, text: str) -> None:
    """As Knative's deserializer reads them."""
    metadata = {"namespace": "shop", "name": "orders", "labels": {records.KEY_TYPE_LABEL: kind}}
    source: dict[str, Any] = {**SOURCE, "metadata": metadata}
    assert records.decode(_record(key=key), source).attributes["key"] == text


_NAMES = strategies.from_regex(r"[a-z0-9]{1,12}", fullmatch=True).filter(
    lambda name: name not in {"data", "datacontentencoding", "specversion", "schemaurl"}
)
_TEXTS = strategies.text(
    strategies.characters(blacklist_categories=("Cc", "Cs", "Cn", "Co")), min_size=1, max_size=20
)
_EVENTS = strategies.builds(
    lambda extensions, data: new(
        **{**extensions, "id": "1", "source": "/s", "type": "t", "datacontenttype": "text/plain"}, data=data
    ),
    strategies.dictionaries(
        _NAMES.filter(lambda n: n not in {"time", "dataschema", "subject"}), _TEXTS, max_size=4
    ),
    strategies.binary(max_size=50),
)


@given(_EVENTS, strategies.sampled_from(["binary", "structured"]))
def test_an_event_comes_back_as_it_was(event: Event, mode: records.ContentMode) -> None:
    """Whatever its attributes and its data are, in either mode."""
    key, value, headers = records.encode(event, mode)
    assert key == (event.attributes["partitionkey"].encode() if "partitionkey" in event.attributes else None)
    back = records.decode(Record(PLACE, 1, 0, key, value, headers), SOURCE)
    assert (back.attributes, back.data or b"") == (event.attributes, event.data or b"")
