"""Kubernetes Tables as lines of text, in columns that keep their places while rows keep coming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects

_GAP: Final = "   "


class Columns:
    """The columns of one Table; the header comes with the first rows.

    `prefix` stands before each name; `wide` also shows what a server gives a priority above 0.
    """

    def __init__(
        self,
        definitions: Sequence[Mapping[str, Any]],
        *,
        wide: bool = False,
        with_namespace: bool = False,
        prefix: str = "",
    ) -> None:
        self._indices = [i for i, column in enumerate(definitions) if wide or not column.get("priority")]
        self._header = [str(definitions[i]["name"]).upper() for i in self._indices]
        self._name_at = next((n for n, title in enumerate(self._header) if title == "NAME"), 0)
        self._with_namespace = with_namespace
        self._prefix = prefix
        self._widths: list[int] = []

    def header(self) -> str:
        """The header again, for rows that follow something else; only after the first ones."""
        return self._line(self._titles())

    def lines(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """The rows as text, before the first ones the header."""
        printed = [self._cells(row) for row in rows]
        if not self._widths:
            printed.insert(0, self._titles())
            self._widths = [max(map(len, column)) for column in zip(*printed, strict=True)]
        yield from map(self._line, printed)

    def _titles(self) -> list[str]:
        return (["NAMESPACE"] if self._with_namespace else []) + self._header

    def _line(self, cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        return _GAP.join(padded).rstrip()

    def _cells(self, row: Mapping[str, Any]) -> list[str]:
        cells = ["<none>" if row["cells"][i] is None else str(row["cells"][i]) for i in self._indices]
        if cells:
            cells[self._name_at] = self._prefix + cells[self._name_at]
        return ([objects.namespace(row["object"])] if self._with_namespace else []) + cells
