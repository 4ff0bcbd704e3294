"""Reconciles pods that wait to be counted by a Job that will not do it: it is gone, or has ended."""

from __future__ import annotations

from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.workloads.job import tally, terms, verdict
from ondol.controllers.workloads.podcontrol import PodControl
from ondol.sdk import Controller, Manager, Result

_ORPHANS: Final = "job-pod-orphans"


class Reconciler:
    def __init__(self, manager: Manager, control: PodControl) -> None:
        self._client = manager.client
        self._jobs = manager.informer(resources.JOB)
        self._control = control

    def controller(self) -> Controller:
        controller = Controller(_ORPHANS, self.reconcile)
        controller.watch(
            self._control.pods, predicate=lambda _, pod: pod is not None and tally.is_tracked(pod)
        )
        controller.watch(self._jobs, self._tracked_pods, predicate=_has_ended)
        return controller

    def _tracked_pods(self, job: Object) -> list[Key]:
        return [objects.key(pod) for pod in self._control.owned(job) if tally.is_tracked(pod)]

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._control.pods.lister.get(key)
        if pod is not None and tally.is_tracked(pod) and await self._is_orphan(pod):
            await self._control.release([pod], tally.FINALIZER)
        return None

    async def _is_orphan(self, pod: Object) -> bool:
        """Whether nobody will count the pod. The server is asked: the cache may not have a new Job yet."""
        owner = objects.controller_of(pod)
        if owner is None or owner.get("kind") != resources.JOB.kind:
            return True
        job = self._jobs.lister.get(Key(objects.namespace(pod), str(owner["name"])))
        if job is None or objects.uid(job) != owner["uid"]:
            try:
                job = await self._client.get(resources.JOB, str(owner["name"]), objects.namespace(pod))
            except errors.NotFound:
                return True
        if objects.uid(job) != owner["uid"]:
            return True
        return verdict.is_finished(job) and not terms.is_managed_elsewhere(job)


def _has_ended(_: Object | None, job: Object | None) -> bool:
    return job is None or verdict.is_finished(job)
