"""The words of an in-place resize in a pod's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import conditions

PENDING: Final = "PodResizePending"
IN_PROGRESS: Final = "PodResizeInProgress"
CONDITIONS: Final = (PENDING, IN_PROGRESS)

DEFERRED: Final = "Deferred"
INFEASIBLE: Final = "Infeasible"
ERROR: Final = "Error"
"""Reasons: of the first condition the first two, of the second the last."""


def is_infeasible(pod: Mapping[str, Any]) -> bool:
    """Whether its node can never give the pod the size it asks for now."""
    condition = conditions.get(pod, PENDING)
    return condition is not None and condition.get("reason") == INFEASIBLE


def is_under_way(pod: Mapping[str, Any]) -> bool:
    """Whether the pod has, or holds, another size than it asks for."""
    return any(conditions.get(pod, name) is not None for name in CONDITIONS)
