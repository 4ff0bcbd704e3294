"""From the text of an expression to its tokens."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ondol.api.cel.errors import Issue, Refused

END: Final = "<EOF>"
IDENT: Final = "ident"
QUOTED_IDENT: Final = "quoted"
INT: Final = "int"
UINT: Final = "uint"
FLOAT: Final = "float"
STRING: Final = "string"
BYTES: Final = "bytes"
SYMBOL: Final = "symbol"

_ESCAPE: Final = r"\\(?:[abfnrtv\"'\\?`]|[0-3][0-7][0-7]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_RAW: Final = r"[rR](?:\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"[^\"\r\n]*\"|'[^'\r\n]*')"
_COOKED: Final = (
    rf"(?:\"\"\"(?:{_ESCAPE}|[^\\])*?\"\"\"|'''(?:{_ESCAPE}|[^\\])*?'''"
    rf"|\"(?:{_ESCAPE}|[^\\\"\r\n])*\"|'(?:{_ESCAPE}|[^\\'\r\n])*')"
)
_TOKEN: Final = re.compile(
    rf"""
    (?P<skip>[\t \r\n\f]+|//[^\n]*)
    |(?P<bytes>[bB](?:{_RAW}|{_COOKED}))
    |(?P<string>{_RAW}|{_COOKED})
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<uint>(?:0x[0-9a-fA-F]+|[0-9]+)[uU])
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<ident>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
    |(?P<symbol>==|!=|<=|>=|&&|\|\||[\[\]{{}}().,\-!?:+*/%<>])
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of the source; the keywords `true`, `false`, `null` and `in` are symbols."""

    kind: str
    text: str
    offset: int


_KEYWORDS: Final = frozenset(("true", "false", "null", "in"))


def tokens(source: str) -> list[Token]:
    """All tokens, the last one END; `Refused` where a character begins none."""
    out: list[Token] = []
    position = 0
    for match in _TOKEN.finditer(source):
        if match.start() != position:
            break
        position = match.end()
        kind = match.lastgroup or ""
        if kind != "skip":
            text = match[0]
            out.append(Token(SYMBOL if text in _KEYWORDS else kind, text, match.start()))
    if position != len(source):
        fragment = source[position : position + 1]
        message = f"Syntax error: token recognition error at: '{fragment}'"
        raise Refused(source, [Issue(position, message)])
    out.append(Token(END, END, len(source)))
    return out
