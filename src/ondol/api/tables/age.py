"""How long ago, as kubectl prints it: two or three significant figures, coarser for longer times."""

from __future__ import annotations

from typing import Any, Final

from ondol.base import timestamps

UNKNOWN: Final = "<unknown>"
INVALID: Final = "<invalid>"
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY


def since(timestamp: Any, now: float) -> str:
    """The age of an RFC 3339 time; `<unknown>` without one."""
    if not timestamp:
        return UNKNOWN
    try:
        return human(now - timestamps.parse_rfc3339(str(timestamp)))
    except ValueError:
        return INVALID


def human(duration_s: float) -> str:
    """A duration as apimachinery's `HumanDuration` writes it; clocks may differ by a second."""
    seconds = int(duration_s)
    if seconds < 0:
        return "0s" if seconds == -1 else INVALID
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, (_MINUTE, "m"), (1, "s"))
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, (_HOUR, "h"), (_MINUTE, "m"))
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, (_DAY, "d"), (_HOUR, "h"))
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two(seconds, (_YEAR, "y"), (_DAY, "d"))
    return f"{seconds // _YEAR}y"


def _two(seconds: int, unit: tuple[int, str], smaller: tuple[int, str]) -> str:
    rest = seconds % unit[0] // smaller[0]
    return f"{seconds // unit[0]}{unit[1]}" + (f"{rest}{smaller[1]}" if rest else "")
