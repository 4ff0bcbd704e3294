"""The columns a CustomResourceDefinition declares (`additionalPrinterColumns`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.tables import age, columns, jsonpath
from ondol.api.tables.columns import Cell, Column, Document, Layout

_AGE_COLUMN: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def layout(declared: Iterable[Mapping[str, Any]]) -> Layout:
    """The layout of a custom kind's version: its name, then what it declares (its age by default).

    `ValueError` if a column's path cannot be read. Build it once per version, not per request.
    """
    listed = list(declared) or [_AGE_COLUMN]
    paths = [jsonpath.parse(column["jsonPath"]) for column in listed]
    heads = [_column(column) for column in listed]

    def cells(obj: Document, now: float) -> Sequence[Cell]:
        values = [_cell(head.type, path.find(obj), now) for head, path in zip(heads, paths, strict=True)]
        return objects.name(obj), *values

    return Layout((columns.NAME, *heads), cells)


def _column(declared: Mapping[str, Any]) -> Column:
    path = declared["jsonPath"]
    return Column(
        declared["name"],
        declared.get("type") or "string",
        declared.get("format") or "",
        int(declared.get("priority") or 0),
        declared.get("description") or f"Custom resource definition column (in JSONPath format): {path}",
    )


def _cell(type: str, values: Sequence[Any], now: float) -> Cell:
    if not values or values[0] is None:
        return None
    return _CELLS.get(type, _nothing)(values[0], now)


def _nothing(_value: Any, _now: float) -> Cell:
    return None


def _string(value: Any, _now: float) -> Cell:
    """Strings as they are, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _integer(value: Any, _now: float) -> Cell:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any, _now: float) -> Cell:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Any, _now: float) -> Cell:
    return value if isinstance(value, bool) else None


def _date(value: Any, now: float) -> Cell:
    return age.since(value, now) if isinstance(value, str) else None


_CELLS: Final[Mapping[str, Callable[[Any, float], Cell]]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
}
