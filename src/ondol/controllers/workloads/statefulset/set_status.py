"""The status of a StatefulSet from its pods. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.statefulset import identity
from ondol.controllers.workloads.statefulset import plan as planning

FIELDS: Final = (
    "replicas",
    "readyReplicas",
    "availableReplicas",
    "currentReplicas",
    "updatedReplicas",
    "currentRevision",
    "updateRevision",
    "collisionCount",
    "observedGeneration",
)


def status(
    stateful_set: Object,
    current: str,
    update: str,
    members: Sequence[Object],
    *,
    collisions: int = 0,
    deleted: Collection[str] = (),
    now: float,
) -> Object:
    """All of it; None for a field that Kubernetes leaves out.

    `current` and `update` are names of revisions, `deleted` the uids of pods that were just deleted. When all
    pods are of the update and ready, it becomes the current revision.
    """
    min_ready_s = planning.min_ready_s(stateful_set)
    ready = [pod for pod in members if planning.is_running_and_ready(pod)]
    alive = [pod for pod in members if not objects.is_deleting(pod) and objects.uid(pod) not in deleted]
    counted = {
        "replicas": len(members),
        "readyReplicas": len(ready),
        "availableReplicas": sum(pods.available_in_s(pod, min_ready_s, now) == 0 for pod in ready),
        "currentReplicas": sum(identity.revision(pod) == current for pod in alive),
        "updatedReplicas": sum(identity.revision(pod) == update for pod in alive),
    }
    if planning.is_rolling(stateful_set) and _is_complete(counted, identity.replicas(stateful_set)):
        current, counted["currentReplicas"] = update, counted["updatedReplicas"]
    shown = ("replicas", "availableReplicas")
    return {
        **{field: count if field in shown else count or None for field, count in counted.items()},
        "currentRevision": current or None,
        "updateRevision": update or None,
        "collisionCount": collisions,
        "observedGeneration": objects.generation(stateful_set),
    }


def _is_complete(counted: Mapping[str, int], replicas: int) -> bool:
    return all(counted[field] == replicas for field in ("updatedReplicas", "readyReplicas", "replicas"))


def next_available_s(stateful_set: Mapping[str, Any], members: Sequence[Object], now: float) -> float | None:
    """Seconds until the next ready pod counts as available, if one is on its way."""
    min_ready_s = planning.min_ready_s(stateful_set)
    waits = (pods.available_in_s(pod, min_ready_s, now) for pod in members)
    return min((wait for wait in waits if wait), default=None)
