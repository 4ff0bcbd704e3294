"""An event as it is kept: its attributes as headers of the journal's message, its data as the message's body.

Beside them stand the HTTP headers that are handed on with the event (`h-`). Whatever else a message has is
the journal's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from ondol.base import errors
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.journal.port import Message

Pairs = list[tuple[bytes, bytes]]

_ATTRIBUTE: Final = b"ce-"
_HANDED_ON: Final = b"h-"
_HANDED_ON_LINE: Final = b"\nh-"
_FORWARDED: Final = frozenset({b"x-request-id", b"retry-after", b"traceparent", b"tracestate", b"baggage"})
_FORWARDED_PREFIXES: Final = (b"knative-", b"x-b3-")
_OF_THE_ATTEMPT: Final = frozenset({"traceparent", "tracestate"})
HEADERS_BYTES_MAX: Final = 48 << 10
"""The journal takes 64 KiB, and a dead letter says more than its event."""
_TOPIC_BYTES: Final = 8
_ID_BYTES: Final = 16


def message(event: Event, handed_on: Iterable[tuple[bytes, bytes]] = ()) -> Message:
    """What the journal keeps of an event; the same event that comes again is the same message."""
    lines = [f"ce-{name}:{value}\r\n" for name, value in event.attributes.items()]
    headers = "".join(lines).encode()
    for name, value in handed_on:
        headers += b"h-%s:%s\r\n" % (name, value)
    if len(headers) > HEADERS_BYTES_MAX:
        raise errors.TooLarge(f"the attributes of an event may have at most {HEADERS_BYTES_MAX} bytes")
    return Message(topic(event.type), headers, event.data or b"", identity(event))


def identity(event: Event) -> str:
    """The same for duplicates alone.

    Source and id do not suffice: functions answer with what they were sent, under another type, and a broker
    takes that for an event of its own. So all counts but what a sender may change when it tries again.
    """
    content = hashlib.blake2b(digest_size=_ID_BYTES)
    for name, value in sorted(event.attributes.items()):
        if name not in _OF_THE_ATTEMPT:
            content.update(f"{name}\0{value}\0".encode())
    content.update(b"\0" + (event.data or b""))
    return content.hexdigest()


def topic(event_type: str) -> str:
    """The word by which consumers choose a type."""
    return hashlib.blake2b(event_type.encode(), digest_size=_TOPIC_BYTES).hexdigest()


def event(headers: bytes, data: bytes) -> Event:
    """The event of a message."""
    attributes: dict[str, str] = {}
    # What is handed on is bytes in any charset; what of it is none of ours is not looked at.
    for line in headers.decode(errors="replace").split("\r\n"):
        if line[:3] == "ce-":
            name, _, value = line[3:].partition(":")
            attributes[name] = value
    return Event(attributes, data or None)


def handed_on(headers: bytes) -> Pairs:
    """The HTTP headers that go with the event."""
    if _HANDED_ON_LINE not in headers:
        return []
    pairs: Pairs = []
    for line in headers.split(b"\r\n"):
        if line.startswith(_HANDED_ON):
            name, _, value = line[len(_HANDED_ON) :].partition(b":")
            pairs.append((name, value))
    return pairs


def forwarded(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Those of the headers that go with the event, as Knative hands them on; names are in lower case."""
    return [pair for pair in headers if pair[0] in _FORWARDED or pair[0].startswith(_FORWARDED_PREFIXES)]
