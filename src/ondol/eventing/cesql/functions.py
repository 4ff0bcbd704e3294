"""The functions that every engine has, and IS_INT and IS_BOOL, which Knative's has too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ondol.eventing.cesql.errors import ErrorKind, Fault
from ondol.eventing.cesql.syntax import Value
from ondol.eventing.cesql.values import INTEGER_MAX, INTEGER_MIN, Type, boolean, integer, string

_CHARACTERS_MAX: Final = 1 << 20
_WHITE_SPACE: Final = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's, which does not have the separators among the control characters that Python strips."""


def _any(value: Value) -> Value:
    return value


@dataclass(frozen=True, slots=True)
class Function:
    """`casts` make its arguments; `rest` makes those beyond them, if it takes any number."""

    returns: Type
    casts: tuple[Callable[[Value], Value], ...]
    body: Callable[..., Any]
    rest: Callable[[Value], Value] | None = None

    def casts_of(self, count: int) -> tuple[Callable[[Value], Value], ...] | None:
        """A cast for each of so many arguments; None if it cannot be called with them."""
        if count == len(self.casts):
            return self.casts
        if self.rest is None or count < len(self.casts):
            return None
        return self.casts + (self.rest,) * (count - len(self.casts))


def resolve(name: str, count: int) -> tuple[Function, tuple[Callable[[Value], Value], ...]] | None:
    """The function of this name, in capitals, that takes so many arguments, and their casts."""
    for function in _FUNCTIONS.get(name, ()):
        if (casts := function.casts_of(count)) is not None:
            return function, casts
    return None


def _is_castable(cast: Callable[[Value], Value]) -> Callable[[Value], bool]:
    def answer(value: Value) -> bool:
        try:
            cast(value)
        except Fault:
            return False
        return True

    return answer


def _absolute(number: int) -> int:
    if number == INTEGER_MIN:
        raise Fault(ErrorKind.MATH, "ABS overflows 32 bits", INTEGER_MAX)
    return abs(number)


def _concatenated(*parts: str) -> str:
    return _joined("", *parts)


def _joined(delimiter: str, *parts: str) -> str:
    """Bounded, for joined strings can be joined again: a short expression could take all memory there is."""
    length = sum(map(len, parts)) + len(delimiter) * max(0, len(parts) - 1)
    if length > _CHARACTERS_MAX:
        raise Fault(
            ErrorKind.FUNCTION_EVALUATION, f"the string would have more than {_CHARACTERS_MAX} characters", ""
        )
    return delimiter.join(parts)


def _left(text: str, count: int) -> str:
    if count < 0:
        raise Fault(ErrorKind.FUNCTION_EVALUATION, "LEFT takes no negative length", text)
    return text[:count]


def _right(text: str, count: int) -> str:
    if count < 0:
        raise Fault(ErrorKind.FUNCTION_EVALUATION, "RIGHT takes no negative length", text)
    return text[max(len(text) - count, 0) :]


def _substring(text: str, position: int, length: int | None = None) -> str:
    if abs(position) > len(text):
        raise Fault(ErrorKind.FUNCTION_EVALUATION, "SUBSTRING begins outside the string", "")
    if length is not None and length < 0:
        raise Fault(ErrorKind.FUNCTION_EVALUATION, "SUBSTRING takes no negative length", "")
    if position == 0:
        return ""
    start = position - 1 if position > 0 else len(text) + position
    return text[start:] if length is None else text[start : start + length]


def _trimmed(text: str) -> str:
    return text.strip(_WHITE_SPACE)


_FUNCTIONS: Final[dict[str, tuple[Function, ...]]] = {
    "INT": (Function(int, (_any,), integer),),
    "BOOL": (Function(bool, (_any,), boolean),),
    "STRING": (Function(str, (_any,), string),),
    "IS_INT": (Function(bool, (_any,), _is_castable(integer)),),
    "IS_BOOL": (Function(bool, (_any,), _is_castable(boolean)),),
    "ABS": (Function(int, (integer,), _absolute),),
    "LENGTH": (Function(int, (string,), len),),
    "CONCAT": (Function(str, (), _concatenated, rest=string),),
    "CONCAT_WS": (Function(str, (string,), _joined, rest=string),),
    "LOWER": (Function(str, (string,), str.lower),),
    "UPPER": (Function(str, (string,), str.upper),),
    "TRIM": (Function(str, (string,), _trimmed),),
    "LEFT": (Function(str, (string, integer), _left),),
    "RIGHT": (Function(str, (string, integer), _right),),
    "SUBSTRING": (
        Function(str, (string, integer), _substring),
        Function(str, (string, integer, integer), _substring),
    ),
}
