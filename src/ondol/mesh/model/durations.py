"""Durations as Istio writes them (`1h30m`, `0.5s`, `100ms`) in milliseconds."""

from __future__ import annotations

import re
from typing import Final

_UNIT_MS: Final = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0, "us": 0.001, "ns": 0.000001}
PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(h|ms|m|s|us|ns))+$"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|ns)")


def milliseconds(text: str) -> int:
    """The whole milliseconds of a duration; `ValueError` if it is not one."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is not a duration, such as 1.5s, 250ms or 1m")
    return round(sum(float(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text)))
