"""Lists: Kubernetes' `isSorted`, `sum`, `min`, `max`, `indexOf`, and cel-go's extension of version 3."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

from ondol.api.cel import operators, values
from ondol.api.cel import types as t
from ondol.api.cel.errors import CostExceeded, EvaluationError
from ondol.api.cel.functions import Function, Overload, function, method, overload
from ondol.api.cel.library.strings import traversal_of
from ondol.api.cel.types import Type
from ondol.api.cel.values import Duration, Uint

_A: Final = t.param("A")
_LIST: Final = t.list_of(_A)
_SUMMABLE: Final[dict[Type, Any]] = {
    t.INT: 0,
    t.UINT: Uint(0),
    t.DOUBLE: 0.0,
    t.DURATION: Duration(0),
}
_COMPARABLE: Final = (t.INT, t.UINT, t.DOUBLE, t.BOOL, t.DURATION, t.TIMESTAMP, t.STRING, t.BYTES)


def _traversal(args: Sequence[Any]) -> int:
    return traversal_of(args[0])


def _is_sorted(listed: list[Any]) -> bool:
    return all(values.compare(one, other) <= 0 for one, other in itertools.pairwise(listed))


def _sum(zero: Any) -> Callable[[list[Any]], Any]:
    return lambda listed: functools.reduce(operators.add, listed, zero)


def _extreme(name: str, direction: int) -> Callable[[list[Any]], Any]:
    def run(listed: list[Any]) -> Any:
        if not listed:
            raise EvaluationError(f"{name} called on empty list")
        return functools.reduce(
            lambda best, each: each if values.compare(each, best) == direction else best, listed
        )

    return run


def _index_of(listed: list[Any], item: Any) -> int:
    return next((place for place, each in enumerate(listed) if values.equal(each, item)), -1)


def _last_index_of(listed: list[Any], item: Any) -> int:
    places = range(len(listed) - 1, -1, -1)
    return next((place for place in places if values.equal(listed[place], item)), -1)


def _slice(listed: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(
            f"cannot slice({start}, {end}), start index must be less than or equal to end index"
        )
    if end > len(listed):
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(listed)}")
    return listed[start:end]


def _flatten(listed: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    out: list[Any] = []
    for item in listed:
        if type(item) is list and depth > 0:
            out += _flatten(item, depth - 1)
        else:
            out.append(item)
        if len(out) > operators.ELEMENTS_MAX:
            raise CostExceeded
    return out


def _range(count: int) -> list[int]:
    return list(range(count))


def _distinct(listed: list[Any]) -> list[Any]:
    if all(type(item) is str for item in listed):
        return list(dict.fromkeys(listed))
    out: list[Any] = []
    for item in listed:
        if not any(values.equal(item, each) for each in out):
            out.append(item)
    return out


def _sorted(listed: list[Any]) -> list[Any]:
    return _sorted_by(listed, listed)


def _sorted_by(listed: list[Any], by: list[Any]) -> list[Any]:
    if len(listed) != len(by):
        message = f"@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {len(listed)} and {len(by)} elements respectively"  # noqa: E501  # one message
        raise EvaluationError(message)
    if any(type(key) is not type(by[0]) for key in by):
        raise EvaluationError("list elements must have the same type")
    order = functools.cmp_to_key(values.compare)
    places = sorted(range(len(by)), key=lambda place: order(by[place]))
    return [listed[place] for place in places]


def _allocating(size: int) -> int:
    """The cost of a call that makes a list after so many steps."""
    return size + 11


def _range_cost(args: Sequence[Any]) -> int:
    return _allocating(max(args[0], 0))


def _flatten_cost(args: Sequence[Any]) -> int:
    return _allocating(len(args[0]) * (max(args[1], 0) if len(args) == 2 else 1))


def _comparing(place: int) -> Callable[[Sequence[Any]], int]:
    """The cost of comparing every element of an argument with every other."""

    def cost(args: Sequence[Any]) -> int:
        keys = args[place]
        factor = 21 if keys and type(keys[0]) in (str, bytes) else 20
        return _allocating(len(keys) ** 2 * factor // 10)

    return cost


def _size_cost(result: Any) -> int:
    return _allocating(len(result))


def _of_types(types: Sequence[Type], build: Callable[[str, Type], Overload]) -> list[Overload]:
    return [build(type_.kind, type_) for type_ in types]


def _comparing_methods(id: str, result: Type | None, run: Any) -> list[Overload]:
    """A method of lists of every type that has an order; without a result it answers with an element."""
    return _of_types(
        _COMPARABLE,
        lambda word, type_: method(
            f"list_{word}_{id}", (t.list_of(type_),), result or type_, run, _traversal
        ),
    )


def _searching(id: str, run: Any) -> Overload:
    return method(f"list_a_{id}_int", (_LIST, _A), t.INT, run, _traversal)


FUNCTIONS: Final[list[Function]] = [
    function("isSorted", *_comparing_methods("is_sorted_bool", t.BOOL, _is_sorted)),
    function(
        "sum",
        *(
            method(f"list_{type_.kind}_sum", (t.list_of(type_),), type_, _sum(zero), _traversal)
            for type_, zero in _SUMMABLE.items()
        ),
    ),
    function("min", *_comparing_methods("min", None, _extreme("min", -1))),
    function("max", *_comparing_methods("max", None, _extreme("max", 1))),
    function("indexOf", _searching("index_of", _index_of)),
    function("lastIndexOf", _searching("last_index_of", _last_index_of)),
    function("slice", method("list_slice", (_LIST, t.INT, t.INT), _LIST, _slice, result_cost=_size_cost)),
    function(
        "flatten",
        method("list_flatten", (t.list_of(_LIST),), _LIST, _flatten, _flatten_cost),
        method("list_flatten_int", (t.list_of(t.DYN), t.INT), t.list_of(t.DYN), _flatten, _flatten_cost),
    ),
    function("lists.range", overload("lists_range", (t.INT,), t.list_of(t.INT), _range, _range_cost)),
    function(
        "reverse",
        method("list_reverse", (_LIST,), _LIST, lambda listed: listed[::-1], result_cost=_size_cost),
    ),
    function("distinct", method("list_distinct", (_LIST,), _LIST, _distinct, _comparing(0))),
    function(
        "sort",
        *_of_types(
            _COMPARABLE,
            lambda word, type_: method(
                f"list_{word}_sort", (t.list_of(type_),), t.list_of(type_), _sorted, _comparing(0)
            ),
        ),
    ),
    function(
        "@sortByAssociatedKeys",
        *_of_types(
            _COMPARABLE,
            lambda word, type_: method(
                f"list_{word}_sortByAssociatedKeys",
                (_LIST, t.list_of(type_)),
                _LIST,
                _sorted_by,
                _comparing(1),
            ),
        ),
    ),
]
