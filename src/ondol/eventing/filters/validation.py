"""What is wrong with a filter: in Knative's words, and with the place where an expression is none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api.schema import causes
from ondol.base.errors import Cause
from ondol.eventing import cesql

DIALECTS: Final = ("exact", "prefix", "suffix", "all", "any", "not", "cesql")
DEPTH_MAX: Final = 32
"""How deep `all`, `any` and `not` may stand inside each other."""
_ATTRIBUTE: Final = re.compile(r"[a-z][a-z0-9]*")
_INVALID: Final = "FieldValueInvalid"


def problems(filters: Sequence[Mapping[str, Any]] | None, path: str) -> list[Cause]:
    """Everything wrong with a list of filters that fits its schema; `path` is the list's, `spec.filters`."""
    return list(_listed(filters or (), path, 1))


def attribute_problems(attributes: Mapping[str, str] | None, path: str) -> list[Cause]:
    """Everything wrong with the older form; `path` is `spec.filter.attributes`. No value means any there."""
    return [_name(name, path) for name in sorted(attributes or ()) if not _ATTRIBUTE.fullmatch(name)]


def _listed(filters: Any, path: str, depth: int) -> Iterator[Cause]:
    if not isinstance(filters, Sequence) or isinstance(filters, str):
        yield causes.type_invalid(path, filters, "must be an array")
        return
    for number, each in enumerate(filters):
        yield from _problems(each, f"{path}[{number}]", depth)


def _problems(filter: Any, path: str, depth: int) -> Iterator[Cause]:
    if depth > DEPTH_MAX:
        yield Cause(_INVALID, f"filters are nested deeper than {DEPTH_MAX}", path)
        return
    if not isinstance(filter, Mapping):
        yield causes.type_invalid(path, filter, "must be an object")
        return
    for name in sorted(set(filter) - set(DIALECTS)):
        text = f"no dialect of this name; there are {', '.join(DIALECTS)}"
        yield causes.forbidden(f"{path}.{name}", text)
    if len([dialect for dialect in DIALECTS if _is_set(filter, dialect)]) > 1:
        yield Cause(_INVALID, "multiple dialects found, filters can have only one dialect set", path)
    for dialect in ("exact", "prefix", "suffix"):
        yield from _pairs(filter.get(dialect) or {}, f"{path}.{dialect}")
    for dialect in ("all", "any"):
        yield from _listed(filter.get(dialect) or (), f"{path}.{dialect}", depth + 1)
    if (inner := filter.get("not")) is not None:
        yield from _problems(inner, f"{path}.not", depth + 1)
    if expression := filter.get("cesql"):
        yield from _expression(expression, f"{path}.cesql")


def _is_set(filter: Mapping[str, Any], dialect: str) -> bool:
    return filter.get("not") is not None if dialect == "not" else bool(filter.get(dialect))


def _pairs(values: Any, path: str) -> Iterator[Cause]:
    if not isinstance(values, Mapping):
        yield causes.type_invalid(path, values, "must be an object")
        return
    for name, value in sorted(values.items()):
        if not _ATTRIBUTE.fullmatch(name):
            yield _name(name, path)
        elif not isinstance(value, str):
            yield causes.type_invalid(f"{path}[{name}]", value, "must be a string")
        elif not value:
            yield Cause(_INVALID, "invalid arguments, attribute and value can't be empty", f"{path}[{name}]")


def _name(name: str, path: str) -> Cause:
    reason = "Attribute name must start with a letter and can only contain lowercase alphanumeric"
    return Cause(_INVALID, f"invalid key name {causes.quoted(name)}: {reason}", f"{path}[{name}]")


def _expression(text: Any, path: str) -> Iterator[Cause]:
    if not isinstance(text, str):
        yield causes.type_invalid(path, text, "must be a string")
        return
    try:
        expression = cesql.parse(text)
    except cesql.ParseError as error:
        yield Cause(_INVALID, f"invalid value: {text}: {error}", path)
        return
    for call in expression.missing_functions():
        yield Cause(_INVALID, f"invalid value: {text}: there is no function {call}", path)
