"""Regular expressions of users, on an engine whose time is linear in the text: RE2, in Go's syntax.

The one place that evaluates a pattern somebody else wrote. Python's own `re` backtracks: thirty characters
hold it for hours. The engine is imported with the first pattern.

Linear is not cheap: a step costs up to the size of the program, so that a megabyte against `(a?){1000}`
takes half a minute. A `Budget` bounds what one request may spend.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from ondol.base import errors

PROGRAM_BYTES_MAX: Final = 1 << 20
"""Memory of one pattern: its program, and the states that are remembered of it while it matches."""
_REMEMBERED_MAX: Final = 128
STEPS_MAX: Final = 50_000_000
"""Program instructions times bytes of text, over all matches of one budget: half a second at worst."""
_QUOTED: Final = re.compile(r"\\Q.*?(?:\\E|\Z)", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class Budget:
    """What may still be spent, in steps."""

    __slots__ = ("steps",)

    def __init__(self, steps: int = STEPS_MAX) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Take that many; `TooLarge` when they are not left."""
        self.steps -= steps
        if self.steps < 0:
            raise errors.TooLarge(
                "the text is too long for the patterns it must match: shorten it, or simplify the patterns"
            )


class Pattern:
    """A compiled expression; `search` and `fullmatch` as in `re`, answering only whether it matches."""

    __slots__ = ("_compiled", "expression", "size")

    def __init__(self, expression: str, compiled: Any) -> None:
        self.expression = expression
        self._compiled = compiled
        self.size: int = compiled.programsize
        """Instructions of its program."""

    def search(self, text: str, budget: Budget | None = None) -> bool:
        """Whether it matches anywhere in the text."""
        return self._compiled.search(self._bytes(text, budget)) is not None

    def fullmatch(self, text: str, budget: Budget | None = None) -> bool:
        """Whether it matches the whole text."""
        return self._compiled.fullmatch(self._bytes(text, budget)) is not None

    def find(self, text: str, limit: int, budget: Budget | None = None) -> list[str]:
        """The first so many matches that do not overlap, from left to right."""
        matches = self._compiled.finditer(self._bytes(text, budget))
        return [match[0].decode("utf-8", "replace") for match, _ in zip(matches, range(limit), strict=False)]

    def _bytes(self, text: str, budget: Budget | None) -> bytes:
        encoded = text.encode("utf-8", "replace")
        (budget or Budget()).spend(self.size * len(encoded))
        return encoded


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def groups(expression: str) -> int:
    """How many groups a replacement may name; `ValueError` as `compiled` has it."""
    import re2  # noqa: PLC0415 - as for `compiled`

    compiled(expression)
    options = _options(re2)
    options.never_capture = False
    count: int = re2.compile(expression.encode("utf-8", "replace"), options).groups
    return count


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def compiled(expression: str) -> Pattern:
    """Compile a Go regular expression; `ValueError` has the reason as Go's compiler words it."""
    import re2  # noqa: PLC0415 - ten milliseconds and three megabytes that most processes never need

    if _any_byte(expression):
        raise ValueError("error parsing regexp: invalid escape sequence: `\\C`")
    try:
        return Pattern(expression, re2.compile(expression.encode("utf-8", "replace"), _options(re2)))
    except re2.error as wrong:
        raise ValueError(f"error parsing regexp: {_in_words_of_go(wrong)}") from None


def _options(re2: Any) -> Any:
    options = re2.Options()
    options.max_mem = PROGRAM_BYTES_MAX
    options.log_errors = False
    options.never_capture = True
    return options


def _any_byte(expression: str) -> bool:
    r"""Whether `\C` stands in it: one byte of a character, which RE2 knows and Go does not."""
    return any(escape[1] == "C" for escape in _ESCAPE.finditer(_QUOTED.sub("", expression)))


def _in_words_of_go(wrong: Exception) -> str:
    """RE2's reason in Go's words, the offending fragment in backquotes."""
    reason = wrong.args[0] if wrong.args else ""
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    problem, colon, fragment = text.partition(": ")
    named = {
        "invalid perl operator": "invalid or unsupported Perl syntax",
        "invalid repetition size": "invalid repeat count",
        "bad repetition operator": "invalid nested repetition operator",
        "no argument for repetition operator": "missing argument to repetition operator",
        "missing ]": "missing closing ]",
        "missing )": "missing closing )",
        "trailing \\": "trailing backslash at end of expression",
    }.get(problem, problem)
    return f"{named}: `{fragment}`" if colon else named
