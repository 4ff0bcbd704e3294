"""What a PodDisruptionBudget says of the pods it selects. Pure.

The arithmetic of Kubernetes' `pkg/controller/disruption`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects, pods, shares
from ondol.api.objects import Object

ALLOWED: Final = "DisruptionAllowed"
TARGET: Final = "DisruptionTarget"
CONFIRMED_S: Final = 120.0
"""How long an evicted pod is waited for, to be seen as deleted; then it is taken for one that stays."""


def counts_scales(budget: Mapping[str, Any]) -> bool:
    """Whether the pods that there should be are those of the scales of who made them.

    With `minAvailable` as a number they are those that there are.
    """
    spec = objects.spec(budget)
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def desired(budget: Mapping[str, Any], expected: int) -> int:
    """How many pods must stay healthy of `expected`; percentages are rounded up, to the pods' good or not."""
    spec = objects.spec(budget)
    unavailable, available = spec.get("maxUnavailable"), spec.get("minAvailable")
    if unavailable is not None:
        return max(0, expected - shares.scaled(unavailable, expected, up=True))
    return 0 if available is None else shares.scaled(available, expected, up=True)


def disrupted(
    budget: Mapping[str, Any], selected: Iterable[Mapping[str, Any]], now: float
) -> tuple[dict[str, str], list[str]]:
    """The evicted pods that are not seen as deleted yet, by name with their time; and those that stay."""
    awaited: dict[str, str] = {}
    staying: list[str] = []
    evicted: Mapping[str, str] = objects.status(budget).get("disruptedPods") or {}
    for pod in selected:
        name = objects.name(pod)
        if name not in evicted or objects.is_deleting(pod):
            continue
        if (pods.moment(evicted[name]) or 0.0) + CONFIRMED_S < now:
            staying.append(name)
        else:
            awaited[name] = evicted[name]
    return awaited, staying


def healthy(selected: Iterable[Mapping[str, Any]], awaited: Collection[str]) -> int:
    """Pods that are ready and will stay so, as far as is known here."""
    return sum(
        pods.is_ready(pod) and not objects.is_deleting(pod) and objects.name(pod) not in awaited
        for pod in selected
    )


def status(budget: Object, *, expected: int, current: int, awaited: Mapping[str, str], now: float) -> Object:
    """All of a status; a budget that expects no pod allows nothing, for its first pods may just come."""
    needed = desired(budget, expected)
    allowed = max(0, current - needed) if expected > 0 else 0
    generation = objects.generation(budget)
    listed = conditions.set(
        conditions.of(budget),
        ALLOWED,
        "True" if allowed else "False",
        reason="SufficientPods" if allowed else "InsufficientPods",
        now=now,
        observed_generation=generation,
    )
    return {
        "currentHealthy": current,
        "desiredHealthy": needed,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "disruptedPods": dict(awaited) or None,
        "observedGeneration": generation,
        "conditions": listed,
    }


def failed(budget: Object, message: str, now: float) -> Object:
    """What is said when nothing can be counted: no pod may go."""
    observed = objects.status(budget).get("observedGeneration")
    listed = conditions.set(
        conditions.of(budget),
        ALLOWED,
        "False",
        reason="SyncFailed",
        message=message,
        now=now,
        observed_generation=observed,
    )
    return {"disruptionsAllowed": 0, "conditions": listed}
