"""Lists taken as sets: `sets.contains`, `sets.equivalent`, `sets.intersects`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ondol.api.cel import types as t
from ondol.api.cel import values
from ondol.api.cel.functions import Function, function, overload

_LIST: Final = t.list_of(t.param("T"))


def _among(item: Any, listed: list[Any]) -> bool:
    return any(values.equal(item, each) for each in listed)


def _contains(one: list[Any], other: list[Any]) -> bool:
    return all(_among(item, one) for item in other)


def _equivalent(one: list[Any], other: list[Any]) -> bool:
    return _contains(one, other) and _contains(other, one)


def _intersects(one: list[Any], other: list[Any]) -> bool:
    return any(_among(item, other) for item in one)


def _cost(factor: int) -> Callable[[Sequence[Any]], int]:
    return lambda args: len(args[0]) * len(args[1]) * factor + 1


def _declared(word: str, run: Any, factor: int) -> Function:
    name = f"list_sets_{word}_list"
    return function(f"sets.{word}", overload(name, (_LIST, _LIST), t.BOOL, run, _cost(factor)))


FUNCTIONS: Final[list[Function]] = [
    _declared("contains", _contains, 1),
    _declared("equivalent", _equivalent, 2),
    _declared("intersects", _intersects, 1),
]
