"""What the operators do, on values of any types: `NoSuchOverload` where they mean nothing.

The compiler takes shorter ways where the checker knows the types; these are the long ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from ondol.api.cel import values
from ondol.api.cel.errors import CostExceeded, EvaluationError, NoSuchOverload
from ondol.api.cel.values import Duration, Optional, Timestamp, Uint

ELEMENTS_MAX: Final = 1_000_000
"""Elements of a list, or characters of a string in multiples of ten, that an operation may make: going over
them costs as much as a call may."""
CHARACTERS_MAX: Final = 10 * ELEMENTS_MAX


def add(one: Any, other: Any) -> Any:
    kind, other_kind = type(one), type(other)
    if kind is other_kind:
        if kind is int:
            return values.integer(one + other)
        if kind is Uint:
            return values.unsigned(int(one) + int(other))
        if kind is float:
            return one + other
        if kind is str or kind is bytes:
            return _bounded(one, other, CHARACTERS_MAX)
        if kind is list:
            return _bounded(one, other, ELEMENTS_MAX)
        if kind is Duration:
            return values.duration(one.nanos + other.nanos)
    if kind is Timestamp and other_kind is Duration:
        return values.timestamp(one.nanos + other.nanos, one.offset_s)
    if kind is Duration and other_kind is Timestamp:
        return values.timestamp(one.nanos + other.nanos, other.offset_s)
    raise NoSuchOverload


def _bounded(one: Any, other: Any, limit: int) -> Any:
    if len(one) + len(other) > limit:
        raise CostExceeded
    return one + other


def subtract(one: Any, other: Any) -> Any:
    kind, other_kind = type(one), type(other)
    if kind is other_kind:
        if kind is int:
            return values.integer(one - other)
        if kind is Uint:
            return values.unsigned(int(one) - int(other))
        if kind is float:
            return one - other
        if kind is Duration or kind is Timestamp:
            return values.duration(one.nanos - other.nanos)
    if kind is Timestamp and other_kind is Duration:
        return values.timestamp(one.nanos - other.nanos, one.offset_s)
    raise NoSuchOverload


def multiply(one: Any, other: Any) -> Any:
    kind = type(one)
    if kind is type(other):
        if kind is int:
            return values.integer(one * other)
        if kind is Uint:
            return values.unsigned(int(one) * int(other))
        if kind is float:
            return one * other
    raise NoSuchOverload


def divide(one: Any, other: Any) -> Any:
    """Towards zero for integers."""
    kind = type(one)
    if kind is not type(other):
        raise NoSuchOverload
    if kind is float:
        return _divided(one, other)
    if kind is not int and kind is not Uint:
        raise NoSuchOverload
    if other == 0:
        raise EvaluationError("division by zero")
    if kind is Uint:
        return Uint(int(one) // int(other))
    quotient = abs(one) // abs(other)
    return values.integer(-quotient if (one < 0) != (other < 0) else quotient)


def _divided(one: float, other: float) -> float:
    if other != 0:
        return one / other
    if one == 0 or math.isnan(one):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1, other)


def modulo(one: Any, other: Any) -> Any:
    """With the sign of the dividend."""
    kind = type(one)
    if kind is not type(other) or kind not in (int, Uint):
        raise NoSuchOverload
    if other == 0:
        raise EvaluationError("modulus by zero")
    if kind is Uint:
        return Uint(int(one) % int(other))
    if one == values.INT_MIN and other == -1:
        raise EvaluationError("integer overflow")
    rest = abs(one) % abs(other)
    return -rest if one < 0 else rest


def negate(value: Any) -> Any:
    if type(value) is int:
        return values.integer(-value)
    if type(value) is float:
        return -value
    raise NoSuchOverload


def negated(value: Any) -> bool:
    if type(value) is bool:
        return not value
    raise NoSuchOverload


def contains(element: Any, container: Any) -> bool:
    """`in`: an element of a list, a key of a map."""
    if type(container) is dict:
        try:
            return values.key(element) in container
        except EvaluationError:
            return False
    if type(container) is list:
        return any(values.equal(element, each) for each in container)
    raise NoSuchOverload


def index(container: Any, place: Any) -> Any:
    """`container[place]`; of an optional container an optional element."""
    if type(container) is dict:
        try:
            return container[values.key(place)]
        except KeyError:
            raise EvaluationError(f"no such key: {place}") from None
    if type(container) is list:
        return container[_position(container, place)]
    if type(container) is Optional:
        return optional_index(container, place)
    raise NoSuchOverload


def _position(container: list[Any], place: Any) -> int:
    if type(place) is float and place.is_integer():
        place = int(place)
    if type(place) not in (int, Uint):
        raise EvaluationError(f"unsupported index type '{values.type_of(place).name}' in list")
    if not 0 <= place < len(container):
        raise EvaluationError(f"index out of bounds: {int(place)}")
    return int(place)


def optional_index(container: Any, place: Any) -> Optional:
    """`container[?place]`: absent where `container[place]` would be an error."""
    if type(container) is Optional:
        if not container.has_value:
            return values.NONE
        container = container.value
    if type(container) is dict:
        key = values.key(place)
        return Optional(container[key]) if key in container else values.NONE
    if type(container) is list and type(place) in (int, Uint):
        return Optional(container[place]) if 0 <= place < len(container) else values.NONE
    raise NoSuchOverload


def _ordering(test: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    return lambda one, other: test(values.compare(one, other))


less = _ordering(lambda order: order < 0)
less_or_equal = _ordering(lambda order: order <= 0)
greater = _ordering(lambda order: order > 0)
greater_or_equal = _ordering(lambda order: order >= 0)


def not_equal(one: Any, other: Any) -> bool:
    return not values.equal(one, other)
