"""A pod's quality of service: one meaning for the API server, which says it, and the node.

The node acts by it: who dies first when memory runs out.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from ondol.api import objects
from ondol.base import quantity

_COMPUTE: Final = ("cpu", "memory")


def of(pod: Mapping[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort, by what all containers request and are limited to.

    A limit without a request is the request; zero is as good as none.
    """
    spec = objects.spec(pod)
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    amounts = [container.get("resources") or {} for container in containers]
    limits = [_compute(found.get("limits")) for found in amounts]
    requests = [
        _compute({**(found.get("limits") or {}), **(found.get("requests") or {})}) for found in amounts
    ]
    if not any(requests) and not any(limits):
        return "BestEffort"
    is_guaranteed = all(len(limit) == len(_COMPUTE) for limit in limits) and requests == limits
    return "Guaranteed" if is_guaranteed else "Burstable"


def _compute(found: Mapping[str, Any] | None) -> dict[str, Fraction]:
    parsed = {name: quantity.parse((found or {})[name]) for name in _COMPUTE if name in (found or {})}
    return {name: amount for name, amount in parsed.items() if amount}
