"""Kubernetes resource quantities: `500m`, `64Mi`, `1.5e3` (apimachinery `resource.Quantity`)."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

_BINARY: Final = {s: Fraction(1024) ** (i + 1) for i, s in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_DECIMAL: Final = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
}
_NANO: Final = Fraction(1, 10**9)
_BINARY_MAX: Final = Fraction(2**63 - 1)
_EXPONENT: Final = re.compile(r"[eE][+-]?\d")
_PATTERN: Final = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,3}))?"
)


def parse(text: str | float) -> Fraction:
    """The exact value of a quantity; `ValueError` if it is not one.

    Units: cores for CPU, bytes for memory and storage.
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None:
        raise ValueError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    number = Fraction(match["number"])
    if match["exponent"] is not None:
        return number * Fraction(10) ** int(match["exponent"])
    suffix = match["suffix"] or ""
    return number * (_BINARY[suffix] if suffix in _BINARY else _DECIMAL[suffix])


def canonical(text: str | float) -> str:
    """The canonical spelling, as apimachinery's `Quantity` writes it.

    The largest suffix (or exponent, if one was written) of the same family that leaves a whole
    number. Binary amounts that are small or fractional become decimal; nothing is smaller than a
    nano-unit, and what is is rounded away from zero.
    """
    value = parse(text)
    if value == 0:
        return "0"
    source = str(text)
    sign, amount = ("-" if value < 0 else ""), abs(value)
    amount = Fraction(math.ceil(amount / _NANO)) * _NANO
    if source.endswith("i"):
        amount = min(amount, _BINARY_MAX)
        if amount >= 1024 and amount.denominator == 1:
            return sign + _scaled(amount, _BINARY)
    return sign + (_exponent(amount) if _EXPONENT.search(source) else _scaled(amount, _DECIMAL))


def _scaled(amount: Fraction, suffixes: dict[str, Fraction]) -> str:
    for suffix, scale in reversed(suffixes.items()):
        if (amount / scale).denominator == 1:
            return f"{amount / scale}{suffix}"
    return str(amount)


def _exponent(amount: Fraction) -> str:
    """The amount with an exponent that is a multiple of three."""
    exponent = -9
    while (amount / Fraction(10) ** (exponent + 3)).denominator == 1:
        exponent += 3
    return f"{amount / Fraction(10) ** exponent}" + (f"e{exponent}" if exponent else "")


def bytes_of(text: str | float) -> int:
    """Bytes, rounded up."""
    return -int(-parse(text) // 1)


def milli_of(text: str | float) -> int:
    """Thousandths of its unit (of a core, for CPU), rounded up."""
    return -int(-parse(text) * 1000 // 1)
