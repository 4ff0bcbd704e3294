"""Patterns of LIKE: `%` is any text, `_` one character, and a backslash before either means itself.

A pattern is cut at `%`: its pieces are looked for from left to right, each as early as it can be. So a
match takes no longer than text times pattern, whatever they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Matcher: TypeAlias = Callable[[str], bool]

_PART: Final = re.compile(r"\\([%_])|(%)|(_)|([^\\%_]+|\\)", re.DOTALL)


@dataclass(slots=True)
class _Piece:
    """What stands between two `%`: always as many characters."""

    expressions: list[str] = field(default_factory=list)
    length: int = 0

    def add(self, text: str | None) -> None:
        """A text that is itself; None for any one character."""
        self.expressions.append("." if text is None else re.escape(text))
        self.length += 1 if text is None else len(text)

    def compiled(self) -> re.Pattern[str]:
        return re.compile("".join(self.expressions), re.DOTALL)


def matcher(pattern: str) -> Matcher:
    """Whether a text matches."""
    pieces = [_Piece()]
    for part in _PART.finditer(pattern):
        if part[2]:
            pieces.append(_Piece())
        else:
            pieces[-1].add(None if part[3] else part[1] or part[4])
    first = pieces[0].compiled()
    if len(pieces) == 1:
        return lambda text: first.fullmatch(text) is not None
    middle = [piece.compiled() for piece in pieces[1:-1] if piece.length]
    last, length = pieces[-1].compiled(), pieces[-1].length
    return lambda text: _matches(text, first, middle, last, len(text) - length)


def _matches(
    text: str, first: re.Pattern[str], middle: list[re.Pattern[str]], last: re.Pattern[str], end: int
) -> bool:
    """`end` is where the last piece must begin."""
    match = first.match(text)
    if match is None:
        return False
    position = match.end()
    for piece in middle:
        match = piece.search(text, position)
        if match is None:
            return False
        position = match.end()
    return end >= position and last.match(text, end) is not None
