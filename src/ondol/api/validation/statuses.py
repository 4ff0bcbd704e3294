"""Rules of what controllers report: counts that can be, and ends of Jobs that fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.schema import causes
from ondol.api.validation import fields, jobs
from ondol.base.errors import Cause

_Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[Cause]]
_REPLICAS: Final = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")


def counts(*names: str) -> _Rule:
    """The rule that these fields of a status are not below zero."""

    def check(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
        del old
        for name in names:
            yield from fields.non_negative(f"status.{name}", objects.status(new).get(name))

    return check


def stateful_set(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    yield from counts("replicas", *_REPLICAS, "observedGeneration", "collisionCount")(new, old)
    status = objects.status(new)
    for name in _REPLICAS:
        yield from _at_most(status, name, "replicas")
    yield from _at_most(status, "availableReplicas", "readyReplicas")
    yield from _collisions(new, old)


def daemon_set(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    names = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    )
    yield from counts(*names)(new, old)
    yield from _collisions(new, old)


def replication_controller(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    names = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    yield from counts("replicas", *names, "observedGeneration")(new, old)
    status = objects.status(new)
    for name in names:
        yield from _at_most(status, name, "replicas")
    yield from _at_most(status, "availableReplicas", "readyReplicas")


def _at_most(status: Mapping[str, Any], name: str, other: str) -> Iterator[Cause]:
    number = status.get(name) or 0
    if number > (status.get(other) or 0):
        yield causes.invalid(f"status.{name}", number, f"cannot be greater than status.{other}")


def _collisions(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    now, before = (objects.status(each).get("collisionCount") for each in (new, old))
    if before is not None and (now is None or now < before):
        yield causes.invalid("status.collisionCount", now or 0, "cannot be decremented")


# --- Jobs


def job(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Of a Job's status, whoever writes it; what is as it was is not looked at again."""
    yield from counts("active", "succeeded", "failed", "ready", "terminating")(new, old)
    yield from _ends(new)
    yield from _times(new, old)
    if _is_finished(new) and not _is_finished(old):
        yield from _left_over(objects.status(new))
    status = objects.status(new)
    ready = status.get("ready")
    if ready is not None and ready > (status.get("active") or 0):
        yield causes.invalid("status.ready", ready, "cannot set more ready pods than active")
    yield from _indexes(new, old)
    yield from _kept(new, old)


def _whole(detail: str, path: str = "status.conditions") -> Cause:
    """A cause that shows no value."""
    return Cause("FieldValueInvalid", f"Invalid value: {detail}", path)


def _is_finished(job: Mapping[str, Any]) -> bool:
    return conditions.is_true(job, "Complete") or conditions.is_true(job, "Failed")


_CONTRADICTIONS: Final = (
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
    (
        "SuccessCriteriaMet",
        "FailureTarget",
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    ),
)
_CONSEQUENCES: Final = (
    (
        "Failed",
        "FailureTarget",
        "cannot set Failed=True condition without the FailureTarget=true condition",
    ),
    (
        "Complete",
        "SuccessCriteriaMet",
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    ),
)
_FINAL: Final = ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet")


def _ends(new: Mapping[str, Any]) -> Iterator[Cause]:
    for one, other, detail in _CONTRADICTIONS:
        if conditions.is_true(new, one) and conditions.is_true(new, other):
            yield _whole(detail)
    for one, other, detail in _CONSEQUENCES:
        if conditions.is_true(new, one) and not conditions.is_true(new, other):
            yield _whole(detail)


def _times(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    status, before = objects.status(new), objects.status(old)
    start, end = status.get("startTime"), status.get("completionTime")
    is_complete = conditions.is_true(new, "Complete")
    path = "status.completionTime"
    if end is not None and not is_complete:
        detail = "cannot set completionTime when there is no Complete=True condition"
        yield causes.invalid(path, end, detail)
    if end is None and is_complete:
        yield causes.required(path, "completionTime is required for Complete jobs")
    if start is not None and end is not None and end < start:
        yield causes.invalid(path, end, "must be equal to or after `startTime`")
    if end is not None and before.get("completionTime") not in (None, end):
        yield causes.invalid(path, end, fields.IMMUTABLE)
    spec = objects.spec(new)
    is_resuming = conditions.is_true(old, "Suspended") and conditions.is_false(new, "Suspended")
    if before.get("startTime") not in (None, start) and not spec.get("suspend") and not is_resuming:
        yield causes.required("status.startTime", "startTime cannot be removed for unsuspended job")
    is_nothing = bool(spec.get("suspend")) and spec.get("completions") == 0
    if start is None and _is_finished(new) and not is_nothing:
        yield causes.required("status.startTime", "startTime is required for finished job")


def _left_over(status: Mapping[str, Any]) -> Iterator[Cause]:
    for name in ("active", "terminating"):
        if status.get(name):
            yield causes.invalid(f"status.{name}", status[name], f"{name}>0 is invalid for finished job")
    uncounted = status.get("uncountedTerminatedPods") or {}
    if uncounted.get("succeeded") or uncounted.get("failed"):
        detail = "must be empty for finished job"
        yield causes.invalid("status.uncountedTerminatedPods", dict(uncounted), detail)


def _indexes(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    spec, status, before = objects.spec(new), objects.status(new), objects.status(old)
    for name in ("completedIndexes", "failedIndexes"):
        indexes = status.get(name)
        if indexes is None or indexes == before.get(name) or spec.get("completions") is None:
            continue
        try:
            jobs.counted(indexes, spec["completions"])
        except ValueError as error:
            yield causes.invalid(f"status.{name}", indexes, f"error parsing {name}: {error}")
    completed, failed = status.get("completedIndexes"), status.get("failedIndexes")
    if completed and completed != before.get("completedIndexes") and spec.get("completionMode") != "Indexed":
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        yield causes.invalid("status.completedIndexes", completed, detail)
    if failed not in (None, before.get("failedIndexes")) and spec.get("backoffLimitPerIndex") is None:
        detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        yield causes.invalid("status.failedIndexes", failed, detail)


def _kept(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What has happened to a Job has happened."""
    for kind in _FINAL:
        if conditions.is_true(old, kind) and not conditions.is_true(new, kind):
            terminal = "" if kind == "SuccessCriteriaMet" else "terminal "
            yield _whole(f"cannot disable the {terminal}{kind}=True condition")
    spec = objects.spec(new)
    is_elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get(
        "parallelism"
    )
    for name in ("failed", "succeeded"):
        now, before = (objects.status(each).get(name) or 0 for each in (new, old))
        if now < before and not (name == "succeeded" and is_elastic):
            yield causes.invalid(f"status.{name}", now, f"cannot decrease the {name} counter")
