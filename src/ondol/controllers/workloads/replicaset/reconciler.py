"""Reconciles ReplicaSets: claim pods, create or delete to the wanted number, say how it stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import anyio

from ondol.api import labels, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers import claims, pods, writing
from ondol.controllers.replicaset import resources as makes
from ondol.controllers.replicaset import status as statuses
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.recorder import EventType

COMPONENT: Final = "replicaset-controller"
_BURST: Final = 500
_FIRST_BATCH: Final = 4


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """Level-based: what it wrote last is read back before it looks again, so it never doubles a pod."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._client = manager.client
        self._sets = manager.informer(resources.REPLICA_SET)
        self._sets.add_index(pods.BY_CONTROLLER, pods.by_controller)
        self._pods = manager.informer(resources.POD)
        self._pods.add_index(pods.BY_CONTROLLER, pods.by_controller)
        self._pods.add_index(pods.ORPHANS, pods.by_orphanage)
        self._claims = claims.Claims(manager.client, resources.REPLICA_SET, resources.POD)

    def controller(self) -> Controller:
        controller = Controller("replicaset", self.reconcile, concurrency=8)
        controller.watch(self._sets)
        controller.watch(self._pods, self._sets_of)
        return controller

    def _sets_of(self, pod: Object) -> Iterable[Key]:
        """The set that controls the pod, or, for an orphan, those that may want it."""
        owner = objects.controller_of(pod)
        namespace = objects.namespace(pod)
        if owner is not None:
            return [Key(namespace, str(owner["name"]))] if owner.get("kind") == "ReplicaSet" else ()
        if not objects.labels(pod) or objects.is_deleting(pod):
            return ()
        return [objects.key(each) for each in self._sets.lister.list(namespace) if _selects(each, pod)]

    async def reconcile(self, key: Key) -> Result | None:
        replica_set = self._sets.lister.get(key)
        if replica_set is None:
            return None
        own = self._pods.lister.by_index(pods.BY_CONTROLLER, objects.uid(replica_set))
        orphans = self._pods.lister.by_index(pods.ORPHANS, key.namespace)
        claimed = await self._claims.claim(replica_set, own, orphans)
        active = [pod for pod in claimed if pods.is_active(pod)]
        failure: errors.ApiError | None = None
        wait_s = makes.replacement_wait_s(claimed, wanted_replicas(replica_set), self._manager.clock.now())
        if not objects.is_deleting(replica_set):
            try:
                active = await self._manage(replica_set, active, wait_s)
            except errors.ApiError as error:
                failure = error
        return await self._report(replica_set, active, failure, wait_s)

    async def _report(
        self, replica_set: Object, active: Sequence[Object], failure: errors.ApiError | None, wait_s: float
    ) -> Result | None:
        now = self._manager.clock.now()
        told = None
        if failure is not None:
            short = len(active) < wanted_replicas(replica_set)
            told = ("FailedCreate" if short else "FailedDelete", failure.message)
        wanted = statuses.status(replica_set, active, failure=told, now=now)
        await writing.write_status(self._client, resources.REPLICA_SET, replica_set, wanted)
        if failure is not None:
            raise failure
        soon = statuses.next_available_s(replica_set, active, now)
        return Result(min((s for s in (soon, wait_s) if s), default=None))

    async def _manage(self, replica_set: Object, active: list[Object], wait_s: float) -> list[Object]:
        """Create or delete the difference; what is active afterwards."""
        missing = wanted_replicas(replica_set) - len(active)
        if missing > 0 and wait_s:
            return active
        if missing > 0:
            if not await writing.is_current(self._client, resources.REPLICA_SET, replica_set):
                return active  # the watch will tell
            return active + await self._create(replica_set, min(missing, _BURST))
        if missing < 0:
            gone = self._surplus(replica_set, active, min(-missing, _BURST))
            await _together([lambda pod=pod: self._delete(replica_set, pod) for pod in gone])  # type: ignore[misc] # defaults bind
            names = {objects.uid(pod) for pod in gone}
            return [pod for pod in active if objects.uid(pod) not in names]
        return active

    async def _create(self, replica_set: Object, count: int) -> list[Object]:
        """Create in growing batches: when the first are refused, few others were tried in vain."""
        made: list[Object] = []
        pod = makes.pod(replica_set)

        async def one() -> None:
            created = await self._client.create(resources.POD, pod, objects.namespace(replica_set))
            made.append(created)
            self._event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {objects.name(created)}")

        batch = _FIRST_BATCH
        while len(made) < count:
            try:
                await _together([one] * min(batch, count - len(made)))
            except errors.ApiError as error:
                if _is_terminating(error):
                    return made  # the namespace is going away, and the set with it
                self._event(replica_set, "Warning", "FailedCreate", f"Error creating: {error.message}")
                raise
            batch *= 2
        return made

    def _surplus(self, replica_set: Object, active: Sequence[Object], count: int) -> list[Object]:
        owner = objects.controller_of(replica_set)
        family = self._sets.lister.by_index(pods.BY_CONTROLLER, str(owner["uid"])) if owner else [replica_set]
        related = [
            pod
            for member in family
            for pod in self._pods.lister.by_index(pods.BY_CONTROLLER, objects.uid(member))
        ]
        return makes.surplus(active, related, count, self._manager.clock.now())

    async def _delete(self, replica_set: Object, pod: Object) -> None:
        try:
            if await writing.delete(self._client, resources.POD, pod):
                self._event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {objects.name(pod)}")
        except errors.ApiError as error:
            self._event(replica_set, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise

    def _event(self, replica_set: Object, type: EventType, reason: str, message: str) -> None:
        self._manager.recorder.event(replica_set, type, reason, message, component=COMPONENT)


def wanted_replicas(obj: Object) -> int:
    found = objects.spec(obj).get("replicas")
    return 1 if found is None else int(found)


def _selects(replica_set: Object, pod: Object) -> bool:
    selector = labels.from_document(objects.spec(replica_set).get("selector"))
    return not selector.is_everything and selector.matches(objects.labels(pod))


def _is_terminating(error: errors.ApiError) -> bool:
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes)


async def _together(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all at once and to their end; then raise the first API error, if any."""
    failures: list[errors.ApiError] = []

    async def attempt(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except errors.ApiError as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(attempt, call)
    if failures:
        raise failures[0]
