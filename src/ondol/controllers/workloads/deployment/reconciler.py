"""Reconciles Deployments: make the ReplicaSet of the template, move replicas to it, say how it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ondol.api import labels, objects, progress, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers import claims, pods, writing
from ondol.controllers.deployment import resources as makes
from ondol.controllers.deployment import rollout
from ondol.controllers.deployment import status as statuses
from ondol.sdk import Controller, Manager, Result, controller_key

COMPONENT: Final = "deployment-controller"


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """One step a reconcile; the ReplicaSets' own changes bring the next."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._client = manager.client
        self._deployments = manager.informer(resources.DEPLOYMENT)
        self._sets = manager.informer(resources.REPLICA_SET)
        self._sets.add_index(pods.BY_CONTROLLER, pods.by_controller)
        self._sets.add_index(pods.ORPHANS, pods.by_orphanage)
        self._pods = manager.informer(resources.POD)
        self._pods.add_index(pods.BY_CONTROLLER, pods.by_controller)
        self._claims = claims.Claims(manager.client, resources.DEPLOYMENT, resources.REPLICA_SET)

    def controller(self) -> Controller:
        controller = Controller("deployment", self.reconcile, concurrency=4)
        controller.watch(self._deployments)
        controller.watch(self._sets, self._deployments_of)
        # A Recreate rollout waits for the last old pod to be gone.
        controller.watch(self._pods, self._recreating, predicate=_pod_ended)
        return controller

    def _deployments_of(self, replica_set: Object) -> Iterable[Key]:
        if objects.controller_of(replica_set) is not None:
            return controller_key("apps/v1", "Deployment")(replica_set)
        if not objects.labels(replica_set) or objects.is_deleting(replica_set):
            return ()
        namespace = objects.namespace(replica_set)
        found = self._deployments.lister.list(namespace)
        return [objects.key(each) for each in found if _selects(each, replica_set)]

    def _recreating(self, pod: Object) -> Iterable[Key]:
        for key in controller_key("apps/v1", "ReplicaSet")(pod):
            replica_set = self._sets.lister.get(key)
            for owner in self._deployments_of(replica_set) if replica_set else ():
                deployment = self._deployments.lister.get(owner)
                if deployment is not None and rollout.terms(deployment).recreate:
                    yield owner

    async def reconcile(self, key: Key) -> Result | None:
        deployment = self._deployments.lister.get(key)
        if deployment is None:
            return None
        own = self._sets.lister.by_index(pods.BY_CONTROLLER, objects.uid(deployment))
        orphans = self._sets.lister.by_index(pods.ORPHANS, key.namespace)
        claimed = await self._claims.claim(deployment, own, orphans)
        new, olds = makes.split(deployment, claimed)
        if objects.is_deleting(deployment):
            return await self._report(deployment, new, olds, rolling_out=False)
        if objects.spec(deployment).get("paused") or _is_scaled(deployment, claimed):
            return await self._scale(deployment, new, olds)
        return await self._roll(deployment, new, olds)

    async def _scale(self, deployment: Object, new: Object | None, olds: list[Object]) -> Result | None:
        """Only the number of replicas changed, or nothing but that may change."""
        wanted = rollout.terms(deployment)
        current = int(objects.status(deployment).get("replicas") or 0)
        view = makes.view(new) if new else None
        sizes = rollout.proportional(wanted, view, [makes.view(old) for old in olds], current)
        if new is not None:
            new = await self._bring_up_to_date(deployment, new, olds)
            await self._note_revision(deployment, new)
        new, olds = await self._resize(deployment, new, olds, sizes)
        if objects.spec(deployment).get("paused"):
            await self._clean_up(deployment, olds)
        return await self._report(deployment, new, olds, rolling_out=False)

    async def _roll(self, deployment: Object, new: Object | None, olds: list[Object]) -> Result | None:
        wanted = rollout.terms(deployment)
        if wanted.recreate and (sizes := {objects.name(o): 0 for o in olds if makes.replicas(o)}):
            new, olds = await self._resize(deployment, new, olds, sizes)
            return await self._report(deployment, new, olds)
        if wanted.recreate and self._old_pods_run(olds):
            return await self._report(deployment, new, olds)
        happening = None
        if new is None:
            new, happening = await self._create(deployment, olds, wanted)
            if new is None:
                return await self._report(deployment, None, olds, happening=happening)
        else:
            new = await self._bring_up_to_date(deployment, new, olds)
            happening = _first_found(deployment, new)
        await self._note_revision(deployment, new)
        sizes = rollout.rolling(wanted, makes.view(new), [makes.view(old) for old in olds])
        new, olds = await self._resize(deployment, new, olds, sizes)
        if not sizes and progress.is_rolled_out(deployment):
            await self._clean_up(deployment, olds)
        return await self._report(deployment, new, olds, happening=happening)

    async def _create(
        self, deployment: Object, olds: Sequence[Object], wanted: rollout.Terms
    ) -> tuple[Object | None, statuses.Happening | None]:
        """The new set and what to say about it; none when it cannot be made now."""
        if not await writing.is_current(self._client, resources.DEPLOYMENT, deployment):
            return None, None  # the watch will tell
        planned = makes.replica_set(deployment, olds, wanted)
        name = objects.name(planned)
        try:
            made = await self._client.create(resources.REPLICA_SET, planned)
        except errors.AlreadyExists:
            return await self._existing(deployment, name), None
        except errors.ApiError as error:
            if any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                return None, None
            message = f'Failed to create new replica set "{name}": {error.message}'
            self._event(deployment, message, reason="ReplicaSetCreateError", warning=True)
            failed = statuses.not_created(message)
            await self._report(deployment, None, list(olds), happening=failed)
            raise
        if makes.replicas(made):
            self._event(deployment, f"Scaled up replica set {name} from 0 to {makes.replicas(made)}")
        return made, statuses.created(name)

    async def _existing(self, deployment: Object, name: str) -> Object | None:
        """The set that has the name already, if it is ours; a stranger's makes us take another name."""
        found = await self._client.get(resources.REPLICA_SET, name, objects.namespace(deployment))
        if objects.is_controlled_by(found, deployment) and makes.same_template(found, deployment):
            return found
        collisions = int(objects.status(deployment).get("collisionCount") or 0) + 1
        changes = {"collisionCount": collisions}
        await writing.write_status(self._client, resources.DEPLOYMENT, deployment, changes)
        return None

    async def _bring_up_to_date(self, deployment: Object, new: Object, olds: Sequence[Object]) -> Object:
        patch = makes.updated(new, deployment, olds)
        return await self._patch_set(new, patch) if patch else new

    async def _note_revision(self, deployment: Object, new: Object) -> None:
        revision = objects.annotations(new).get(makes.REVISION)
        if revision and objects.annotations(deployment).get(makes.REVISION) != revision:
            metadata = {"uid": objects.uid(deployment), "annotations": {makes.REVISION: revision}}
            name, namespace = objects.name(deployment), objects.namespace(deployment)
            await self._client.patch(resources.DEPLOYMENT, name, namespace, patch={"metadata": metadata})

    async def _resize(
        self, deployment: Object, new: Object | None, olds: list[Object], sizes: Mapping[str, int]
    ) -> tuple[Object | None, list[Object]]:
        """The sets with their sizes written."""
        wanted = rollout.terms(deployment)

        async def one(replica_set: Object) -> Object:
            size = sizes.get(objects.name(replica_set))
            patch = makes.resized(replica_set, size, wanted) if size is not None else {}
            if not patch:
                return replica_set
            written = await self._patch_set(replica_set, patch)
            before, after = makes.replicas(replica_set), makes.replicas(written)
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
            for pod in self._pods.lister.by_index(pods.BY_CONTROLLER, objects.uid(old))
        )

    async def _clean_up(self, deployment: Object, olds: Sequence[Object]) -> None:
        limit = objects.spec(deployment).get("revisionHistoryLimit")
        if limit is not None:
            for old in makes.expired(olds, int(limit)):
                await writing.delete(self._client, resources.REPLICA_SET, old)

    async def _report(
        self,
        deployment: Object,
        new: Object | None,
        olds: Sequence[Object],
        *,
        happening: statuses.Happening | None = None,
        rolling_out: bool = True,
    ) -> Result | None:
        now = self._manager.clock.now()
        replica_sets = [*([new] if new else []), *olds]
        wanted = statuses.status(
            deployment, new, replica_sets, happening=happening, rolling_out=rolling_out, now=now
        )
        await writing.write_status(self._client, resources.DEPLOYMENT, deployment, wanted)
        return Result(statuses.check_again_s(deployment, wanted, now))

    def _event(
        self, deployment: Object, message: str, *, reason: str = "ScalingReplicaSet", warning: bool = False
    ) -> None:
        kind: Final = "Warning" if warning else "Normal"
        self._manager.recorder.event(deployment, kind, reason, message, component=COMPONENT)


def _first_found(deployment: Object, new: Object) -> statuses.Happening | None:
    """An existing set (after an undo, say) is worth a word where the Deployment has not said any yet."""
    listed = objects.status(deployment).get("conditions") or ()
    known = any(condition.get("type") == statuses.PROGRESSING for condition in listed)
    return None if known else statuses.found(objects.name(new))


def _is_scaled(deployment: Object, replica_sets: Iterable[Object]) -> bool:
    """Whether `replicas` changed since the sizes of the active sets were worked out.

    Not with Recreate: it shares nothing, and its one set gets its size as it goes.
    """
    terms = rollout.terms(deployment)
    if terms.recreate:
        return False
    wanted = terms.replicas
    noted = (
        makes.number(objects.annotations(each).get(makes.DESIRED))
        for each in replica_sets
        if makes.replicas(each)
    )
    return any(each is not None and each != wanted for each in noted)


def _selects(deployment: Object, replica_set: Object) -> bool:
    selector = labels.from_document(objects.spec(deployment).get("selector"))
    return not selector.is_everything and selector.matches(objects.labels(replica_set))


def _pod_ended(old: Object | None, new: Object | None) -> bool:
    if new is None:
        return True
    return old is not None and pods.is_terminal(new) and not pods.is_terminal(old)
