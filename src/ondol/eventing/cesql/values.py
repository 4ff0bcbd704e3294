"""The three types of CESQL, and casts between them."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from ondol.eventing.cesql.errors import ErrorKind, Fault
from ondol.eventing.cesql.syntax import Value

INTEGER_MIN: Final = -(2**31)
INTEGER_MAX: Final = 2**31 - 1
Type: TypeAlias = type[bool] | type[int] | type[str]
_INTEGER: Final = re.compile(r"([+-]?)0*(\d{1,10})", re.ASCII)


def type_of(value: Value) -> Type:
    """Its type; Boolean is no Integer."""
    return type(value)


def boolean(value: Value) -> bool:
    """Cast to Boolean; `Fault` of kind cast."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    lowered = value.lower()
    if lowered == "true":
        return True
    if lowered == "false":
        return False
    raise Fault(ErrorKind.CAST, f"{_shown(value)} is no Boolean")


def integer(value: Value) -> int:
    """Cast to Integer; `Fault` of kind cast."""
    if not isinstance(value, str):
        return int(value)
    match = _INTEGER.fullmatch(value)  # int() itself refuses thousands of zeros
    if match is not None and INTEGER_MIN <= (number := int(match[1] + match[2])) <= INTEGER_MAX:
        return number
    raise Fault(ErrorKind.CAST, f"{_shown(value)} is no Integer")


def string(value: Value) -> str:
    """Cast to String, which every value can be."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def cast(value: Value, type: Type) -> Value:
    """A value as one of this type; `Fault` of kind cast."""
    if type is str:
        return string(value)
    return boolean(value) if type is bool else integer(value)


def bounded(number: int) -> int:
    """A number that fits an Integer; `Fault` of kind math where an operation leaves its range."""
    if INTEGER_MIN <= number <= INTEGER_MAX:
        return number
    raise Fault(ErrorKind.MATH, "the integer overflows 32 bits")


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else f"{value[:40]}…")
