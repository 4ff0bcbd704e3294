"""Columns: what a table heads them with, and how a cell is read from an object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.tables import age

Cell: TypeAlias = str | int | float | bool | None
Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `priority` 1 shows only in wide output."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""

    def definition(self) -> Object:
        """Its entry in `columnDefinitions`."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a kind and the function that fills a row."""

    columns: Sequence[Column]
    cells: Callable[[Document, float], Sequence[Cell]]


NAME = Column("Name", format="name")
AGE = Column("Age")


def string(name: str) -> Column:
    return Column(name)


def integer(name: str) -> Column:
    return Column(name, "integer")


def wide(name: str) -> Column:
    return Column(name, priority=1)


def age_of(obj: Document, now: float) -> str:
    return age.since(objects.metadata(obj).get("creationTimestamp"), now)
