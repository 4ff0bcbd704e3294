"""A Job's pods counted: each exactly once, though pods vanish and controllers die between two writes. Pure.

A pod carries a finalizer until it is counted. First its uid is written into the status (in
`uncountedTerminatedPods`; of an Indexed Job's success the index is enough), then the finalizer goes, then
the uid moves into the number. Whoever begins anew in between sees by uid and finalizer how far it came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.job import failures, indexes
from ondol.controllers.workloads.job.terms import Terms

FINALIZER: Final = "batch.kubernetes.io/job-tracking"
UNCOUNTED_MAX: Final = 500
"""How many uids a status holds at once; the rest waits for the next turn."""


@dataclass(slots=True)
class Tally:
    """The pods that a Job has now, and its numbers with those that are not in its status yet."""

    claimed: Sequence[Object]
    active: list[Object]
    terminating: list[Object]
    succeeded: int
    failed: int
    before: frozenset[int] = frozenset()
    """Indexes that the status has as succeeded."""
    succeeded_indexes: set[int] = field(default_factory=set)
    failed_indexes: set[int] | None = None
    """None unless failures are counted by index."""
    replaceable: dict[int, Object] = field(default_factory=dict)
    """The last failed pod of each index that gets another: it stays until that has its count."""


def is_tracked(pod: Mapping[str, Any]) -> bool:
    return FINALIZER in (objects.metadata(pod).get("finalizers") or ())


def of(job: Object, terms: Terms, claimed: Sequence[Object]) -> Tally:
    status = objects.status(job)
    uncounted = uids(job)
    fresh = [pod for pod in claimed if is_tracked(pod) and _has_place(pod, terms)]
    succeeded = sum(
        pods.phase(pod) == "Succeeded" and objects.uid(pod) not in uncounted["succeeded"] for pod in fresh
    )
    failed = sum(
        objects.uid(pod) not in uncounted["failed"] and counts_as_failed(pod, terms) for pod in fresh
    )
    tally = Tally(
        claimed,
        [pod for pod in claimed if pods.is_active(pod)],
        [pod for pod in claimed if objects.is_deleting(pod) and not pods.is_terminal(pod)],
        int(status.get("succeeded") or 0) + succeeded + len(uncounted["succeeded"]),
        int(status.get("failed") or 0) + failed + len(uncounted["failed"]),
    )
    if terms.is_indexed:
        _count_indexes(tally, status, terms, fresh)
    return tally


def counts_as_failed(pod: Object, terms: Terms) -> bool:
    return failures.is_failed(pod, terms) and failures.match(pod, terms).is_counted


def uids(job: Object) -> dict[str, list[str]]:
    """The uids that are written and not counted yet, of pods that `succeeded` and `failed`."""
    written = objects.status(job).get("uncountedTerminatedPods") or {}
    return {outcome: list(written.get(outcome) or ()) for outcome in ("succeeded", "failed")}


def _has_place(pod: Object, terms: Terms) -> bool:
    return not terms.is_indexed or terms.valid_index(indexes.of(pod))


def _count_indexes(tally: Tally, status: Mapping[str, Any], terms: Terms, fresh: Iterable[Object]) -> None:
    completions = terms.completions or 0
    fresh = list(fresh)
    tally.before = frozenset(indexes.parse(str(status.get("completedIndexes") or ""), completions))
    ended = {indexes.of(pod) for pod in fresh if pods.phase(pod) == "Succeeded"}
    tally.succeeded_indexes = {*tally.before, *(index for index in ended if index is not None)}
    tally.succeeded = len(tally.succeeded_indexes)
    if terms.backoff_limit_per_index is None:
        return
    lost = {indexes.of(pod) for pod in fresh if failures.fails_index(pod, terms)}
    tally.failed_indexes = indexes.parse(str(status.get("failedIndexes") or ""), completions)
    tally.failed_indexes |= {index for index in lost if index is not None}
    settled = tally.succeeded_indexes | tally.failed_indexes | of_pods(tally.active)
    for pod in fresh:
        index = indexes.of(pod)
        if index is not None and index not in settled and failures.is_failed(pod, terms):
            other = tally.replaceable.get(index)
            if other is None or _last(other) <= _last(pod):
                tally.replaceable[index] = pod


def _last(pod: Object) -> tuple[int, float]:
    return failures.absolute(pod), failures.finished_at(pod)


def of_pods(listed: Iterable[Object]) -> set[int]:
    """The indexes of these pods."""
    return {index for pod in listed if (index := indexes.of(pod)) is not None}


@dataclass(slots=True)
class Settling:
    """What is written before finalizers go, and whose go."""

    uncounted: dict[str, list[str]]
    indexes: set[int]
    released: list[Object]
    is_whole: bool
    """Whether all that can be settled is; not, when there is more than a status holds."""


def settle(
    job: Object,
    terms: Terms,
    tally: Tally,
    uncounted: Mapping[str, Sequence[str]],
    *,
    ends: bool,
    succeeds: bool,
) -> Settling:
    """Which pods can be counted now, beside those that are `uncounted` yet.

    All can when the Job `ends`; those that still run are failed then, unless it `succeeds`.
    """
    is_over = ends or objects.is_deleting(job)
    listed = {outcome: list(named) for outcome, named in uncounted.items()}
    settling = Settling(listed, set(tally.before), [], is_whole=True)
    for pod in sorted(tally.claimed, key=lambda each: indexes.of(each) or 0):
        if not is_tracked(pod):
            continue
        is_failure = failures.is_failed(pod, terms)
        if not (is_over or pods.phase(pod) == "Succeeded" or (is_failure and not _is_awaited(pod, tally))):
            continue
        settling.released.append(pod)
        _book(pod, terms, settling, is_failure=is_failure or (ends and not succeeds))
        fresh = len(settling.indexes) - len(tally.before)
        if fresh + len(listed["succeeded"]) + len(listed["failed"]) >= UNCOUNTED_MAX:
            settling.is_whole = False
            break
    return settling


def _is_awaited(pod: Object, tally: Tally) -> bool:
    """Whether another pod of its index has to take over the count of failures first."""
    index = indexes.of(pod)
    awaited = tally.replaceable.get(index) if index is not None else None
    return awaited is not None and objects.uid(awaited) == objects.uid(pod)


def _book(pod: Object, terms: Terms, settling: Settling, *, is_failure: bool) -> None:
    uid, index = objects.uid(pod), indexes.of(pod)
    if not _has_place(pod, terms):
        return
    if pods.phase(pod) == "Succeeded" and uid not in settling.uncounted["failed"]:
        if index is not None and terms.is_indexed:
            settling.indexes.add(index)
        elif uid not in settling.uncounted["succeeded"]:
            settling.uncounted["succeeded"].append(uid)
    elif is_failure and uid not in settling.uncounted["failed"] and failures.match(pod, terms).is_counted:
        settling.uncounted["failed"].append(uid)


def counted(
    numbers: Mapping[str, int], uncounted: Mapping[str, Sequence[str]], tracked: Collection[str]
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """The numbers with all in them that is written and whose finalizer is gone; and what is left."""
    left = {outcome: [uid for uid in listed if uid in tracked] for outcome, listed in uncounted.items()}
    return {
        outcome: numbers[outcome] + len(uncounted[outcome]) - len(left[outcome]) for outcome in uncounted
    }, left
