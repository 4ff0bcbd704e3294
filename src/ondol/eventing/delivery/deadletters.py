"""The attributes by which a dead letter says what became of it."""

from __future__ import annotations

import base64
from typing import Final

from ondol.eventing.cloudevents.event import Event

DESTINATION: Final = "knativeerrordest"
CODE: Final = "knativeerrorcode"
DATA: Final = "knativeerrordata"
_DATA_MAX: Final = 1024


def letter(event: Event, destination: str, code: int, answer: bytes) -> Event:
    """The event as its dead letter; `answer` is the body that came, kept in base64 as far as it fits."""
    attributes = {DESTINATION: destination, CODE: str(code)}
    if answer:
        attributes[DATA] = base64.b64encode(answer[:_DATA_MAX]).decode()[:_DATA_MAX]
    return event.with_attributes(attributes)
