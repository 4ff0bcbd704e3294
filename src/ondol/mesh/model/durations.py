"""Durations as Istio writes them (`1h30m`, `0.5s`, `100ms`) in milliseconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_UNIT_NS: Final = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(h|ms|m|s|us|ns))+$"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|ns)")


def nanoseconds(text: str) -> int:
    """The whole nanoseconds of a duration; `ValueError` if it is not one."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is not a duration, such as 1.5s, 250ms or 1m")
    return int(sum(Decimal(number) * _UNIT_NS[unit] for number, unit in _PART.findall(text)))


def milliseconds(text: str) -> int:
    """The nearest whole milliseconds of a duration; `ValueError` if it is not one."""
    return round(nanoseconds(text) / 1_000_000)
