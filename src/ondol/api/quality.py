"""A pod's quality of service class: one rule for the API server, which reports it, and the node.

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
    """Guaranteed, Burstable or BestEffort, by the requests and limits of the pod as a whole.

    Where it has none, by those of all containers. A limit without a request is the request; zero is none.
    """
    spec = objects.spec(pod)
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    own = spec.get("resources") or {}
    amounts = [own] if own else [container.get("resources") or {} for container in containers]
    limits = [_compute(amount.get("limits")) for amount in amounts]
    requests = [
        _compute({**(amount.get("limits") or {}), **(amount.get("requests") or {})}) for amount in amounts
    ]
    if not any(requests) and not any(limits):
        return "BestEffort"
    is_guaranteed = all(len(limit) == len(_COMPUTE) for limit in limits) and requests == limits
    return "Guaranteed" if is_guaranteed else "Burstable"


def _compute(amounts: Mapping[str, Any] | None) -> dict[str, Fraction]:
    parsed = {name: quantity.parse((amounts or {})[name]) for name in _COMPUTE if name in (amounts or {})}
    return {name: amount for name, amount in parsed.items() if amount}
