"""What a regular expression matches: `find` and `findAll`; in RE2's syntax, as Go's."""

from __future__ import annotations

from typing import Final

from ondol.api.cel import operators
from ondol.api.cel import types as t
from ondol.api.cel.errors import CostExceeded, EvaluationError
from ondol.api.cel.functions import Function, function, method
from ondol.api.cel.library.standard import matching
from ondol.base import regexp
from ondol.base.errors import TooLarge


def _matches(text: str, expression: str, limit: int) -> list[str]:
    try:
        return regexp.compiled(expression).find(text, limit)
    except ValueError as wrong:
        raise EvaluationError(f"Illegal regex: {wrong}") from None
    except TooLarge:
        raise CostExceeded from None


def _find(text: str, expression: str) -> str:
    return next(iter(_matches(text, expression, 1)), "")


def _find_all(text: str, expression: str, limit: int = -1) -> list[str]:
    return _matches(text, expression, operators.ELEMENTS_MAX if limit < 0 else limit)


_TEXTS: Final = t.list_of(t.STRING)
FUNCTIONS: Final[list[Function]] = [
    function("find", method("string_find_string", (t.STRING, t.STRING), t.STRING, _find, matching)),
    function(
        "findAll",
        method("string_find_all_string", (t.STRING, t.STRING), _TEXTS, _find_all, matching),
        method("string_find_all_string_int", (t.STRING, t.STRING, t.INT), _TEXTS, _find_all, matching),
    ),
]
