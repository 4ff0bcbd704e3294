"""`'%s is %d'.format([name, size])`: the clauses %s %d %f %e %b %x %X %o, and %% for a percent sign."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

from ondol.api.cel import literals, operators, times, values
from ondol.api.cel.errors import CostExceeded, EvaluationError
from ondol.api.cel.values import BoolKey, Duration, Timestamp, TypeValue, Uint

_CLAUSE: Final = re.compile(r"%(?:%|(?:\.(\d{0,4}))?([a-zA-Z]))")
_DEFAULT_PRECISION: Final = 6
_PRECISION_MAX: Final = 1000
_TIMES: Final = "\u00d7"
_SUPERSCRIPTS: Final = str.maketrans("0123456789-+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺")


def formatted(template: str, args: list[Any]) -> str:
    """The template with its clauses replaced; `EvaluationError` for arguments that do not fit them."""
    out, position, place, size = [], 0, 0, 0
    for match in _CLAUSE.finditer(template):
        plain = template[position : match.start()]
        position = match.end()
        if match[2] is None:
            text = "%"
        else:
            if place >= len(args):
                raise EvaluationError(f"index {place} out of range")
            text = _clause(match[2], match[1], args[place])
            place += 1
        _refuse_percent(plain)
        out += [plain, text]
        size += len(plain) + len(text)
        if size > operators.CHARACTERS_MAX:
            raise CostExceeded
    if place < len(args):
        raise EvaluationError(
            f"too many arguments supplied to string.format (expected {place}, got {len(args)})"
        )
    _refuse_percent(template[position:])
    return "".join([*out, template[position:]])


def _refuse_percent(plain: str) -> None:
    if "%" in plain:
        raise EvaluationError("could not parse formatting clause: unexpected end of string")


def _clause(letter: str, precision: str | None, value: Any) -> str:
    digits = _DEFAULT_PRECISION if precision is None else int(precision or 0)
    if digits > _PRECISION_MAX:
        raise EvaluationError("could not parse formatting clause: precision too large")
    clause = _CLAUSES.get(letter)
    if clause is None:
        raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{letter}"')
    try:
        return clause(value, digits)
    except _Unfit as unfit:
        raise EvaluationError(
            f"error during formatting: {unfit}, was given {values.type_of(value).name}"
        ) from None


class _Unfit(Exception):
    """The value is of none of the types of a clause. Never leaves this module."""


def _decimal(value: Any, _: int) -> str:
    if type(value) in (int, Uint):
        return str(int(value))
    raise _Unfit("decimal clause can only be used on integers")


def _unbounded(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "" if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _special(value: Any) -> str:
    return value if value in ("NaN", "Infinity", "-Infinity") else ""


def _fixed(value: Any, digits: int) -> str:
    if type(value) is float:
        return _unbounded(value) or f"{value:.{digits}f}"
    if type(value) is str and _special(value):
        return str(value)
    raise _Unfit("fixed-point clause can only be used on doubles")


def _scientific(value: Any, digits: int) -> str:
    if type(value) is str and _special(value):
        return str(value)
    if type(value) is not float:
        raise _Unfit("scientific clause can only be used on doubles")
    if special := _unbounded(value):
        return special
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}{_TIMES}10{exponent.removeprefix('+').translate(_SUPERSCRIPTS)}"


def _binary(value: Any, _: int) -> str:
    if type(value) in (int, Uint, bool):
        return format(int(value), "b")
    raise _Unfit("only integers and bools can be formatted as binary")


def _octal(value: Any, _: int) -> str:
    if type(value) in (int, Uint):
        return format(int(value), "o")
    raise _Unfit("octal clause can only be used on integers")


def _hexadecimal(value: Any, _: int) -> str:
    if type(value) in (int, Uint):
        return format(int(value), "x")
    if type(value) is str:
        return value.encode().hex()
    if type(value) is bytes:
        return value.hex()
    raise _Unfit("only integers, byte buffers, and strings can be formatted as hex")


def _string(value: Any, _: int) -> str:
    return _spelled(value, quotes=False)


def _spelled(value: Any, *, quotes: bool = True) -> str:
    """A value as text; what is inside of lists and maps is quoted as in an expression."""
    kind = type(value)
    if kind is list:
        return f"[{', '.join(_spelled(each) for each in value)}]"
    if kind is dict:
        entries = sorted((_spelled(key), _spelled(item)) for key, item in value.items())
        return "{" + ", ".join(f"{key}:{item}" for key, item in entries) + "}"
    spell = _SPELLINGS.get(kind)
    if spell is None:
        raise _Unfit(
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types,"
            " durations, and timestamps"
        )
    if quotes and kind in _INNER:
        return _INNER[kind](value)
    return spell(value)


def _inner_double(value: float) -> str:
    special = _unbounded(value)
    return f'"{special}"' if special else f"{value:.6f}"


_SPELLINGS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    BoolKey: lambda value: "true" if value.value else "false",
    int: str,
    Uint: lambda value: str(int(value)),
    float: lambda value: _unbounded(value) or values.spelled_double(value),
    str: str,
    bytes: lambda value: value.decode("utf-8", "replace"),
    Duration: times.spelled_duration,
    Timestamp: times.spelled_timestamp,
    TypeValue: lambda value: value.name,
}
_INNER: Final[dict[type, Callable[[Any], str]]] = {
    float: _inner_double,
    str: literals.quoted,
    bytes: lambda value: "b" + literals.quoted(value.decode("utf-8", "replace")),
    Duration: lambda value: f'duration("{times.spelled_duration(value)}")',
    Timestamp: lambda value: f'timestamp("{times.spelled_timestamp(value)}")',
}
_CLAUSES: Final[dict[str, Callable[[Any, int], str]]] = {
    "s": _string,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": _binary,
    "o": _octal,
    "x": _hexadecimal,
    "X": lambda value, digits: _hexadecimal(value, digits).upper(),
}
