"""Which types of events alone can pass a filter, where the filter itself says so.

The data plane asks the journal only for those. So the answer may be too large, never too small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_TYPE = "type"


def exact_type(
    filters: Sequence[Mapping[str, Any]] | None, attributes: Mapping[str, str] | None = None
) -> frozenset[str] | None:
    """The types that can pass; None if any may. None at all, if what is asked for contradicts itself."""
    if filters:
        return _every(_of(each) for each in filters)
    value = (attributes or {}).get(_TYPE)
    return frozenset({value}) if value else None


def _of(filter: Any) -> frozenset[str] | None:
    """The dialects in the order in which the first that is set counts."""
    if not isinstance(filter, Mapping):
        return None
    if exact := filter.get("exact"):
        value = exact.get(_TYPE) if isinstance(exact, Mapping) else None
        return frozenset({value}) if value and isinstance(value, str) else None
    if filter.get("prefix") or filter.get("suffix"):
        return None
    if parts := filter.get("all"):
        return _every(_of(part) for part in parts)
    if parts := filter.get("any"):
        return _one(_of(part) for part in parts if part)
    return None


def _every(parts: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    types: frozenset[str] | None = None
    for part in parts:
        if part is not None:
            types = part if types is None else types & part
    return types


def _one(parts: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    types: frozenset[str] = frozenset()
    for part in parts:
        if part is None:
            return None
        types |= part
    return types or None
