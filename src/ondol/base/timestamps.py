"""Times as the API writes them; apart from `clock`, so that pure packages need no event loop."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Final

_SECONDS_MAX: Final = 64


def rfc3339(timestamp: float) -> str:
    """Format as Kubernetes `metav1.Time`: UTC, whole seconds, `Z`."""
    return _rfc3339(int(timestamp))


@functools.lru_cache(_SECONDS_MAX)
def _rfc3339(second: int) -> str:
    """The same of a whole second; a server writes each of them many times."""
    return spelled(datetime.fromtimestamp(second, UTC))


def rfc3339_micro(timestamp: float) -> str:
    """Format as Kubernetes `metav1.MicroTime`: UTC, six decimals, `Z`."""
    return spelled_micro(datetime.fromtimestamp(timestamp, UTC))


def spelled(moment: datetime) -> str:
    """A moment in UTC as `metav1.Time`; years have four digits, which strftime does not promise."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def spelled_micro(moment: datetime) -> str:
    """A moment in UTC as `metav1.MicroTime`."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_rfc3339(text: str) -> float:
    """Parse an RFC 3339 time to seconds since the epoch; `ValueError` if it is not one."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return moment.timestamp()
