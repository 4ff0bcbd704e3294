"""Times as the API writes them; apart from `clock`, so that pure packages need no event loop."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(timestamp: float) -> str:
    """Format as Kubernetes `metav1.Time`: UTC, whole seconds, `Z`."""
    return spelled(datetime.fromtimestamp(int(timestamp), UTC))


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
