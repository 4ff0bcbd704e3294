"""Durations as Go programs write them: a number and a unit, repeated (`1h30m`, `0.5s`, `100ms`)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)"
_DURATION: Final = re.compile(rf"\+?(?:{_PART})+")


def nanoseconds(text: str) -> Decimal:
    """The nanoseconds of a duration of no less than zero, fractions included; `ValueError` if it is none.

    The grammar is that of Go's `time.ParseDuration`: `1.5h`, `+.5s`, `2m1.s`, and `0` without a unit.
    """
    if text == "0":
        return Decimal(0)
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a duration such as 200ms, 1.5s or 1m30s")
    return sum((Decimal(number) * _UNITS_NS[unit] for number, unit in re.findall(_PART, text)), Decimal(0))
