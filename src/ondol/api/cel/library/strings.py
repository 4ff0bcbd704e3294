"""Strings, as cel-go's extension of version 2 has them; positions count characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ondol.api.cel import literals, operators
from ondol.api.cel import types as t
from ondol.api.cel.errors import CostExceeded, EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library import formatting
from ondol.api.cel.library.standard import traversal, traversal_twice
from ondol.api.cel.types import Type

_S: Final = t.STRING
_STRINGS: Final = t.list_of(t.STRING)


def _out_of_range(index: int) -> EvaluationError:
    return EvaluationError(f"index out of range: {index}")


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise _out_of_range(index)
    return text[index : index + 1]


def _index_of(text: str, part: str, offset: int = 0) -> int:
    if not part:
        return offset
    if offset < 0:
        raise _out_of_range(offset)
    return text.find(part, offset) if offset < len(text) else -1


def _last_index_of(text: str, part: str, offset: int | None = None) -> int:
    if not part:
        return len(text) if offset is None else offset
    if offset is None:
        return text.rfind(part)
    if offset < 0:
        raise _out_of_range(offset)
    return text.rfind(part, 0, offset + len(part)) if offset < len(text) else -1


def _substring(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else end
    if end is not None and start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    for index in (start, last):
        if not 0 <= index <= len(text):
            raise _out_of_range(index)
    return text[start:last]


_UPPER: Final = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029"
    "\u202f\u205f\u3000"
)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    times = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + times * len(new) > operators.CHARACTERS_MAX:
        raise CostExceeded
    return text.replace(old, new, max(count, -1))


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    if not separator:
        parts = list(text)
        return parts if count < 0 else [*parts[: count - 1], *_joined_rest(parts[count - 1 :])]
    return text.split(separator, count - 1 if count > 0 else -1)


def _joined_rest(parts: list[str]) -> list[str]:
    return ["".join(parts)] if parts else []


def _join(parts: list[Any], separator: str = "") -> str:
    for part in parts:
        if type(part) is not str:
            raise EvaluationError(f"join: invalid input: {part}")
    if sum(map(len, parts)) + len(separator) * len(parts) > operators.CHARACTERS_MAX:
        raise CostExceeded
    return separator.join(parts)


def _join_cost(result: Any) -> int:
    return (2 * len(result) + 9) // 10


def _listing(args: Sequence[Any]) -> int:
    """The cost of going over a list, and over the texts in it."""
    return traversal_of(args[0])


def traversal_of(value: Any) -> int:
    """What going over a value as a tree costs."""
    kind = type(value)
    if kind is str:
        return len(value.encode("utf-8", "replace")) // 10
    if kind is bytes:
        return len(value) // 10
    if kind is list:
        return sum(map(traversal_of, value))
    if kind is dict:
        return sum(traversal_of(key) + traversal_of(item) for key, item in value.items())
    return 1


def _method(
    name: str, id: str, args: Sequence[Type], result: Type, run: Any, *, cost: Any = None
) -> Function:
    return function(name, method(id, args, result, run, cost))


FUNCTIONS: Final[list[Function]] = [
    _method("charAt", "string_char_at_int", (_S, t.INT), _S, _char_at),
    function(
        "indexOf",
        method("string_index_of_string", (_S, _S), t.INT, _index_of, _listing),
        method("string_index_of_string_int", (_S, _S, t.INT), t.INT, _index_of, _listing),
    ),
    function(
        "lastIndexOf",
        method("string_last_index_of_string", (_S, _S), t.INT, _last_index_of, _listing),
        method("string_last_index_of_string_int", (_S, _S, t.INT), t.INT, _last_index_of, _listing),
    ),
    _method("lowerAscii", "string_lower_ascii", (_S,), _S, lambda s: s.translate(_LOWER), cost=traversal),
    _method("upperAscii", "string_upper_ascii", (_S,), _S, lambda s: s.translate(_UPPER), cost=traversal),
    function(
        "replace",
        method("string_replace_string_string", (_S, _S, _S), _S, _replace, traversal_twice),
        method("string_replace_string_string_int", (_S, _S, _S, t.INT), _S, _replace, traversal_twice),
    ),
    function(
        "split",
        method("string_split_string", (_S, _S), _STRINGS, _split, traversal_twice),
        method("string_split_string_int", (_S, _S, t.INT), _STRINGS, _split, traversal_twice),
    ),
    function(
        "substring",
        method("string_substring_int", (_S, t.INT), _S, _substring, traversal),
        method("string_substring_int_int", (_S, t.INT, t.INT), _S, _substring, traversal),
    ),
    _method("trim", "string_trim", (_S,), _S, lambda s: s.strip(_SPACES), cost=traversal),
    function(
        "format",
        method("string_format", (_S, t.list_of(t.DYN)), _S, formatting.formatted, traversal),
    ),
    function("strings.quote", overload("strings_quote", (_S,), _S, literals.quoted, traversal)),
    function(
        "join",
        method("list_join", (_STRINGS,), _S, _join, result_cost=_join_cost),
        method("list_join_string", (_STRINGS, _S), _S, _join, result_cost=_join_cost),
    ),
]
