"""From the spelling of a literal to its value, and back."""

from __future__ import annotations

import re
from typing import Final

from ondol.api.cel.values import INT_MAX, INT_MIN, UINT_MAX, Uint

_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\"'\\?`])|([0-3][0-7][0-7])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))"
)
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_QUOTES: Final = {v: f"\\{k}" for k, v in _SIMPLE.items()} | {'"': '\\"', "\\": "\\\\"}


def integer(text: str) -> int:
    """`ValueError` beyond 64 bits."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    value = sign * _magnitude(digits)
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError("invalid int literal")
    return value


def unsigned(text: str) -> Uint:
    value = _magnitude(text[:-1])
    if value > UINT_MAX:
        raise ValueError("invalid uint literal")
    return Uint(value)


def _magnitude(digits: str) -> int:
    if len(digits) > 400:
        raise ValueError("invalid int literal")
    return int(digits, 16) if digits.startswith("0x") else int(digits)


def double(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("invalid double literal")
    return value


def _body(text: str) -> tuple[str, bool]:
    """What is between the quotes, and whether it is raw; line ends are one character."""
    raw = text[:1] in ("r", "R")
    quoted = (text[1:] if raw else text).replace("\r\n", "\n").replace("\r", "\n")
    width = 3 if quoted[:3] in ('"""', "'''") and len(quoted) >= 6 else 1
    return quoted[width:-width], raw


def string(text: str) -> str:
    """`ValueError` for an escape that names no character."""
    body, raw = _body(text)
    return body if raw else _ESCAPE.sub(_character, body)


def _character(match: re.Match[str]) -> str:
    simple, octal, *hexes = match.groups()
    if simple is not None:
        return _SIMPLE.get(simple, simple)
    code = int(octal, 8) if octal is not None else int(next(h for h in hexes if h is not None), 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("invalid unicode code point")
    return chr(code)


def byte_string(text: str) -> bytes:
    """Octal and hexadecimal escapes are bytes; all else is UTF-8."""
    body, raw = _body(text[1:])
    if raw:
        return body.encode()
    out, position = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        out += body[position : match.start()].encode()
        out += _byte(match)
        position = match.end()
    return bytes(out + body[position:].encode())


def _byte(match: re.Match[str]) -> bytes:
    simple, octal, short, *wide = match.groups()
    if simple is not None:
        return _SIMPLE.get(simple, simple).encode()
    if any(wide):
        raise ValueError("unable to unescape string")
    return bytes((int(octal, 8) if octal is not None else int(short, 16),))


def quoted(text: str) -> str:
    """A literal of a string."""
    return '"' + "".join(_QUOTES.get(character, character) for character in text) + '"'
