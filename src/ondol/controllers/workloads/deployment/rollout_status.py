"""The status of a Deployment: counts over its ReplicaSets, and the three conditions tools wait for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects, pods, progress
from ondol.api.objects import Object
from ondol.base import clock
from ondol.controllers.workloads.deployment import rollout

PROGRESSING: Final = "Progressing"
AVAILABLE: Final = "Available"
REPLICA_FAILURE: Final = "ReplicaFailure"
CONDITIONS: Final = (PROGRESSING, AVAILABLE, REPLICA_FAILURE)
NEW_AVAILABLE: Final = "NewReplicaSetAvailable"
TIMED_OUT: Final = "ProgressDeadlineExceeded"
PAUSED: Final = "DeploymentPaused"
_NO_DEADLINE: Final = 2**31 - 1
# A little after the deadline, so that it has passed for certain.
_AFTER_DEADLINE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ConditionState:
    """What a condition says: its status, reason and message."""

    status: str
    reason: str
    message: str


def new_set_created(name: str) -> ConditionState:
    return ConditionState("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')


def existing_set(name: str) -> ConditionState:
    return ConditionState("True", "FoundNewReplicaSet", f'Found new replica set "{name}"')


def not_created(message: str) -> ConditionState:
    return ConditionState("False", "ReplicaSetCreateError", message)


def deadline_s(deployment: Mapping[str, Any]) -> int | None:
    seconds = objects.spec(deployment).get("progressDeadlineSeconds")
    return None if seconds in (None, _NO_DEADLINE) else int(seconds)


def counts(deployment: Mapping[str, Any], new: Object | None, replica_sets: Sequence[Object]) -> Object:
    """The numbers, all of them; zeros are kept here and left out when written."""
    available = _sum(replica_sets, "availableReplicas")
    total = sum(int(objects.spec(each).get("replicas") or 0) for each in replica_sets)
    return {
        "observedGeneration": objects.generation(deployment),
        "replicas": _sum(replica_sets, "replicas"),
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(replica_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
    }


def _sum(replica_sets: Iterable[Object], field: str) -> int:
    return sum(int(objects.status(each).get(field) or 0) for each in replica_sets)


def status(
    deployment: Object,
    new: Object | None,
    replica_sets: Sequence[Object],
    *,
    progressing: ConditionState | None = None,
    rolling_out: bool = True,
    now: float,
) -> Object:
    """All fields this controller owns, None where Kubernetes leaves one out.

    `progressing` is what has just become of the rollout, for the Progressing condition.
    Without `rolling_out` (paused, or only scaled) the Progressing condition is left as it is.
    """
    counted = counts(deployment, new, replica_sets)
    listed = [dict(condition) for condition in conditions.of(deployment)]
    if deadline_s(deployment) is not None:
        listed = _paused(deployment, listed, now)
        if progressing is not None:
            listed = _put(listed, PROGRESSING, progressing, now)
    listed = _availability(deployment, listed, counted["availableReplicas"], now)
    if rolling_out:
        listed = _progress(deployment, listed, new, counted, now)
        listed = _failures(listed, new, replica_sets)
    return {
        **{field: value or None for field, value in counted.items()},
        "collisionCount": objects.status(deployment).get("collisionCount"),
        "conditions": listed or None,
    }


def _paused(deployment: Object, listed: list[Object], now: float) -> list[Object]:
    current = conditions.find(listed, PROGRESSING)
    reason = current.get("reason") if current else None
    if reason == TIMED_OUT:
        return listed
    if objects.spec(deployment).get("paused") and reason != PAUSED:
        return _put(listed, PROGRESSING, ConditionState("Unknown", PAUSED, "Deployment is paused"), now)
    if not objects.spec(deployment).get("paused") and reason == PAUSED:
        resumed = ConditionState("Unknown", "DeploymentResumed", "Deployment is resumed")
        return _put(listed, PROGRESSING, resumed, now)
    return listed


def _availability(deployment: Object, listed: list[Object], available: int, now: float) -> list[Object]:
    if available >= rollout.terms(deployment).min_available:
        state = ConditionState("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        state = ConditionState("False", "MinimumReplicasUnavailable", message)
    return _put(listed, AVAILABLE, state, now)


def _progress(
    deployment: Object, listed: list[Object], new: Object | None, counted: Object, now: float
) -> list[Object]:
    if deadline_s(deployment) is None:
        return conditions.remove(listed, PROGRESSING)
    current = conditions.find(listed, PROGRESSING)
    settled = current is not None and current.get("reason") == NEW_AVAILABLE
    if settled and counted["replicas"] == counted["updatedReplicas"]:
        return listed
    subject = f'ReplicaSet "{objects.name(new)}"' if new else f'Deployment "{objects.name(deployment)}"'
    if progress.is_rolled_out({**deployment, "status": counted}):
        done = ConditionState("True", NEW_AVAILABLE, f"{subject} has successfully progressed.")
        return _put(listed, PROGRESSING, done, now)
    if _is_progressing(objects.status(deployment), counted):
        return _progressed(listed, f"{subject} is progressing.", now)
    if has_timed_out(deployment, current, now):
        stuck = ConditionState("False", TIMED_OUT, f"{subject} has timed out progressing.")
        return _put(listed, PROGRESSING, stuck, now)
    return listed


def _progressed(listed: list[Object], message: str, now: float) -> list[Object]:
    """Each step forward renews the update time, from which the deadline counts."""
    current = conditions.find(listed, PROGRESSING)
    since = current.get("lastTransitionTime") if current and current.get("status") == "True" else None
    state = ConditionState("True", "ReplicaSetUpdated", message)
    renewed = _put(conditions.remove(listed, PROGRESSING), PROGRESSING, state, now)
    if since:
        renewed[-1]["lastTransitionTime"] = since
    return renewed


def _failures(listed: list[Object], new: Object | None, replica_sets: Sequence[Object]) -> list[Object]:
    """The current set's failure to make pods, or else any set's, shown on the Deployment."""
    for each in [*([new] if new else []), *replica_sets]:
        failure = conditions.get(each, REPLICA_FAILURE)
        if failure is not None:
            since = failure.get("lastTransitionTime")
            copied = {**failure, "lastUpdateTime": since}
            if conditions.find(listed, REPLICA_FAILURE) == copied:
                return listed
            return [*conditions.remove(listed, REPLICA_FAILURE), copied]
    return conditions.remove(listed, REPLICA_FAILURE)


def _is_progressing(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    def earlier(field: str) -> int:
        return int(before.get(field) or 0)

    return bool(
        now["updatedReplicas"] > earlier("updatedReplicas")
        or now["replicas"] - now["updatedReplicas"] < earlier("replicas") - earlier("updatedReplicas")
        or now["readyReplicas"] > earlier("readyReplicas")
        or now["availableReplicas"] > earlier("availableReplicas")
    )


def has_timed_out(deployment: Object, current: Mapping[str, Any] | None, now: float) -> bool:
    if current is None or current.get("reason") == NEW_AVAILABLE:
        return False
    if current.get("reason") == TIMED_OUT:
        return True
    since, limit = pods.moment(current.get("lastUpdateTime")), deadline_s(deployment)
    return since is not None and limit is not None and since + limit < now


def check_again_s(deployment: Object, written: Mapping[str, Any], now: float) -> float | None:
    """When to look whether the rollout is stuck: at its deadline, unless it is done, failed or paused."""
    limit = deadline_s(deployment)
    current = conditions.find(written.get("conditions") or (), PROGRESSING)
    if limit is None or current is None or objects.spec(deployment).get("paused"):
        return None
    if current.get("reason") in (TIMED_OUT, NEW_AVAILABLE):
        return None
    since = pods.moment(current.get("lastUpdateTime")) or now
    return max(0.0, since + limit - now) + _AFTER_DEADLINE_S


def _put(listed: list[Object], type: str, state: ConditionState, now: float) -> list[Object]:
    """Write one condition at the end; nothing moves when status and reason are what they were."""
    current = conditions.find(listed, type)
    if current is not None and _outcome(current) == (
        state.status,
        state.reason,
    ):
        return listed
    stamp = clock.rfc3339(now)
    unturned = current is not None and current.get("status") == state.status
    since = current.get("lastTransitionTime") if current and unturned else None
    written = {
        "type": type,
        "status": state.status,
        "lastUpdateTime": stamp,
        "lastTransitionTime": since or stamp,
        "reason": state.reason,
        "message": state.message,
    }
    return [*conditions.remove(listed, type), written]


def _outcome(condition: Mapping[str, Any]) -> tuple[Any, Any]:
    return condition.get("status"), condition.get("reason")
