"""Reconciles Deployments: make the ReplicaSet of the template, move replicas to it, report the rollout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.api import objects, pods, progress, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.workloads import claims
from ondol.controllers.workloads.deployment import replica_sets, rollout, rollout_status
from ondol.controllers.workloads.deployment.rollout_status import ConditionState
from ondol.controllers.workloads.podcontrol import is_terminating
from ondol.sdk import Controller, Manager, Result, children, controller_key
from ondol.sdk.status import Writer

COMPONENT: Final = "deployment-controller"


@dataclass(frozen=True, slots=True)
class _Creation:
    """How the making of a new ReplicaSet went."""

    new: Object | None = None
    """None if it cannot be made now."""
    progressing: ConditionState | None = None
    collisions: int | None = None
    """The new `collisionCount`, if another object has the name."""


def add_to(manager: Manager) -> None:
    """Add the controller to a manager that does not run yet."""
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """One step a reconcile; the ReplicaSets' own changes bring the next."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._client = manager.client
        self._deployments = manager.informer(resources.DEPLOYMENT)
        self._sets = manager.informer(resources.REPLICA_SET)
        self._claims = claims.Claims(manager.client, self._deployments, self._sets)
        self._pods = manager.informer(resources.POD)
        self._pods.add_index(claims.BY_CONTROLLER, claims.by_controller)
        self._status = Writer(
            manager.client,
            resources.DEPLOYMENT,
            field_manager=COMPONENT,
            conditions=rollout_status.CONDITIONS,
        )

    def controller(self) -> Controller:
        controller = Controller("deployment", self.reconcile, concurrency=4)
        controller.watch(self._deployments)
        controller.watch(self._sets, self._claims.owners_of)
        # A Recreate rollout waits for the last old pod to be gone.
        controller.watch(self._pods, self._recreating, predicate=_pod_ended)
        return controller

    def _recreating(self, pod: Object) -> Iterable[Key]:
        for key in controller_key("apps/v1", "ReplicaSet")(pod):
            replica_set = self._sets.lister.get(key)
            for owner in self._claims.owners_of(replica_set) if replica_set else ():
                deployment = self._deployments.lister.get(owner)
                if deployment is not None and rollout.terms(deployment).recreate:
                    yield owner

    async def reconcile(self, key: Key) -> Result | None:
        deployment = self._deployments.lister.get(key)
        if deployment is None:
            return None
        claimed = await self._claims.claim(deployment)
        new, olds = replica_sets.split(deployment, claimed)
        if objects.is_deleting(deployment):
            return await self._report(deployment, new, olds, rolling_out=False)
        if objects.spec(deployment).get("paused") or _is_scaled(deployment, claimed):
            return await self._scale(deployment, new, olds)
        return await self._roll(deployment, new, olds)

    async def _scale(self, deployment: Object, new: Object | None, olds: list[Object]) -> Result | None:
        """Only the number of replicas changed, or nothing but that may change."""
        terms = rollout.terms(deployment)
        current = int(objects.status(deployment).get("replicas") or 0)
        view = replica_sets.view(new) if new else None
        sizes = rollout.proportional(terms, view, [replica_sets.view(old) for old in olds], current)
        if new is not None:
            new = await self._bring_up_to_date(deployment, new, olds)
            await self._note_revision(deployment, new)
        new, olds = await self._resize(deployment, new, olds, sizes)
        if objects.spec(deployment).get("paused"):
            await self._clean_up(deployment, olds)
        return await self._report(deployment, new, olds, rolling_out=False)

    async def _roll(self, deployment: Object, new: Object | None, olds: list[Object]) -> Result | None:
        terms = rollout.terms(deployment)
        if terms.recreate and (sizes := {objects.name(o): 0 for o in olds if replica_sets.replicas(o)}):
            new, olds = await self._resize(deployment, new, olds, sizes)
            return await self._report(deployment, new, olds)
        if terms.recreate and self._old_pods_run(olds):
            return await self._report(deployment, new, olds)
        if new is None:
            creation = await self._create(deployment, olds, terms)
            new, progressing = creation.new, creation.progressing
            if new is None:
                return await self._report(deployment, None, olds, collisions=creation.collisions)
        else:
            new = await self._bring_up_to_date(deployment, new, olds)
            progressing = _existing_set_state(deployment, new)
        await self._note_revision(deployment, new)
        sizes = rollout.rolling(terms, replica_sets.view(new), [replica_sets.view(old) for old in olds])
        new, olds = await self._resize(deployment, new, olds, sizes)
        if not sizes and progress.is_rolled_out(deployment):
            await self._clean_up(deployment, olds)
        return await self._report(deployment, new, olds, progressing=progressing)

    async def _create(self, deployment: Object, olds: Sequence[Object], terms: rollout.Terms) -> _Creation:
        """Create the new set; a failure is reported, and raised."""
        if not await children.is_current(self._client, resources.DEPLOYMENT, deployment):
            return _Creation()  # the watch will tell
        planned = replica_sets.replica_set(deployment, olds, terms)
        name = objects.name(planned)
        try:
            created = await self._client.create(resources.REPLICA_SET, planned)
        except errors.AlreadyExists:
            return await self._existing(deployment, name)
        except errors.ApiError as error:
            if is_terminating(error):
                return _Creation()
            message = f'Failed to create new replica set "{name}": {error.message}'
            self._event(deployment, message, reason="ReplicaSetCreateError", warning=True)
            failed = rollout_status.not_created(message)
            await self._report(deployment, None, list(olds), progressing=failed)
            raise
        if size := replica_sets.replicas(created):
            self._event(deployment, f"Scaled up replica set {name} from 0 to {size}")
        return _Creation(created, rollout_status.new_set_created(name))

    async def _existing(self, deployment: Object, name: str) -> _Creation:
        """The set that has the name already, if it is ours; another's makes us take the next name."""
        live = await self._client.get(resources.REPLICA_SET, name, objects.namespace(deployment))
        if objects.is_controlled_by(live, deployment) and replica_sets.same_template(live, deployment):
            return _Creation(live)
        return _Creation(collisions=int(objects.status(deployment).get("collisionCount") or 0) + 1)

    async def _bring_up_to_date(self, deployment: Object, new: Object, olds: Sequence[Object]) -> Object:
        patch = replica_sets.updated(new, deployment, olds)
        return await self._patch_set(new, patch) if patch else new

    async def _note_revision(self, deployment: Object, new: Object) -> None:
        revision = objects.annotations(new).get(replica_sets.REVISION)
        if revision and objects.annotations(deployment).get(replica_sets.REVISION) != revision:
            metadata = {"uid": objects.uid(deployment), "annotations": {replica_sets.REVISION: revision}}
            name, namespace = objects.name(deployment), objects.namespace(deployment)
            await self._client.patch(resources.DEPLOYMENT, name, namespace, patch={"metadata": metadata})

    async def _resize(
        self, deployment: Object, new: Object | None, olds: list[Object], sizes: Mapping[str, int]
    ) -> tuple[Object | None, list[Object]]:
        """The sets with their sizes written."""
        terms = rollout.terms(deployment)

        async def one(replica_set: Object) -> Object:
            size = sizes.get(objects.name(replica_set))
            patch = replica_sets.resized(replica_set, size, terms) if size is not None else {}
            if not patch:
                return replica_set
            written = await self._patch_set(replica_set, patch)
            before, after = replica_sets.replicas(replica_set), replica_sets.replicas(written)
            if before != after:
                way = "up" if after > before else "down"
                name = objects.name(replica_set)
                self._event(deployment, f"Scaled {way} replica set {name} from {before} to {after}")
            return written

        return (await one(new) if new else None), [await one(old) for old in olds]

    async def _patch_set(self, replica_set: Object, patch: Object) -> Object:
        """Patch exactly the version that was looked at: sizes worked out from an older one are wrong."""
        metadata = {
            **(patch.get("metadata") or {}),
            "uid": objects.uid(replica_set),
            "resourceVersion": objects.resource_version(replica_set),
        }
        name, namespace = objects.name(replica_set), objects.namespace(replica_set)
        return await self._client.patch(
            resources.REPLICA_SET, name, namespace, patch={**patch, "metadata": metadata}
        )

    def _old_pods_run(self, olds: Iterable[Object]) -> bool:
        return any(
            not pods.is_terminal(pod)
            for old in olds
            for pod in self._pods.lister.by_index(claims.BY_CONTROLLER, objects.uid(old))
        )

    async def _clean_up(self, deployment: Object, olds: Sequence[Object]) -> None:
        limit = objects.spec(deployment).get("revisionHistoryLimit")
        if limit is not None:
            for old in replica_sets.expired(olds, int(limit)):
                await children.delete(self._client, resources.REPLICA_SET, old)

    async def _report(
        self,
        deployment: Object,
        new: Object | None,
        olds: Sequence[Object],
        *,
        progressing: rollout_status.ConditionState | None = None,
        rolling_out: bool = True,
        collisions: int | None = None,
    ) -> Result | None:
        now = self._manager.clock.now()
        sets = [*([new] if new else []), *olds]
        desired = rollout_status.status(
            deployment, new, sets, progressing=progressing, rolling_out=rolling_out, now=now
        )
        if collisions is not None:
            desired["collisionCount"] = collisions
        await self._status.write(deployment, desired)
        return Result(rollout_status.check_again_s(deployment, desired, now))

    def _event(
        self, deployment: Object, message: str, *, reason: str = "ScalingReplicaSet", warning: bool = False
    ) -> None:
        kind: Final = "Warning" if warning else "Normal"
        self._manager.recorder.event(deployment, kind, reason, message, component=COMPONENT)


def _existing_set_state(deployment: Object, new: Object) -> rollout_status.ConditionState | None:
    """An existing set (after an undo, say) is reported where the Deployment has no such condition yet."""
    listed = objects.status(deployment).get("conditions") or ()
    is_reported = any(condition.get("type") == rollout_status.PROGRESSING for condition in listed)
    return None if is_reported else rollout_status.existing_set(objects.name(new))


def _is_scaled(deployment: Object, sets: Iterable[Object]) -> bool:
    """Whether `replicas` changed since the sizes of the active sets were worked out.

    Not with Recreate: it shares nothing, and its one set gets its size as it goes.
    """
    terms = rollout.terms(deployment)
    if terms.recreate:
        return False
    sizes = (
        replica_sets.number(objects.annotations(each).get(replica_sets.DESIRED))
        for each in sets
        if replica_sets.replicas(each)
    )
    return any(each is not None and each != terms.replicas for each in sizes)


def _pod_ended(old: Object | None, new: Object | None) -> bool:
    if new is None:
        return True
    return old is not None and pods.is_terminal(new) and not pods.is_terminal(old)
