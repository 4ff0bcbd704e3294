"""Reconciles Jobs that have ended: they are deleted `ttlSecondsAfterFinished` later, their pods first."""

from __future__ import annotations

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.workloads.job import verdict
from ondol.sdk import Controller, Manager, Result


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._jobs = manager.informer(resources.JOB)

    def controller(self) -> Controller:
        controller = Controller("ttl-after-finished", self.reconcile)
        controller.watch(self._jobs, predicate=lambda _, job: job is not None and expiry(job) is not None)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        job = self._jobs.lister.get(key)
        at = expiry(job) if job is not None else None
        if job is None or at is None or objects.is_deleting(job):
            return None
        if (left_s := at - self._clock.now()) > 0:
            return Result(left_s)
        try:
            live = await self._client.get(resources.JOB, key.name, key.namespace)
            still = expiry(live)  # somebody may just have given it more time
            if objects.uid(live) == objects.uid(job) and still is not None and still <= self._clock.now():
                await self._client.delete(
                    resources.JOB, key.name, key.namespace, uid=objects.uid(job), propagation="Foreground"
                )
        except (errors.NotFound, errors.Conflict):
            return None
        return None


def expiry(job: Object) -> float | None:
    """When the Job's time after its end is over; None if it has none, or has not ended."""
    ttl_s = objects.spec(job).get("ttlSecondsAfterFinished")
    if ttl_s is None:
        return None
    for type_ in (verdict.COMPLETE, verdict.FAILED):
        condition = conditions.get(job, type_) or {}
        if condition.get("status") == "True":
            return (pods.moment(condition.get("lastTransitionTime")) or 0.0) + int(ttl_s)
    return None
