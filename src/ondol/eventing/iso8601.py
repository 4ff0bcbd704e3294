"""Durations in ISO 8601, as delivery has them: `PT0.2S`, `PT1M30S`, `P1DT12H`. Pure."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = r"[0-9]+(?:[.,][0-9]+)?"
_DURATION: Final = re.compile(
    rf"(?P<sign>[+-]?)P(?:(?P<Y>{_NUMBER})Y)?(?:(?P<M>{_NUMBER})M)?"
    rf"(?:(?P<W>{_NUMBER})W)?(?:(?P<D>{_NUMBER})D)?"
    rf"(?:T(?:(?P<h>{_NUMBER})H)?(?:(?P<m>{_NUMBER})M)?(?:(?P<s>{_NUMBER})S)?)?"
)
_SECONDS: Final = {
    "Y": 365.2425 * 86_400,
    "M": 365.2425 * 86_400 / 12,
    "W": 7 * 86_400,
    "D": 86_400,
    "h": 3_600,
    "m": 60,
    "s": 1,
}


def seconds(text: str) -> float:
    """The seconds of a duration, of less than none if it has a sign; `ValueError` if it is none.

    Years and months are those of the calendar's mean.
    """
    match = _DURATION.fullmatch(text)
    parts = {} if match is None else {unit: match[unit] for unit in _SECONDS if match[unit]}
    if match is None or not parts or text.endswith("T"):
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as PT0.2S or PT1M30S")
    total = sum(float(number.replace(",", ".")) * _SECONDS[unit] for unit, number in parts.items())
    return -total if match["sign"] == "-" else total
