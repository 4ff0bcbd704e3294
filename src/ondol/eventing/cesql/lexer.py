"""Cuts an expression into tokens, each with its position."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ondol.eventing.cesql.errors import ParseError


class Kind(enum.Enum):
    """What a token is; of an operator or bracket the text says the rest."""

    INTEGER = enum.auto()
    STRING = enum.auto()
    WORD = enum.auto()
    FUNCTION = enum.auto()
    KEYWORD = enum.auto()
    OPERATOR = enum.auto()
    END = enum.auto()


@dataclass(frozen=True, slots=True)
class Token:
    """`text` of a keyword is in capitals, of a string without its quotes."""

    kind: Kind
    text: str
    position: int


KEYWORDS: Final = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"})
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      |(?P<word>[A-Za-z0-9_]+)
      |'(?P<single>(?:\\.|''|[^'\\])*)'
      |"(?P<double>(?:\\.|""|[^"\\])*)"
      |(?P<operator><>|!=|<=|>=|[-+*/%=<>(),])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_FUNCTION: Final = re.compile(r"[A-Za-z][A-Za-z_]*")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of an expression, the last of which is its end; `ParseError` where there is none."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(_unreadable(text[position]), position)
        if match.lastgroup == "word":
            yield _word(match["word"], position)
        elif match.lastgroup == "operator":
            yield Token(Kind.OPERATOR, match["operator"], position)
        elif match.lastgroup in {"single", "double"}:
            quote = match[0][0]
            yield Token(Kind.STRING, _unescaped(match[match.lastgroup], quote), position)
        position = match.end()
    yield Token(Kind.END, "", len(text))


def _unreadable(character: str) -> str:
    if character in "'\"":
        return f"string without its closing {character}"
    return f"unexpected character {character!r}"


def _word(text: str, position: int) -> Token:
    if text.isdigit():
        return Token(Kind.INTEGER, text, position)
    if (keyword := text.upper()) in KEYWORDS:
        return Token(Kind.KEYWORD, keyword, position)
    if "_" not in text:
        return Token(Kind.WORD, text, position)
    if _FUNCTION.fullmatch(text):
        return Token(Kind.FUNCTION, text, position)
    raise ParseError(f"{text!r} is the name of neither an attribute nor a function", position)


def _unescaped(text: str, quote: str) -> str:
    """Only the quote is escaped by a backslash; others stand for themselves, or are the pattern's."""
    return _ESCAPE.sub(lambda match: quote if match[1] == quote else match[0], text)
