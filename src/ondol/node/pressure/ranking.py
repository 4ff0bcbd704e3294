"""Which pod is sent away first when the machine is short of something, and in which words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import demand, objects, pods, priority_classes, quality
from ondol.api.eviction_thresholds import SIGNALS, Readings, Threshold
from ondol.base import quantity
from ondol.node import pod_spec
from ondol.node.pod_spec import Spec

_SUFFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_REQUESTED: Final = ("memory", "ephemeral-storage")
"""What pods can ask for; processes and inodes they cannot."""
_MEMORY_TAINT: Final = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class Consumption:
    """What a pod has of one resource: bytes, or a count."""

    total: int
    containers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    pod: Spec
    used: Consumption | None
    """None where it could not be measured: such a pod goes first."""


def is_critical(pod: Spec) -> bool:
    """Never sent away, and let in whatever the machine is short of."""
    return _priority(pod) >= priority_classes.SYSTEM["system-cluster-critical"]


def _priority(pod: Spec) -> int:
    return int(objects.spec(pod).get("priority") or 0)


def ranked(candidates: Iterable[Candidate], resource: str) -> list[Candidate]:
    """Who has more than it asked for, then the lower priority, then by how much more: the kubelet's order."""
    return sorted(candidates, key=lambda each: _rank(each, resource))


def _rank(candidate: Candidate, resource: str) -> tuple[bool, bool, int, int]:
    pod, used = candidate.pod, candidate.used
    if used is None:
        return False, False, 0, 0
    beyond = used.total - requested(pod, resource)
    within = resource != "pids" and beyond <= 0
    return True, within, _priority(pod), -beyond


def requested(pod: Spec, resource: str) -> int:
    return demand.desired(pod)[resource] // 1000 if resource in _REQUESTED else 0


def message(candidate: Candidate, threshold: Threshold, readings: Readings) -> str:
    """As the kubelet's status and event have it."""
    resource, level = SIGNALS[threshold.signal].resource, readings[threshold.signal]
    least, available = _spelled(threshold.least(level.capacity)), _spelled(level.available)
    sentences = [
        f"The node was low on resource: {resource}. ",
        f"Threshold quantity: {least}, available: {available}. ",
    ]
    used = candidate.used
    if used is None or resource not in _REQUESTED:
        return "".join(sentences)
    own = (objects.spec(candidate.pod).get("resources") or {}).get("requests") or {}
    if resource == "memory" and own.get(resource):
        name = objects.name(candidate.pod)
        sentences.append(_larger(f"Pod {name}", used.total, own[resource], resource))
    for container in [*pod_spec.app_containers(candidate.pod), *pod_spec.init_containers(candidate.pod)]:
        amount = used.containers.get(str(container["name"]), 0)
        asked = ((container.get("resources") or {}).get("requests") or {}).get(resource) or "0"
        if amount > quantity.bytes_of(asked):
            sentences.append(_larger(f"Container {container['name']}", amount, asked, resource))
    return "".join(sentences)


def _larger(who: str, used: int, asked: Any, resource: str) -> str:
    return f"{who} was using {_spelled(used)}, request is {asked}, has larger consumption of {resource}. "


def _spelled(amount: int) -> str:
    """With the largest binary suffix that leaves a whole number."""
    for suffix in _SUFFIXES:
        if not amount or amount % 1024 or suffix == _SUFFIXES[-1]:
            return f"{amount}{suffix}" if amount else "0"
        amount //= 1024
    return str(amount)


def refusal(pod: Spec, conditions: frozenset[str]) -> str:
    """Why a new pod is not let in, or nothing: one that asks for memory is, while only that is short."""
    if not conditions or is_critical(pod):
        return ""
    if conditions == {"MemoryPressure"}:
        listed = objects.spec(pod).get("tolerations") or ()
        is_tolerant = any(pods.tolerates(each, _MEMORY_TAINT) for each in listed)
        if quality.of(pod) != "BestEffort" or is_tolerant:
            return ""
    return f"The node had condition: [{' '.join(sorted(conditions))}]. "
