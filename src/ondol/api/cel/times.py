"""Moments and durations: how they are read and written, and their parts in a time zone."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from ondol.api.cel import values
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.values import NANOS, Duration, Timestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)"
)
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_UNITS: Final = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": NANOS,
    "m": 60 * NANOS,
    "h": 3600 * NANOS,
}
_LONG_UNITS: Final = {**_UNITS, "d": 86400 * NANOS, "w": 7 * 86400 * NANOS}
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)")


def read_timestamp(text: str) -> Timestamp:
    """A moment of RFC 3339; `ValueError` for anything else, and outside of years 1 to 9999."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot parse {text!r} as a timestamp")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    nanos = int((match[7] or "").ljust(9, "0") or 0)
    offset_s = _offset_s(match[8])
    try:
        return values.timestamp(_nanos_of(moment) + nanos - offset_s * NANOS, offset_s)
    except EvaluationError:
        raise ValueError("timestamp out of range") from None


def _offset_s(text: str) -> int:
    if text in ("Z", "z"):
        return 0
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError(f"not an offset: {text}")
    seconds = hours * 3600 + minutes * 60
    return -seconds if text[0] == "-" else seconds


def read_date(text: str) -> Timestamp:
    """A day, `2006-01-02`, as its first moment in UTC; `ValueError`."""
    if len(text) != 10:
        raise ValueError(f"not a date: {text!r}")
    return Timestamp(_nanos_of(datetime.fromisoformat(text).replace(tzinfo=UTC)))


def _nanos_of(moment: datetime) -> int:
    delta = moment - _EPOCH
    return (delta.days * 86400 + delta.seconds) * NANOS


def read_duration(text: str, *, days: bool = False) -> Duration:
    """Go's spelling: `1h30m`, `-1.5s`; with `days` also of days and weeks. `ValueError`."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return Duration(0)
    units, total, position = _LONG_UNITS if days else _UNITS, 0, 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None or match[2] not in units:
            raise ValueError(f"time: invalid duration {text!r}")
        total += _scaled(match[1], units[match[2]])
        position = match.end() + (days and rest[match.end() : match.end() + 1] == " ")
    total *= sign
    if not rest or not values.INT_MIN <= total <= values.INT_MAX:
        raise ValueError(f"time: invalid duration {text!r}")
    return Duration(total)


def _scaled(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    digits = fraction[:18]
    parts: int = int(digits or 0) * unit // int("1" + "0" * len(digits))
    return int(whole[:40] or 0) * unit + parts


def spelled_timestamp(moment: Timestamp) -> str:
    """RFC 3339 in the time zone it was written in, with as many digits of a second as it has."""
    seconds, nanos = divmod(moment.nanos, NANOS)
    there = timedelta(seconds=seconds + moment.offset_s)
    try:
        text = (_EPOCH + there).replace(tzinfo=None).isoformat(timespec="seconds")
    except OverflowError:
        raise EvaluationError("timestamp overflow") from None
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{text}{fraction}{_spelled_offset(moment.offset_s)}"


def _spelled_offset(offset_s: int) -> str:
    if offset_s == 0:
        return "Z"
    hours, minutes = divmod(abs(offset_s) // 60, 60)
    return f"{'-' if offset_s < 0 else '+'}{hours:02d}:{minutes:02d}"


def spelled_duration(length: Duration) -> str:
    """Seconds: `60s`, `1.5s`."""
    whole, nanos = divmod(abs(length.nanos), NANOS)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{'-' if length.nanos < 0 else ''}{whole}{fraction}s"


def local(moment: Timestamp, zone: str = "UTC") -> datetime:
    """The moment in a zone: a name of the tz database, or an offset such as `+01:00`."""
    try:
        return (_EPOCH + timedelta(seconds=moment.nanos // NANOS)).astimezone(_zone(zone))
    except OverflowError:
        raise EvaluationError("timestamp overflow") from None


def _zone(text: str) -> tzinfo:
    match = _OFFSET.fullmatch(text)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes >= 24 * 60:
            raise EvaluationError(f"time zone offset out of range: {text}")
        return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if text in ("", "UTC"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(text)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise EvaluationError(f"unknown time zone {text}") from None
