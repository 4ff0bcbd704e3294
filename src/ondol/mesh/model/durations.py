"""Durations as Istio's schemas take them (`1h30m`, `0.5s`, `100ms`): less than Go does, no `.5s` or `+1s`."""

from __future__ import annotations

import re
from typing import Final

from ondol.base import durations

PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(h|ms|m|s|us|ns))+$"


def nanoseconds(text: str) -> int:
    """The whole nanoseconds of a duration; `ValueError` if it is not one."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is not a duration, such as 1.5s, 250ms or 1m")
    return int(durations.nanoseconds(text))


def milliseconds(text: str) -> int:
    """The nearest whole milliseconds of a duration; `ValueError` if it is not one."""
    return round(nanoseconds(text) / 1_000_000)
