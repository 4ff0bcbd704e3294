"""What an answer means for the event that was delivered: done, worth another attempt, or refused for good."""

from __future__ import annotations

import email.utils
from collections.abc import Sequence
from enum import Enum
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

_RETRIED: Final = frozenset({404, 408, 409, 429})
_ASKS_TO_WAIT: Final = frozenset({429, 503})
UNREACHABLE: Final = 500
"""The code that stands in a dead letter for an attempt that had no answer, as Knative's does."""
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_AN_EVENT: Final = 502
"""What an answer counts as that says success, but whose body is neither empty nor an event."""


class Outcome(Enum):
    """What becomes of the event."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"


def of(status: int) -> Outcome:
    """The outcome of an answer's status; 0 stands for none that came."""
    if 200 <= status < 300:
        return Outcome.DELIVERED
    if status == 0 or status >= 500 or status in _RETRIED:
        return Outcome.RETRY
    return Outcome.REFUSED


def may_reply(status: int) -> bool:
    """Whether the body of such an answer can be an event: not of one that is still to be worked on."""
    return 200 <= status < 300 and status != 202


def retry_after_s(status: int, headers: Headers, now: float) -> float | None:
    """How long the subscriber asks to be spared: seconds or a date; None if it does not."""
    if status not in _ASKS_TO_WAIT:
        return None
    value = next((value for name, value in headers if name.lower() == b"retry-after"), None)
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return max(0.0, moment - now)
