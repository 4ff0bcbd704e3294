"""The columns of devices: their classes, slices and claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string


def _named(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), columns.age_of(obj, now)


def _claim(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), ",".join(_states(obj)), columns.age_of(obj, now)


def _states(claim: Document) -> Sequence[str]:
    status, is_deleting = objects.status(claim), objects.is_deleting(claim)
    states = ["deleted"] if is_deleting else []
    if status.get("allocation") is not None:
        return [*states, "allocated", *(["reserved"] if status.get("reservedFor") else [])]
    return states or ["pending"]


def _slice(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    return (
        objects.name(obj),
        spec.get("nodeName") or "",
        spec.get("driver") or "",
        (spec.get("pool") or {}).get("name") or "",
        columns.age_of(obj, now),
    )


NAMED: Final = Layout((NAME, AGE), _named)
CLAIM: Final = Layout((NAME, string("State"), AGE), _claim)
SLICE: Final = Layout((NAME, string("Node"), string("Driver"), string("Pool"), AGE), _slice)
