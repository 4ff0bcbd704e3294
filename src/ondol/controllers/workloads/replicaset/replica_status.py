"""The status of a ReplicaSet from its pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, labels, objects, pods
from ondol.api.objects import Object

FAILURE: Final = "ReplicaFailure"


def min_ready_s(replica_set: Mapping[str, Any]) -> int:
    return int(objects.spec(replica_set).get("minReadySeconds") or 0)


def status(
    replica_set: Object, active: Sequence[Object], *, failure: tuple[str, str] | None, now: float
) -> Object:
    """All fields this controller owns; None for one that Kubernetes leaves out.

    `failure` is the reason and message of pods that could not be made or removed.
    """
    spec = objects.spec(replica_set)
    template = (spec.get("template") or {}).get("metadata") or {}
    labelled = labels.from_map(template.get("labels") or {})
    waits = [pods.available_in_s(pod, min_ready_s(replica_set), now) for pod in active]
    written = conditions.of(replica_set)
    if failure is None:
        listed = conditions.remove(written, FAILURE)
    elif conditions.find(written, FAILURE) is None:
        listed = conditions.set(written, FAILURE, "True", reason=failure[0], message=failure[1], now=now)
    else:
        listed = [dict(condition) for condition in written]
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labelled.matches(objects.labels(pod)) for pod in active) or None,
        "readyReplicas": sum(wait is not None for wait in waits) or None,
        "availableReplicas": sum(wait == 0 for wait in waits) or None,
        "observedGeneration": objects.generation(replica_set),
        "conditions": listed or None,
    }


def next_available_s(replica_set: Object, active: Sequence[Object], now: float) -> float | None:
    """Seconds until the next ready pod counts as available, if one is on its way."""
    waits = [pods.available_in_s(pod, min_ready_s(replica_set), now) for pod in active]
    return min((wait for wait in waits if wait), default=None)
