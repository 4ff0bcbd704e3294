"""Reconciles Jobs: keep pods running until enough have succeeded or too many failed, and count each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import clock, errors
from ondol.controllers.workloads.job import finalizers, indexes, job_pods, tally, terms, ttl, verdict
from ondol.controllers.workloads.job.tally import Settling, Tally
from ondol.controllers.workloads.job.terms import Terms
from ondol.controllers.workloads.job.verdict import Verdict
from ondol.controllers.workloads.podcontrol import BURST, PodControl
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "job-controller"


def add_to(manager: Manager) -> None:
    """Add the controllers to a manager that does not run yet."""
    reconciler = Reconciler(manager)
    manager.add(reconciler.controller())
    manager.add(finalizers.Reconciler(manager, reconciler.pods).controller())
    manager.add(ttl.Reconciler(manager).controller())


class Reconciler:
    """Follows Kubernetes' `pkg/controller/job`; the arithmetic is in the modules beside this one."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._recorder = manager.recorder
        self._jobs = manager.informer(resources.JOB)
        self.pods = PodControl(manager, self._jobs, component=COMPONENT)
        self._status = Writer(manager.client, resources.JOB, field_manager=COMPONENT, conditions=verdict.OWN)

    def controller(self) -> Controller:
        controller = Controller("job", self.reconcile, concurrency=8)
        controller.watch(self._jobs)
        self.pods.watch(controller)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        job = self._jobs.lister.get(key)
        if job is None or terms.is_managed_elsewhere(job) or verdict.is_finished(job):
            return None
        asked = terms.of(job)
        now = self._clock.now()
        counted = tally.of(job, asked, await self.pods.claim(job))
        end = verdict.early(job, asked, counted, now)
        failure: errors.ApiError | None = None
        wait_s: float | None = None
        try:
            if end is not None:
                await self._stop(job, counted)
            elif not objects.is_deleting(job):
                wait_s = await self._manage(job, asked, counted, now)
        except errors.ApiError as error:
            failure, end = error, None
        else:
            end = end or verdict.complete(asked, counted, len(counted.active))
        await self._track(job, asked, counted, end, now)
        if failure is not None:
            raise failure
        left_s = verdict.deadline_in_s(job, asked, now) if end is None else None
        return Result(min((s for s in (wait_s, left_s) if s is not None and s > 0), default=None))

    async def _stop(self, job: Object, counted: Tally) -> None:
        """Delete what runs; it is counted as it ends."""
        await self.pods.delete(job, counted.active)
        counted.terminating += counted.active
        counted.active = []

    async def _manage(self, job: Object, asked: Terms, counted: Tally, now: float) -> float | None:
        """Make or remove pods; when to look again, where the next pod has to wait."""
        count = len(counted.active)
        target = 0 if asked.is_suspended else job_pods.target(asked, counted)
        gone = job_pods.surplus(asked, counted.active, max(0, count - target), now)[:BURST]
        if gone:
            await self._withdraw(job, counted, gone)
            return None
        missing = target - count - (len(counted.terminating) if asked.awaits_end else 0)
        if missing <= 0:
            return None
        documents, wait_s = job_pods.following(job, asked, counted, min(missing, BURST), now)
        counted.active += await self.pods.create(job, documents)
        return wait_s

    async def _withdraw(self, job: Object, counted: Tally, gone: list[Object]) -> None:
        """Delete pods that have not failed and are not to be counted."""
        await self.pods.release(gone, tally.FINALIZER)
        await self.pods.delete(job, gone)
        uids = {objects.uid(pod) for pod in gone}
        counted.active = [pod for pod in counted.active if objects.uid(pod) not in uids]
        counted.terminating += gone
        counted.claimed = [pod for pod in counted.claimed if objects.uid(pod) not in uids]

    async def _track(
        self, job: Object, asked: Terms, counted: Tally, end: Verdict | None, now: float
    ) -> None:
        """Write what can be counted, let those pods go, and write what they counted for."""
        tracked = {objects.uid(pod) for pod in counted.claimed if tally.is_tracked(pod)}
        status = objects.status(job)
        numbers = {outcome: int(status.get(outcome) or 0) for outcome in ("succeeded", "failed")}
        numbers, left = tally.counted(numbers, tally.uids(job), tracked)
        settling = tally.settle(
            job, asked, counted, left, ends=end is not None, succeeds=end is not None and end.succeeds
        )
        desired = self._begun(job, asked, counted, now) | _counts(asked, counted, settling, numbers)
        if end is None and not objects.is_deleting(job):
            desired |= self._paused(job, asked, now)
        elif end is not None:
            desired["conditions"] = _met(desired["conditions"], end, now)
        written = await self._status.write_onto(job, desired) or job
        released = {objects.uid(pod) for pod in await self.pods.release(settling.released, tally.FINALIZER)}
        numbers, left = tally.counted(numbers, settling.uncounted, tracked - released)
        settling.uncounted = left
        desired |= _counts(asked, counted, settling, numbers)
        is_done = settling.is_whole and not any(left.values()) and not counted.terminating
        if end is not None and is_done:
            desired |= _ended(desired["conditions"], end, now)
        await self._status.write_onto(written, desired)
        if end is not None and is_done:
            self._tell_end(job, asked, numbers["succeeded"], end)

    def _begun(self, job: Object, asked: Terms, counted: Tally, now: float) -> Object:
        """When the Job started, and how many pods it has."""
        started = objects.status(job).get("startTime")
        if started is None and not asked.is_suspended:
            started = clock.rfc3339(now)
        return {
            "startTime": started,
            "active": len(counted.active) or None,
            "ready": sum(pods.is_ready(pod) for pod in counted.active),
            "terminating": len(counted.terminating),
            "conditions": conditions.of(job),
        }

    def _paused(self, job: Object, asked: Terms, now: float) -> Object:
        """Whether the Job is suspended, where that has changed; with an event."""
        was_suspended = conditions.is_true(job, verdict.SUSPENDED)
        if asked.is_suspended and not was_suspended:
            self._tell(job, "Suspended", "Job suspended")
            cause = ("JobSuspended", "Job suspended")
            return {"conditions": _set(conditions.of(job), verdict.SUSPENDED, cause, now)}
        if was_suspended and not asked.is_suspended:
            self._tell(job, "Resumed", "Job resumed")
            cause = ("JobResumed", "Job resumed")
            return {
                "conditions": _set(conditions.of(job), verdict.SUSPENDED, cause, now, status="False"),
                "startTime": clock.rfc3339(now),  # the deadline is of the time it runs without a pause
            }
        return {}

    def _tell_end(self, job: Object, asked: Terms, succeeded: int, end: Verdict) -> None:
        if not end.succeeds:
            self._tell(job, end.reason, end.message, is_warning=True)
            return
        if asked.completions is not None and succeeded > asked.completions:
            text = "Too many succeeded pods running after completion count reached"
            self._tell(job, "TooManySucceededPods", text, is_warning=True)
        self._tell(job, "Completed", "Job completed")

    def _tell(self, job: Object, reason: str, message: str, *, is_warning: bool = False) -> None:
        type_: Any = "Warning" if is_warning else "Normal"
        self._recorder.event(job, type_, reason, message, component=COMPONENT)


def _counts(asked: Terms, counted: Tally, settling: Settling, numbers: dict[str, int]) -> Object:
    succeeded = len(settling.indexes) if asked.is_indexed else numbers["succeeded"]
    failed = counted.failed_indexes
    return {
        "succeeded": succeeded or None,
        "failed": numbers["failed"] or None,
        "completedIndexes": indexes.spelled(settling.indexes) or None,
        "failedIndexes": None if failed is None else indexes.spelled(failed),
        "uncountedTerminatedPods": {
            outcome: listed for outcome, listed in settling.uncounted.items() if listed
        },
    }


def _met(listed: Sequence[Mapping[str, Any]], end: Verdict, now: float) -> Sequence[Mapping[str, Any]]:
    """With the end as decided, unless it is there."""
    if conditions.find(listed, end.interim) is not None:
        return listed
    return _set(listed, end.interim, (end.reason, end.message), now)


def _ended(listed: Iterable[Mapping[str, Any]], end: Verdict, now: float) -> Object:
    ended: Object = {"conditions": _set(listed, end.final, (end.reason, end.message), now)}
    if end.succeeds:
        ended["completionTime"] = clock.rfc3339(now)
    return ended


def _set(
    listed: Iterable[Mapping[str, Any]],
    type_: str,
    cause: tuple[str, str],
    now: float,
    *,
    status: conditions.Status = "True",
) -> list[Object]:
    """With one condition set; `cause` is its reason and message."""
    written = conditions.set(listed, type_, status, reason=cause[0], message=cause[1], now=now)
    return [
        {**each, "lastProbeTime": clock.rfc3339(now)} if each["type"] == type_ else each for each in written
    ]
