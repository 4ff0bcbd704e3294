"""The columns of ResourceQuotas and ComponentStatuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string


def _resource_quota(obj: Document, now: float) -> Sequence[Cell]:
    status = objects.status(obj)
    used = status.get("used") or {}
    shown = [(name, f"{name}: {used.get(name, '0')}/{hard}") for name, hard in _hard(obj)]
    requests = ", ".join(text for name, text in shown if not name.startswith("limits."))
    limits = ", ".join(text for name, text in shown if name.startswith("limits."))
    return objects.name(obj), requests, limits, columns.age_of(obj, now)


def _hard(obj: Document) -> list[tuple[str, str]]:
    return sorted((objects.status(obj).get("hard") or {}).items())


def _component_status(obj: Document, now: float) -> Sequence[Cell]:
    del now
    conditions = obj.get("conditions") or ()
    healthy = next((each for each in conditions if each.get("type") == "Healthy"), None)
    if healthy is None:
        return objects.name(obj), "Unknown", "", ""
    word = "Healthy" if healthy.get("status") == "True" else "Unhealthy"
    return objects.name(obj), word, healthy.get("message") or "", healthy.get("error") or ""


LAYOUT: Final = Layout((NAME, string("Request"), string("Limit"), AGE), _resource_quota)
COMPONENT_STATUS: Final = Layout(
    (NAME, string("Status"), string("Message"), string("Error")), _component_status
)
