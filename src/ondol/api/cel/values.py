"""Values of expressions, and what all of them can do: be compared, be measured, name their type.

JSON is taken as it is: None, bool, int, float, str, list and dict are CEL's null, bool, int, double,
string, list and map; bytes are Python's own. What JSON has not stands here: `Uint`, `Duration`, `Timestamp`,
`Optional`, `TypeValue`. In maps with other than string keys, `true` and `false` are kept as `BoolKey`, since
Python takes them for 1 and 0.
"""

from __future__ import annotations

import decimal
import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api.cel.errors import EvaluationError, NoSuchOverload

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
UINT_MAX: Final = 2**64 - 1
NANOS: Final = 10**9
TIMESTAMP_MIN_S: Final = -62135596800
"""The first second of year 1."""
TIMESTAMP_MAX_S: Final = 253402300799
"""The last second of year 9999."""


class Uint(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time in nanoseconds, within 64 bits."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment, in nanoseconds since 1970 in UTC; `offset_s` is the time zone it is written in."""

    nanos: int
    offset_s: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class TypeValue:
    """What `type(x)` answers, and `int`, `string`, ... stand for."""

    name: str


class BoolKey(enum.Enum):
    """A key of a map that is a boolean."""

    FALSE = 0
    TRUE = 1


class Optional:
    """A value that may be absent: `optional.of(x)`."""

    __slots__ = ("has_value", "value")

    def __init__(self, value: Any = None, *, has_value: bool = True) -> None:
        self.value = value
        self.has_value = has_value

    def get(self) -> Any:
        if not self.has_value:
            raise EvaluationError("optional.none() dereference")
        return self.value


NONE: Final = Optional(has_value=False)


class Opaque:
    """A value of a library, such as an address; comparable by `==`, and as large as `cel_size`."""

    __slots__ = ()
    cel_type: TypeValue
    cel_size: int = 1


_TYPE_NAMES: Final[dict[type, str]] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Duration: "google.protobuf.Duration",
    Timestamp: "google.protobuf.Timestamp",
    Optional: "optional_type",
    TypeValue: "type",
}
_NUMBERS: Final = (int, float, Uint)


def type_of(value: Any) -> TypeValue:
    name = _TYPE_NAMES.get(type(value))
    if name is not None:
        return TypeValue(name)
    declared: Any = getattr(value, "cel_type", None)
    return declared if isinstance(declared, TypeValue) else TypeValue("map")


def equal(one: Any, other: Any) -> bool:
    """CEL's `==`: numbers of all types by their value, anything else of different types is not equal."""
    kind, other_kind = type(one), type(other)
    if kind is other_kind:
        if kind is list:
            return len(one) == len(other) and all(map(equal, one, other))
        if kind is dict:
            return len(one) == len(other) and all(
                key in other and equal(value, other[key]) for key, value in one.items()
            )
        if kind is Optional:
            return one.has_value == other.has_value and equal(one.value, other.value)
        return bool(one == other)
    if kind in _NUMBERS and other_kind in _NUMBERS:
        one, other = _comparable(one, other)
        return bool(one == other)
    return False


def _comparable(one: Any, other: Any) -> tuple[Any, Any]:
    """Two numbers as they are compared: as doubles, if one of them is."""
    if type(one) is float or type(other) is float:
        return float(one), float(other)
    return one, other


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1; `NoSuchOverload` for values that have no order."""
    kind, other_kind = type(one), type(other)
    if kind in _NUMBERS and other_kind in _NUMBERS:
        if one != one or other != other:  # noqa: PLR0124 - what is not equal to itself is no number
            raise EvaluationError("NaN values cannot be ordered")
        one, other = _comparable(one, other)
    elif kind is not other_kind or kind not in (bool, str, bytes, Duration, Timestamp):
        raise NoSuchOverload
    return int(one > other) - int(one < other)


def key(value: Any) -> Any:
    """The key of a dict that stands for a key of a map; `EvaluationError` for what cannot be one."""
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return BoolKey.TRUE if value else BoolKey.FALSE
    if kind is int or kind is Uint:
        return int(value)
    if kind is float and value.is_integer():
        return int(value)
    raise EvaluationError(f"unsupported key type: {type_of(value).name}")


def keys(mapping: dict[Any, Any]) -> list[Any]:
    """The keys of a map as values."""
    return [bool(k.value) if type(k) is BoolKey else k for k in mapping]


def size(value: Any) -> int:
    """Characters, bytes, elements or entries; `NoSuchOverload` for what has none."""
    if isinstance(value, str | list | dict | bytes):
        return len(value)
    raise NoSuchOverload


def cost_size(value: Any) -> int:
    """What a value counts for in the cost of an operation; 1 for what has no size."""
    kind = type(value)
    if kind is str or kind is list or kind is dict or kind is bytes:
        return len(value)
    if isinstance(value, Opaque):
        return value.cel_size
    if kind is Optional and value.has_value:
        return cost_size(value.value)
    return 1


def integer(value: int) -> int:
    """An int within 64 bits."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvaluationError("integer overflow")


def unsigned(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise EvaluationError("unsigned integer overflow")


def duration(nanos: int) -> Duration:
    if INT_MIN <= nanos <= INT_MAX:
        return Duration(nanos)
    raise EvaluationError("duration overflow")


def timestamp(nanos: int, offset_s: int = 0) -> Timestamp:
    if TIMESTAMP_MIN_S * NANOS <= nanos < (TIMESTAMP_MAX_S + 1) * NANOS:
        return Timestamp(nanos, offset_s)
    raise EvaluationError("timestamp overflow")


def is_zero(value: Any) -> bool:
    """Whether a value is the empty one of its type."""
    if value is None or type(value) in (bool, int, Uint, float, str, bytes, list, dict):
        return not value
    if type(value) is Duration:
        return value.nanos == 0
    return type(value) is Timestamp and value.nanos == TIMESTAMP_MIN_S * NANOS


def spelled_double(value: float) -> str:
    """A double with as few digits as name it; with an exponent from a million on, as Go's."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    exact = decimal.Decimal(repr(value))
    exponent = exact.adjusted() if value else 0
    if not -4 <= exponent < 6:
        digits = "".join(map(str, exact.as_tuple().digits)).rstrip("0") or "0"
        mantissa = f"{digits[0]}.{digits[1:]}".rstrip(".")
        return f"{'-' if value < 0 else ''}{mantissa}e{exponent:+03d}"
    text = f"{exact:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def elements(value: Any) -> Iterator[Any]:
    """What a comprehension with one variable goes over."""
    if type(value) is list:
        return iter(value)
    if type(value) is dict:
        return iter(keys(value))
    raise NoSuchOverload


def pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    """What a comprehension with two variables goes over."""
    if type(value) is list:
        return enumerate(value)
    if type(value) is dict:
        return zip(keys(value), value.values(), strict=True)
    raise NoSuchOverload
