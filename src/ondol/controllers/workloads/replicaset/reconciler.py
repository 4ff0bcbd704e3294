"""Reconciles ReplicaSets: claim pods, create or delete up to the desired number, report their state.

ReplicationControllers, their elder form, have the same spec and status and are kept by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import objects, pods, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.controllers.workloads import claims
from ondol.controllers.workloads.podcontrol import BURST, PodControl, pod_from_template
from ondol.controllers.workloads.replicaset import replica_status, sizing
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

KINDS: Final = {
    resources.REPLICA_SET: "replicaset-controller",
    resources.REPLICATION_CONTROLLER: "replication-controller",
}
"""What is reconciled here, and the name of who does it in events."""


def add_to(manager: Manager) -> None:
    """Add the controllers to a manager that does not run yet."""
    for resource in KINDS:
        manager.add(Reconciler(manager, resource).controller())


class Reconciler:
    """Level-based: what it wrote last is read back before it looks again, so it never doubles a pod."""

    def __init__(self, manager: Manager, resource: Resource) -> None:
        component = KINDS[resource]
        self._clock = manager.clock
        self._sets = manager.informer(resource)
        self._sets.add_index(claims.BY_CONTROLLER, claims.by_controller)
        self._pods = PodControl(manager, self._sets, component=component)
        self._status = Writer(
            manager.client, resource, field_manager=component, conditions=(replica_status.FAILURE,)
        )

    def controller(self) -> Controller:
        controller = Controller(self._sets.resource.kind.lower(), self.reconcile, concurrency=8)
        controller.watch(self._sets)
        self._pods.watch(controller)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        replica_set = self._sets.lister.get(key)
        if replica_set is None:
            return None
        claimed = await self._pods.claim(replica_set)
        active = [pod for pod in claimed if pods.is_active(pod)]
        failure: errors.ApiError | None = None
        wait_s = sizing.replacement_wait_s(claimed, sizing.replicas(replica_set), self._clock.now())
        if not objects.is_deleting(replica_set):
            try:
                active = await self._resize(replica_set, active, wait_s)
            except errors.ApiError as error:
                failure = error
        return await self._report(replica_set, active, failure, wait_s)

    async def _resize(self, replica_set: Object, active: list[Object], wait_s: float) -> list[Object]:
        """Create or delete the difference; what is active afterwards."""
        missing = sizing.replicas(replica_set) - len(active)
        if missing > 0 and not wait_s:
            pod = pod_from_template(replica_set, objects.spec(replica_set).get("template") or {})
            return active + await self._pods.create(replica_set, [pod] * min(missing, BURST))
        if missing < 0:
            surplus = self._surplus(replica_set, active, min(-missing, BURST))
            await self._pods.delete(replica_set, surplus)
            deleted = {objects.uid(pod) for pod in surplus}
            return [pod for pod in active if objects.uid(pod) not in deleted]
        return active

    def _surplus(self, replica_set: Object, active: Sequence[Object], count: int) -> list[Object]:
        owner = objects.controller_of(replica_set)
        by_index = self._sets.lister.by_index
        family = by_index(claims.BY_CONTROLLER, str(owner["uid"])) if owner else [replica_set]
        related = [pod for member in family for pod in self._pods.owned(member)]
        return sizing.surplus(active, related, count, self._clock.now())

    async def _report(
        self, replica_set: Object, active: Sequence[Object], failure: errors.ApiError | None, wait_s: float
    ) -> Result | None:
        now = self._clock.now()
        cause = None
        if failure is not None:
            short = len(active) < sizing.replicas(replica_set)
            cause = ("FailedCreate" if short else "FailedDelete", failure.message)
        desired = replica_status.status(replica_set, active, failure=cause, now=now)
        await self._status.write(replica_set, desired)
        if failure is not None:
            raise failure
        soon = replica_status.next_available_s(replica_set, active, now)
        return Result(min((s for s in (soon, wait_s) if s), default=None))
