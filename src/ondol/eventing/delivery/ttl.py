"""How often an event may still go through a broker: an extension, set and counted down at the ingress."""

from __future__ import annotations

from typing import Final

from ondol.eventing.cloudevents.event import Event

ATTRIBUTE: Final = "knativebrokerttl"
DEFAULT: Final = 255


def of(event: Event) -> int | None:
    """What the event says; None if it says nothing, or not a number."""
    text = event.attributes.get(ATTRIBUTE)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return None


def admitted(event: Event) -> Event | None:
    """The event as a broker takes it: counted down, or with the default; None if it went round too often."""
    current = of(event)
    remaining = DEFAULT if current is None else current - 1
    return event.with_attributes({ATTRIBUTE: str(remaining)}) if remaining > 0 else None
