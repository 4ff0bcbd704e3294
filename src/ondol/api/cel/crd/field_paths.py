"""The `fieldPath` of a rule: which field its message is about, `.spec.replicas` or `.data['a.b']`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_TOKEN: Final = re.compile(r"'(?:\\.|[^'\\])*'|[.\[\]]|[^.\[\]]+", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def normalized(path: str, schema: Schema) -> str | None:
    """The path as causes write it, below the value of the rule; None if the schema has no such field."""
    steps = _steps(path)
    if steps is None:
        return None
    out = ""
    for name in steps:
        properties, values = schema.get("properties"), schema.get("additionalProperties")
        if properties is not None:
            if name not in properties:
                return None
            out, schema = f"{out}.{name}" if out else name, properties[name]
        elif isinstance(values, Mapping):
            out, schema = f"{out}[{name}]", values
        else:
            return None
    return out


def _steps(path: str) -> list[str] | None:
    """The names of a path; None if it is not one."""
    tokens = _TOKEN.findall(path)
    if "".join(tokens) != path:
        return None
    out: list[str] = []
    rest: Iterator[str] = iter(tokens)
    for opening in rest:
        name = next(rest, "")
        if opening == ".":
            if name in ("", ".", "[", "]"):
                return None
            out.append(name)
        elif opening == "[":
            text = _unquoted(name)
            if text is None or next(rest, "") != "]":
                return None
            out.append(text)
        else:
            return None
    return out


def _unquoted(token: str) -> str | None:
    if len(token) < 2 or not (token.startswith("'") and token.endswith("'")):
        return None
    body = token[1:-1]
    if any(match[1] not in _ESCAPES and match[1] not in "'\\" for match in _ESCAPE.finditer(body)):
        return None
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), body)
