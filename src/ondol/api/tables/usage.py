"""The columns of NodeMetrics and PodMetrics, as metrics-server prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.tables.columns import NAME, Cell, Document, Layout, string
from ondol.base import quantity

_COLUMNS: Final = (NAME, string("cpu"), string("memory"), string("Window"))


def _node(obj: Document, _now: float) -> Sequence[Cell]:
    return objects.name(obj), *_sums([obj["usage"]]), obj["window"]


def _pod(obj: Document, _now: float) -> Sequence[Cell]:
    return objects.name(obj), *_sums([each["usage"] for each in obj["containers"]]), obj["window"]


def _sums(usages: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    listed = list(usages)
    cpu = sum(quantity.parse(usage["cpu"]) for usage in listed)
    memory = sum(quantity.bytes_of(usage["memory"]) for usage in listed)
    return f"{int(cpu * 10**9)}n", f"{memory // 1024}Ki"


NODE: Final = Layout(_COLUMNS, _node)
POD: Final = Layout(_COLUMNS, _pod)
