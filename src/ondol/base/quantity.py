"""Kubernetes resource quantities: `500m`, `64Mi`, `1.5e3` (apimachinery `resource.Quantity`)."""

from __future__ import annotations

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
    """The canonical spelling: largest suffix of the same family that leaves a whole number."""
    value = parse(text)
    source = str(text)
    if value == 0:
        return "0"
    if source.endswith("i"):
        for suffix, scale in reversed(_BINARY.items()):
            if (value / scale).denominator == 1:
                return f"{value / scale}{suffix}"
    scaled = value.numerator // value.denominator if value.denominator == 1 else None
    if scaled is not None:
        for suffix, scale in reversed(_DECIMAL.items()):
            if scale >= 1 and (value / scale).denominator == 1:
                return f"{value / scale}{suffix}"
    for suffix in ("m", "u", "n"):
        if (value / _DECIMAL[suffix]).denominator == 1:
            return f"{value / _DECIMAL[suffix]}{suffix}"
    rounded = -(-value // _DECIMAL["n"])  # below a nano-unit the value is rounded up
    return f"{rounded}n"


def bytes_of(text: str | float) -> int:
    """Bytes, rounded up."""
    return -int(-parse(text) // 1)


def millicores_of(text: str | float) -> int:
    """Thousandths of a core, rounded up."""
    return -int(-parse(text) * 1000 // 1)
