"""PriorityClasses: the system's own, how high others may go, which one is for pods without a class. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object

SYSTEM: Final[Mapping[str, int]] = {
    "system-node-critical": 2_000_001_000,
    "system-cluster-critical": 2_000_000_000,
}
"""The values of the classes every cluster has."""
SYSTEM_PREFIX: Final = "system-"
USER_MAX: Final = 1_000_000_000
PREEMPTION_POLICY: Final = "PreemptLowerPriority"
"""Of a class that names none, and of pods without a class."""
PREEMPTION_POLICIES: Final = (PREEMPTION_POLICY, "Never")
_DESCRIPTIONS: Final = {
    "system-node-critical": "For what a node cannot do without.",
    "system-cluster-critical": "For what the cluster cannot do without, on whichever node.",
}


def system() -> list[Object]:
    """The classes every cluster has, as documents."""
    return [
        {"metadata": {"name": name}, "value": value, "description": _DESCRIPTIONS[name]}
        for name, value in SYSTEM.items()
    ]


def of_pods_without(classes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The class marked as the default: of several, which only a race can make, the lowest."""
    marked = [each for each in classes if each.get("globalDefault")]
    return min(marked, key=lambda each: (int(each.get("value") or 0), objects.name(each)), default=None)
