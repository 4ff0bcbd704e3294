"""Reconciles CronJobs: begin the run that is due, keep account of those that run, remove old ones."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from ondol.api import conditions, objects, pods, resources
from ondol.api.cron import Schedule
from ondol.api.objects import Key, Object
from ondol.base import clock, errors
from ondol.controllers.workloads import claims
from ondol.controllers.workloads.cronjob import schedule
from ondol.controllers.workloads.job import verdict
from ondol.controllers.workloads.podcontrol import is_terminating
from ondol.sdk import Controller, Manager, Result, children, controller_key
from ondol.sdk.status import Writer

COMPONENT: Final = "cronjob-controller"
_SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_TOO_MANY: Final = (
    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
)
_RFC1123: Final = "%a, %d %b %Y %H:%M:%S +0000"


def add_to(manager: Manager) -> None:
    """Add the controller to a manager that does not run yet."""
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """A run's Job is named after its minute, so that however often it is begun there is one."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._recorder = manager.recorder
        self._cron_jobs = manager.informer(resources.CRON_JOB)
        self._jobs = manager.informer(resources.JOB)
        self._jobs.add_index(claims.BY_CONTROLLER, claims.by_controller)
        self._status = Writer(manager.client, resources.CRON_JOB, field_manager=COMPONENT)

    def controller(self) -> Controller:
        controller = Controller("cronjob", self.reconcile, concurrency=4)
        resource = resources.CRON_JOB
        controller.watch(self._cron_jobs)
        controller.watch(self._jobs, controller_key(resource.api_version, resource.kind))
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        cron_job = self._cron_jobs.lister.get(key)
        if cron_job is None:
            return None
        jobs = self._jobs.lister.by_index(claims.BY_CONTROLLER, objects.uid(cron_job))
        running = [job for job in jobs if not verdict.is_finished(job)]
        self._tell_changes(cron_job, jobs)
        status = objects.status(cron_job)
        desired: Object = {
            "active": [_reference(job) for job in running] or None,
            "lastSuccessfulTime": _last_success(jobs, status.get("lastSuccessfulTime")),
            "lastScheduleTime": status.get("lastScheduleTime"),
        }
        wait_s: float | None = None
        if not objects.is_deleting(cron_job):
            try:
                await self._clean(cron_job, jobs)
                wait_s = await self._schedule(cron_job, running, desired)
            finally:
                await self._status.write_onto(cron_job, desired)
        return Result(wait_s) if wait_s is not None else None

    def _tell_changes(self, cron_job: Object, jobs: Iterable[Object]) -> None:
        """Events of runs that were active when the status was written, and are not any more."""
        by_uid = {objects.uid(job): job for job in jobs}
        for reference in objects.status(cron_job).get("active") or ():
            job = by_uid.get(reference.get("uid"))
            if job is None:
                self._tell(cron_job, "MissingJob", f"Active job went missing: {reference.get('name')}")
            elif verdict.is_finished(job):
                ended = verdict.COMPLETE if conditions.is_true(job, verdict.COMPLETE) else verdict.FAILED
                text = f"Saw completed job: {objects.name(job)}, condition: {ended}"
                self._tell(cron_job, "SawCompletedJob", text)

    async def _schedule(self, cron_job: Object, running: list[Object], desired: Object) -> float | None:
        """Begin what is due; seconds until the next run is, None if none is expected."""
        spec = objects.spec(cron_job)
        reason = "UnknownTimeZone"
        try:
            place = schedule.zone(cron_job)
            reason = "UnparseableSchedule"
            timetable = schedule.of(cron_job)
        except ValueError as error:
            self._tell(cron_job, reason, str(error), is_warning=True)
            return None
        if spec.get("suspend"):
            return None
        now = self._clock.now()
        since = schedule.earliest(cron_job, now, within_deadline=True)
        due = schedule.due(timetable, place, since, now)
        if due.missed > schedule.MANY:
            self._tell(cron_job, "TooManyMissedTimes", _TOO_MANY, is_warning=True)
        if due.at is None:
            self._tell_missed(cron_job, timetable, place, now)
        elif not _is_begun(cron_job, due.at):
            await self._begin(cron_job, due.at, place, running, desired)
        return schedule.wait_s(cron_job, timetable, place, now)

    def _tell_missed(self, cron_job: Object, timetable: Schedule, place: tzinfo, now: float) -> None:
        """Whether a run was due that may not begin so late any more."""
        if objects.spec(cron_job).get("startingDeadlineSeconds") is None:
            return
        since = schedule.earliest(cron_job, now, within_deadline=False)
        missed = schedule.due(timetable, place, since, now).at
        if missed is not None:
            text = datetime.fromtimestamp(missed, UTC).strftime(_RFC1123)
            self._tell(
                cron_job, "MissSchedule", f"Missed scheduled time to start a job: {text}", is_warning=True
            )

    async def _begin(
        self, cron_job: Object, at: float, place: tzinfo, running: list[Object], desired: Object
    ) -> None:
        """Make the Job of a run, as far as those that still run allow it."""
        policy = objects.spec(cron_job).get("concurrencyPolicy")
        if running and policy == "Forbid":
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._tell(cron_job, "JobAlreadyActive", text)
            return
        if policy == "Replace":
            for job in list(running):
                await self._remove(cron_job, job)
                running.remove(job)
        document = _job(cron_job, at, place)
        name = objects.name(document)
        try:
            if not await children.is_current(self._client, resources.CRON_JOB, cron_job):
                return
            job = await self._client.create(resources.JOB, document, objects.namespace(cron_job))
            self._tell(cron_job, "SuccessfulCreate", f"Created job {name}")
        except errors.AlreadyExists:
            job = await self._client.get(resources.JOB, name, objects.namespace(cron_job))
            owner = objects.controller_of(job) or {}
            if owner.get("uid") != objects.uid(cron_job):
                return  # somebody else's, who may account for it
        except errors.ApiError as error:
            if not is_terminating(error):
                self._tell(cron_job, "FailedCreate", f"Error creating job: {error.message}", is_warning=True)
            raise
        desired["active"] = [_reference(job) for job in [*running, job]]
        desired["lastScheduleTime"] = clock.rfc3339(at)

    async def _clean(self, cron_job: Object, jobs: Iterable[Object]) -> None:
        """Remove the oldest runs that have ended, beyond those that are to be kept."""
        spec = objects.spec(cron_job)
        for type_, field in (
            (verdict.COMPLETE, "successfulJobsHistoryLimit"),
            (verdict.FAILED, "failedJobsHistoryLimit"),
        ):
            ended = sorted((job for job in jobs if conditions.is_true(job, type_)), key=_started)
            limit = spec.get(field)
            for job in ended[: len(ended) - int(limit)] if limit is not None and len(ended) > limit else ():
                await self._remove(cron_job, job)

    async def _remove(self, cron_job: Object, job: Object) -> None:
        try:
            if await children.delete(self._client, resources.JOB, job):
                self._tell(cron_job, "SuccessfulDelete", f"Deleted job {objects.name(job)}")
        except errors.ApiError as error:
            self._tell(cron_job, "FailedDelete", f"Deleted job: {error.message}", is_warning=True)
            raise

    def _tell(self, cron_job: Object, reason: str, message: str, *, is_warning: bool = False) -> None:
        type_: Any = "Warning" if is_warning else "Normal"
        self._recorder.event(cron_job, type_, reason, message, component=COMPONENT)


def _is_begun(cron_job: Object, at: float) -> bool:
    return pods.moment(objects.status(cron_job).get("lastScheduleTime")) == at


def _job(cron_job: Object, at: float, place: tzinfo) -> Object:
    """The Job of the run at a time, as a document to create."""
    template = copy.deepcopy(objects.spec(cron_job).get("jobTemplate") or {})
    metadata = template.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), _SCHEDULED: schedule.stamp(at, place)}
    labels = metadata.get("labels")
    return {
        "apiVersion": resources.JOB.api_version,
        "kind": resources.JOB.kind,
        "metadata": {
            "name": f"{objects.name(cron_job)}-{int(at) // 60}",
            "namespace": objects.namespace(cron_job),
            "annotations": annotations,
            **({"labels": labels} if labels else {}),
            "ownerReferences": [objects.controller_reference(cron_job)],
        },
        "spec": template.get("spec") or {},
    }


def _reference(job: Object) -> Object:
    return {
        "apiVersion": resources.JOB.api_version,
        "kind": resources.JOB.kind,
        "name": objects.name(job),
        "namespace": objects.namespace(job),
        "uid": objects.uid(job),
    }


def _last_success(jobs: Sequence[Object], last: str | None) -> str | None:
    """The latest end of a run that succeeded, those too that were removed since."""
    ends = [
        str(end)
        for job in jobs
        if conditions.is_true(job, verdict.COMPLETE) and (end := objects.status(job).get("completionTime"))
    ]
    return max([*ends, *([last] if last else [])], key=lambda text: pods.moment(text) or 0.0, default=None)


def _started(job: Object) -> tuple[float, str]:
    return pods.moment(objects.status(job).get("startTime")) or float("inf"), objects.name(job)
