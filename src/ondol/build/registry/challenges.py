"""What a registry wants as proof, read from `WWW-Authenticate` (RFC 9110, section 11.6.1). Pure."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME: Final = re.compile(rf"\s*,?\s*({_WORD})(?=\s|,|$)(?!\s*=)")
_PARAMETER: Final = re.compile(rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_HEADER_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: str
    """In lower case."""
    parameters: Mapping[str, str]


def parse(header: str) -> list[Challenge]:
    """Every challenge in the header, in its order; what cannot be understood ends the list."""
    challenges: list[Challenge] = []
    position, header = 0, header[:_HEADER_MAX]
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            name, quoted, plain = parameter.groups()
            parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def token_url(challenge: Challenge, scope: str) -> str:
    """Where a token for the scope is asked for; the challenge's own scope is asked for with it."""
    realm = challenge.parameters.get("realm", "")
    scopes = dict.fromkeys(filter(None, [*challenge.parameters.get("scope", "").split(" "), scope]))
    service = challenge.parameters.get("service", "")
    words = [*([("service", service)] if service else []), *(("scope", each) for each in scopes)]
    return f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(words)}"
