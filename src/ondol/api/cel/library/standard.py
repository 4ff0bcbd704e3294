"""The language's own functions: operators, sizes, conversions, `startsWith`, `matches`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from ondol.api.cel import nodes, operators, times, values
from ondol.api.cel import types as t
from ondol.api.cel.errors import CostExceeded, EvaluationError
from ondol.api.cel.functions import Function, Overload, function, method, overload
from ondol.api.cel.types import Type
from ondol.api.cel.values import Duration, Timestamp, TypeValue, Uint
from ondol.base import regexp
from ondol.base.errors import TooLarge

A: Final = t.param("A")
B: Final = t.param("B")
_LIST: Final = t.list_of(A)
_MAP: Final = t.map_of(A, B)
_NUMBERS: Final = (t.INT, t.UINT, t.DOUBLE)


def tenth(size: int) -> int:
    """What going over so many characters costs."""
    return (size + 9) // 10


def traversal(args: Sequence[Any]) -> int:
    """The cost of going over the first argument once."""
    return tenth(values.cost_size(args[0]))


def traversal_twice(args: Sequence[Any]) -> int:
    return (2 * values.cost_size(args[0]) + 9) // 10


def matching(args: Sequence[Any]) -> int:
    """The cost of matching the first argument with the second, an expression."""
    return tenth(values.cost_size(args[0]) + 1) * ((values.cost_size(args[1]) + 3) // 4)


def _orderings() -> list[Function]:
    """`<` and its like, of numbers of all types and of equals in kind."""
    declared = []
    for name, word, run in (
        ("_<_", "less", operators.less),
        ("_<=_", "less_equals", operators.less_or_equal),
        ("_>_", "greater", operators.greater),
        ("_>=_", "greater_equals", operators.greater_or_equal),
    ):
        pairs = [(one, one) for one in (t.BOOL, t.STRING, t.BYTES, t.TIMESTAMP, t.DURATION)]
        pairs += [(one, other) for one in _NUMBERS for other in _NUMBERS]
        overloads = [overload(f"{word}_{a.kind}_{b.kind}", (a, b), t.BOOL, run) for a, b in pairs]
        declared.append(function(name, *overloads))
    return declared


def _arithmetic() -> list[Function]:
    moments = (
        overload("add_duration_duration", (t.DURATION, t.DURATION), t.DURATION, operators.add),
        overload("add_duration_timestamp", (t.DURATION, t.TIMESTAMP), t.TIMESTAMP, operators.add),
        overload("add_timestamp_duration", (t.TIMESTAMP, t.DURATION), t.TIMESTAMP, operators.add),
    )
    differences = (
        overload("subtract_duration_duration", (t.DURATION, t.DURATION), t.DURATION, operators.subtract),
        overload("subtract_timestamp_duration", (t.TIMESTAMP, t.DURATION), t.TIMESTAMP, operators.subtract),
        overload("subtract_timestamp_timestamp", (t.TIMESTAMP, t.TIMESTAMP), t.DURATION, operators.subtract),
    )
    joined = (
        overload("add_string", (t.STRING, t.STRING), t.STRING, operators.add),
        overload("add_bytes", (t.BYTES, t.BYTES), t.BYTES, operators.add),
        overload("add_list", (_LIST, _LIST), _LIST, operators.add),
    )

    def numeric(word: str, kinds: Sequence[Type], run: Any) -> list[Overload]:
        return [overload(f"{word}_{kind.kind}", (kind, kind), kind, run) for kind in kinds]

    return [
        function("_+_", *numeric("add", _NUMBERS, operators.add), *joined, *moments),
        function("_-_", *numeric("subtract", _NUMBERS, operators.subtract), *differences),
        function("_*_", *numeric("multiply", _NUMBERS, operators.multiply)),
        function("_/_", *numeric("divide", _NUMBERS, operators.divide)),
        function("_%_", *numeric("modulo", (t.INT, t.UINT), operators.modulo)),
        function(
            nodes.NEGATE,
            overload("negate_int", (t.INT,), t.INT, operators.negate),
            overload("negate_double", (t.DOUBLE,), t.DOUBLE, operators.negate),
        ),
    ]


def _never(*_: Any) -> Any:
    """An operator the compiler has its own way for."""
    raise AssertionError


def _map_insert() -> Function:
    return function(
        nodes.MAP_INSERT,
        overload("cel_@mapInsert_map_key_value", (_MAP, A, B), _MAP, _never),
        overload("cel_@mapInsert_map_map", (_MAP, _MAP), _MAP, _never),
    )


_LOGIC: Final = (
    function(nodes.CONDITIONAL, overload("conditional", (t.BOOL, A, A), A, _never)),
    function(nodes.AND, overload("logical_and", (t.BOOL, t.BOOL), t.BOOL, _never)),
    function(nodes.OR, overload("logical_or", (t.BOOL, t.BOOL), t.BOOL, _never)),
    function(nodes.NOT, overload("logical_not", (t.BOOL,), t.BOOL, operators.negated)),
    function(nodes.NOT_STRICTLY_FALSE, overload("not_strictly_false", (t.BOOL,), t.BOOL, _never)),
    function("_==_", overload("equals", (A, A), t.BOOL, values.equal)),
    function("_!=_", overload("not_equals", (A, A), t.BOOL, operators.not_equal)),
    function(
        nodes.IN,
        overload("in_list", (A, _LIST), t.BOOL, operators.contains),
        overload("in_map", (A, _MAP), t.BOOL, operators.contains),
    ),
    function(
        nodes.INDEX,
        overload("index_list", (_LIST, t.INT), A, operators.index),
        overload("index_map", (_MAP, A), B, operators.index),
    ),
)


def _sizes() -> Function:
    sized = (("string", t.STRING), ("bytes", t.BYTES), ("list", _LIST), ("map", _MAP))
    return function(
        "size",
        *(overload(f"size_{word}", (type_,), t.INT, values.size) for word, type_ in sized),
        *(method(f"{word}_size", (type_,), t.INT, values.size) for word, type_ in sized),
    )


def matches(text: str, expression: str) -> bool:
    try:
        return regexp.compiled(expression).search(text)
    except ValueError as wrong:
        raise EvaluationError(str(wrong)) from None
    except TooLarge:
        raise CostExceeded from None


def _contains_cost(args: Sequence[Any]) -> int:
    return tenth(values.cost_size(args[0])) * tenth(values.cost_size(args[1]))


def _method_of_string(name: str, run: Any, cost: Any) -> Function:
    return function(name, method(f"{name}_string", (t.STRING, t.STRING), t.BOOL, run, cost))


_STRINGS: Final = (
    _method_of_string("contains", lambda text, part: part in text, _contains_cost),
    _method_of_string("startsWith", lambda text, part: text.startswith(part), traversal),
    _method_of_string("endsWith", lambda text, part: text.endswith(part), traversal),
    function(
        "matches",
        overload("matches", (t.STRING, t.STRING), t.BOOL, matches, matching),
        method("matches_string", (t.STRING, t.STRING), t.BOOL, matches, matching),
    ),
)


def _same(value: Any) -> Any:
    return value


_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,30}")
_UNSIGNED: Final = re.compile(r"[0-9]{1,30}")
_DOUBLE: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]{1,9})?|\.[0-9]+(?:[eE][+-]?[0-9]{1,9})?|inf|infinity|nan)",
    re.IGNORECASE,
)


def _int_of_string(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise EvaluationError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text)
    if not values.INT_MIN <= value <= values.INT_MAX:
        raise EvaluationError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def _uint_of_string(text: str) -> Uint:
    if not _UNSIGNED.fullmatch(text):
        raise EvaluationError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > values.UINT_MAX:
        raise EvaluationError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return Uint(text)


def _double_of_string(text: str) -> float:
    if len(text) > 1000 or not _DOUBLE.fullmatch(text):
        raise EvaluationError(f'strconv.ParseFloat: parsing "{text[:1000]}": invalid syntax')
    return float(text)


def _int_of_double(value: float) -> int:
    if math.isnan(value) or not -(2**63) < value < 2**63:
        raise EvaluationError("integer overflow")
    return int(value)


def _uint_of_double(value: float) -> Uint:
    if math.isnan(value) or not 0 <= value < 2**64:
        raise EvaluationError("unsigned integer overflow")
    return Uint(int(value))


def _bool_of_string(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise EvaluationError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _string_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None


def _timestamp_of_string(text: str) -> Timestamp:
    try:
        return times.read_timestamp(text)
    except ValueError:
        raise EvaluationError(f'parsing time "{text[:100]}": not a time of RFC 3339') from None


def _duration_of_string(text: str) -> Duration:
    try:
        return times.read_duration(text)
    except ValueError as wrong:
        raise EvaluationError(str(wrong)) from None


def _type(value: Any) -> TypeValue:
    return values.type_of(value)


Way = tuple[Type, Any] | tuple[Type, Any, Any]
"""From a type: how, and at what cost if it is not one."""


def _to(result: Type, *ways: Way) -> Function:
    """A conversion, called as the type it makes."""
    name = result.kind
    return function(
        name,
        *(overload(f"{way[0].kind}_to_{name}", (way[0],), result, way[1], *way[2:]) for way in ways),
    )


_TO_TEXT: Final = (
    (t.STRING, _same),
    (t.BOOL, lambda value: "true" if value else "false"),
    (t.BYTES, _string_of_bytes, traversal),
    (t.DOUBLE, values.spelled_double),
    (t.DURATION, times.spelled_duration),
    (t.INT, str),
    (t.TIMESTAMP, times.spelled_timestamp),
    (t.UINT, lambda value: str(int(value))),
)
_TO_INTEGER: Final = (
    (t.INT, _same),
    (t.DOUBLE, _int_of_double),
    (t.DURATION, lambda value: value.nanos),
    (t.STRING, _int_of_string),
    (t.TIMESTAMP, lambda value: value.nanos // values.NANOS),
    (t.UINT, lambda value: values.integer(int(value))),
)


def _conversions() -> list[Function]:
    s = t.STRING
    seconds = (t.INT, lambda value: values.timestamp(value * values.NANOS))
    return [
        _to(t.BOOL, (t.BOOL, _same), (s, _bool_of_string)),
        _to(t.BYTES, (t.BYTES, _same), (s, str.encode, traversal)),
        _to(t.DOUBLE, (t.DOUBLE, _same), (t.INT, float), (s, _double_of_string), (t.UINT, float)),
        _to(t.DURATION, (t.DURATION, _same), (t.INT, Duration), (s, _duration_of_string)),
        _to(t.INT, *_TO_INTEGER),
        _to(s, *_TO_TEXT),
        _to(t.TIMESTAMP, (t.TIMESTAMP, _same), seconds, (s, _timestamp_of_string)),
        _to(
            t.UINT,
            (t.UINT, _same),
            (t.DOUBLE, _uint_of_double),
            (t.INT, values.unsigned),
            (s, _uint_of_string),
        ),
        function("dyn", overload("to_dyn", (A,), t.DYN, _same)),
        function("type", overload("type", (A,), t.type_of(A), _type)),
    ]


FUNCTIONS: Final[list[Function]] = [
    *_LOGIC,
    *_orderings(),
    *_arithmetic(),
    _map_insert(),
    _sizes(),
    *_STRINGS,
    *_conversions(),
]
TYPES: Final = {
    "bool": t.BOOL,
    "int": t.INT,
    "uint": t.UINT,
    "double": t.DOUBLE,
    "string": t.STRING,
    "bytes": t.BYTES,
    "list": t.list_of(t.DYN),
    "map": t.map_of(t.DYN, t.DYN),
    "null_type": t.NULL,
    "type": t.type_of(t.DYN),
    "google.protobuf.Duration": t.DURATION,
    "google.protobuf.Timestamp": t.TIMESTAMP,
}
