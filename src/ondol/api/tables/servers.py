"""The columns of what API servers are told of themselves: APIServices, flow schemas and priority levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import conditions, objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string

_NONE: Final = "<none>"


def _api_service(obj: Document, now: float) -> Sequence[Cell]:
    service = objects.spec(obj).get("service")
    place = "Local" if service is None else f"{service.get('namespace') or ''}/{service.get('name') or ''}"
    return objects.name(obj), place, _available(obj), columns.age_of(obj, now)


def _available(obj: Document) -> str:
    condition = conditions.get(obj, "Available")
    if condition is None:
        return "Unknown"
    status, reason = str(condition.get("status") or ""), condition.get("reason")
    return f"{status} ({reason})" if reason and status != "True" else status


def _schema(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    method, dangling = spec.get("distinguisherMethod"), conditions.get(obj, "Dangling")
    return (
        objects.name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        _NONE if method is None else method.get("type") or "",
        columns.age_of(obj, now),
        "?" if dangling is None else dangling.get("status") or "",
    )


def _level(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    return (
        objects.name(obj),
        spec.get("type") or "",
        limited.get("nominalConcurrencyShares", _NONE),
        *(queuing.get(field, _NONE) for field in ("queues", "handSize", "queueLengthLimit")),
        columns.age_of(obj, now),
    )


API_SERVICE: Final = Layout((NAME, string("Service"), string("Available"), AGE), _api_service)
SCHEMA: Final = Layout(
    (
        NAME,
        string("PriorityLevel"),
        string("MatchingPrecedence"),
        string("DistinguisherMethod"),
        AGE,
        string("MissingPL"),
    ),
    _schema,
)
LEVEL: Final = Layout(
    (
        NAME,
        string("Type"),
        string("NominalConcurrencyShares"),
        string("Queues"),
        string("HandSize"),
        string("QueueLengthLimit"),
        AGE,
    ),
    _level,
)
