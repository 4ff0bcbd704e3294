"""How many replicas a metric calls for. Pure.

The arithmetic of Kubernetes' `pkg/controller/podautoscaler` (`replica_calculator.go`). Amounts are in
thousandths of a metric's unit, as quantities are compared there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ondol.api import conditions, objects, pods
from ondol.api.objects import Object
from ondol.base import quantity

TOLERANCE: Final = 0.1
"""A metric this near to its target changes nothing."""
CPU_INITIALIZATION_S: Final = 300.0
"""A young pod uses its processor for other things than requests."""
INITIAL_READINESS_S: Final = 30.0
_REPLICAS_MAX: Final = 2**31 - 1


class CannotMeasure(Exception):
    """Why no size can be worked out, in Kubernetes' words."""


class Sample(NamedTuple):
    """What a pod used: an amount in thousandths, read at a time, over a window of seconds."""

    amount: int
    at: float
    window_s: float


class Proposal(NamedTuple):
    """The replicas that a metric calls for, and what it was measured to be."""

    replicas: int
    average: int
    """The mean of the pods that were measured, in thousandths."""
    percent: int = 0
    """Of what they request, where the target is a share of that."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """Names of pods by how much can be told of them; those not named are measured."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def utilization(
    current: int, target: int, samples: Mapping[str, Sample], selected: list[Object], usage: Usage
) -> Proposal:
    """For a target that is a percentage of what the pods request."""
    groups = _grouped(selected, samples, usage.resource, usage.now)
    measured = _measured(samples, groups)
    requests = {objects.name(pod): requested(pod, usage) for pod in selected}

    def ratio(amounts: Mapping[str, int]) -> tuple[float, int, int]:
        counted = [name for name in amounts if name in requests]
        total = sum(requests[name] for name in counted)
        if not total:
            raise CannotMeasure("no metrics returned matched known pods")
        used = sum(amounts[name] for name in counted)
        percent = used * 100 // total
        return percent / target, used // len(counted), percent

    whole = max(100, target)
    replicas = _replicas(
        current,
        measured,
        groups,
        lambda amounts: ratio(amounts)[0],
        lambda name: requests[name] * whole // 100,
    )
    _, average, percent = ratio(measured)
    return Proposal(replicas, average, percent)


def per_pod(
    current: int, target: int, samples: Mapping[str, Sample], selected: list[Object], usage: Usage
) -> Proposal:
    """For a target that is the mean of what pods use or tell; `usage.resource` is empty for the latter."""
    groups = _grouped(selected, samples, usage.resource, usage.now)
    measured = _measured(samples, groups)

    def mean(amounts: Mapping[str, int]) -> int:
        return sum(amounts.values()) // len(amounts)

    replicas = _replicas(current, measured, groups, lambda amounts: mean(amounts) / target, lambda _: target)
    return Proposal(replicas, mean(measured))


def of_value(current: int, target: int, amount: int, selected: list[Object]) -> int:
    """For a metric of something else than the pods, which should be as `target` says.

    From zero replicas it counts as that of one.
    """
    ratio = amount / target
    if not current:
        return min(_REPLICAS_MAX, math.ceil(ratio))
    if _is_near(ratio):
        return current
    if not selected:
        raise CannotMeasure(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
        )
    ready = sum(pods.phase(pod) == "Running" and pods.is_ready(pod) for pod in selected)
    return min(_REPLICAS_MAX, math.ceil(ratio * ready))


def of_share(running: int, target: int, amount: int) -> Proposal:
    """For such a metric, shared out among the `running` replicas: each of them should have `target`."""
    share = math.ceil(amount / running) if running else 0
    if running and _is_near(amount / (target * running)):
        return Proposal(running, share)
    return Proposal(min(_REPLICAS_MAX, math.ceil(amount / target)), share)


@dataclass(frozen=True, slots=True)
class Usage:
    """Which resource is measured, of which container (empty: of all), and when it is now."""

    resource: str
    now: float
    container: str = ""


def requested(pod: Mapping[str, Any], usage: Usage) -> int:
    """What the pod requests of the resource, in thousandths."""
    spec, name = objects.spec(pod), objects.name(pod)
    whole = (spec.get("resources") or {}).get("requests") or {}
    if whole and not usage.container and usage.resource in whole:
        return quantity.milli_of(whole[usage.resource])
    total = 0
    for container in _running(spec):
        if usage.container not in ("", container["name"]):
            continue
        amount = ((container.get("resources") or {}).get("requests") or {}).get(usage.resource)
        if amount is None:
            place = f"container {container['name']} of Pod {name}"
            raise CannotMeasure(f"missing request for {usage.resource} in {place}")
        total += quantity.milli_of(amount)
        if usage.container:
            return total
    if usage.container:
        raise CannotMeasure(f"container {usage.container} not found in Pod {name}")
    return total


def _running(spec: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from spec.get("containers") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container


def _grouped(selected: Iterable[Object], samples: Mapping[str, Sample], resource: str, now: float) -> _Groups:
    ready = 0
    unready: set[str] = set()
    missing: set[str] = set()
    ignored: set[str] = set()
    for pod in selected:
        name = objects.name(pod)
        if objects.is_deleting(pod) or pods.phase(pod) == "Failed":
            ignored.add(name)
        elif pods.phase(pod) == "Pending":
            unready.add(name)
        elif name not in samples:
            missing.add(name)
        elif resource == "cpu" and _is_starting(pod, samples[name], now):
            unready.add(name)
        else:
            ready += 1
    if not ready + len(unready) + len(missing) + len(ignored):
        raise CannotMeasure("no pods returned by selector while calculating replica count")
    return _Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_starting(pod: Mapping[str, Any], sample: Sample, now: float) -> bool:
    """Whether what its processor does is still the work of starting up."""
    condition = conditions.get(pod, "Ready")
    started = pods.moment(objects.status(pod).get("startTime"))
    if condition is None or started is None:
        return True
    changed = pods.moment(condition.get("lastTransitionTime")) or started
    is_unready = condition.get("status") == "False"
    if started + CPU_INITIALIZATION_S > now:
        return is_unready or sample.at < changed + sample.window_s
    return is_unready and started + INITIAL_READINESS_S > changed


def _measured(samples: Mapping[str, Sample], groups: _Groups) -> dict[str, int]:
    measured = {
        name: sample.amount
        for name, sample in samples.items()
        if name not in groups.ignored and name not in groups.unready
    }
    if not measured:
        raise CannotMeasure("did not receive metrics for targeted pods (pods might be unready)")
    return measured


def _replicas(
    current: int,
    measured: Mapping[str, int],
    groups: _Groups,
    ratio: Callable[[Mapping[str, int]], float],
    assumed: Callable[[str], int],
) -> int:
    """The size at which the ratio to the target would be 1.

    Pods of which nothing is known are taken to damp the change: as idle when it is upwards, and otherwise as
    `assumed` says. It never turns the change around.
    """
    first = ratio(measured)
    counts_unready = bool(groups.unready) and first > 1.0
    if not counts_unready and not groups.missing:
        return current if _is_near(first) else math.ceil(first * groups.ready)
    completed = dict(measured)
    if first != 1.0:
        completed |= {name: assumed(name) if first < 1.0 else 0 for name in groups.missing}
    if counts_unready:
        completed |= dict.fromkeys(groups.unready, 0)
    second = ratio(completed)
    if _is_near(second) or (first < 1.0 < second) or (second < 1.0 < first):
        return current
    replicas = math.ceil(second * len(completed))
    turns = replicas > current if second < 1.0 else replicas < current
    return current if turns else replicas


def _is_near(ratio: float) -> bool:
    return 1.0 - TOLERANCE <= ratio <= 1.0 + TOLERANCE
