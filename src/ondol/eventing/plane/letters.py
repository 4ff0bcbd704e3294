"""Dead letters as they are kept: the event, for whom it was meant, and why it could not be delivered."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from ondol.eventing.cloudevents.event import Event
from ondol.eventing.journal.port import Message, Stored
from ondol.eventing.plane import records
from ondol.eventing.plane.routes import Route

_PREFIX: Final = b"d-"
_DESTINATION_MAX: Final = 2048
_ANSWER_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `consumer` is the uid of the Trigger or Subscription that the event was for."""

    sequence: int
    buried_at_s: float
    event: Event
    handed_on: records.Pairs
    consumer: str
    kind: str
    namespace: str
    name: str
    parent: str
    destination: str
    code: int
    answer: bytes
    attempts: int
    event_sequence: int
    event_time_s: float


@dataclass(frozen=True, slots=True)
class Origin:
    """Which event of the stream it was, when it came, and how often it was tried."""

    sequence: int
    time_ns: int
    attempts: int


class Fate(NamedTuple):
    """Why it could not be delivered."""

    destination: str
    code: int
    answer: bytes


def message(route: Route, event: Event, handed_on: records.Pairs, origin: Origin, fate: Fate) -> Message:
    """What is kept. The same event of the same consumer is kept once, though it be tried to bury twice."""
    plain = records.message(event, handed_on)
    facts: Mapping[str, str] = {
        "kind": route.source.kind,
        "namespace": route.source.namespace,
        "name": route.source.name,
        "parent": route.source.parent,
        "destination": _line(fate.destination),
        "code": str(fate.code),
        "answer": base64.b64encode(fate.answer[:_ANSWER_MAX]).decode(),
        "attempts": str(origin.attempts),
        "sequence": str(origin.sequence),
        "time": str(origin.time_ns),
    }
    lines = "".join(f"d-{name}:{value}\r\n" for name, value in facts.items()).encode()
    return Message(route.consumer, plain.headers + lines, plain.data, f"{route.consumer}-{origin.sequence}")


def _line(text: str) -> str:
    """On one line: an address is what somebody wrote, and each line is a header of its own."""
    return "".join(char if char.isprintable() else "?" for char in text)[:_DESTINATION_MAX]


def letter(stored: Stored) -> Letter:
    """What was kept."""
    facts: dict[str, str] = {}
    for line in stored.headers.split(b"\r\n"):
        if line.startswith(_PREFIX):
            name, _, value = line[len(_PREFIX) :].partition(b":")
            facts[name.decode()] = value.decode()
    return Letter(
        sequence=stored.sequence,
        buried_at_s=stored.time_ns / 1e9,
        event=records.event(stored.headers, stored.data),
        handed_on=records.handed_on(stored.headers),
        consumer=stored.topic,
        kind=facts.get("kind", ""),
        namespace=facts.get("namespace", ""),
        name=facts.get("name", ""),
        parent=facts.get("parent", ""),
        destination=facts.get("destination", ""),
        code=int(facts.get("code") or 0),
        answer=base64.b64decode(facts.get("answer", "")),
        attempts=int(facts.get("attempts") or 0),
        event_sequence=int(facts.get("sequence") or 0),
        event_time_s=int(facts.get("time") or 0) / 1e9,
    )
