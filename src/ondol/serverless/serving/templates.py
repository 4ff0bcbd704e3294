"""The small part of Go's templates that names are made by: fields, and labels or annotations by `index`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_ACTION: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_FIELD: Final = re.compile(r"\.([A-Za-z]+)")
_INDEXED: Final = re.compile(r'index\s+\.(Labels|Annotations)\s+"([^"]+)"')


def check(text: str, fields: Iterable[str]) -> None:
    """`ValueError` for what cannot be filled in: another field, a function, braces that do not close."""
    allowed = set(fields)
    for action in _ACTION.findall(text):
        field, indexed = _FIELD.fullmatch(action), _INDEXED.fullmatch(action)
        named = field.group(1) if field else indexed.group(1) if indexed else ""
        if named not in allowed:
            listed = ", ".join(sorted(allowed))
            raise ValueError(f"{{{{{action}}}}} is not supported in a template; the fields are {listed}")
    rest = _ACTION.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise ValueError("the braces of the template do not match")


def filled(
    text: str,
    fields: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> str:
    """The template with the values in place; a label or annotation that is not there is empty."""
    maps = {"Labels": labels or {}, "Annotations": annotations or {}}

    def value(match: re.Match[str]) -> str:
        action = match.group(1)
        if indexed := _INDEXED.fullmatch(action):
            return maps[indexed.group(1)].get(indexed.group(2), "")
        field = _FIELD.fullmatch(action)
        return fields.get(field.group(1), "") if field else ""

    return _ACTION.sub(value, text)
