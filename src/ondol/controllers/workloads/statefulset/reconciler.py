"""Reconciles StatefulSets: settle the revision, do what is planned, report, forget old revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ondol.api import objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.workloads import history
from ondol.controllers.workloads.claims import Claims
from ondol.controllers.workloads.replacements import Replacements
from ondol.controllers.workloads.statefulset import identity, plan, set_status
from ondol.controllers.workloads.statefulset.plan import Revision
from ondol.controllers.workloads.statefulset.set_pods import SetPods
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "statefulset-controller"


def add_to(manager: Manager) -> None:
    """Add the controller to a manager that does not run yet."""
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """What a set's last turn wrote is read back before the next, so each step sees the one before it."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._sets = manager.informer(resources.STATEFUL_SET)
        self._members = manager.informer(resources.POD)
        self._volume_claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._claims = Claims(manager.client, self._sets, self._members, admits=identity.is_member)
        self._history = history.History(manager, self._sets)
        self._pods = SetPods(manager, component=COMPONENT)
        self._replacements = Replacements()
        self._sets.add_handler(self._forget_failures)
        self._status = Writer(
            manager.client, resources.STATEFUL_SET, field_manager=COMPONENT, fields=set_status.FIELDS
        )

    def controller(self) -> Controller:
        controller = Controller("statefulset", self.reconcile, concurrency=8)
        controller.watch(self._sets)
        controller.watch(self._members, self._claims.owners_of)
        controller.watch(self._volume_claims, self._users_of, predicate=_is_leaving)
        controller.informers.append(self._history.informer)
        return controller

    def _users_of(self, claim: Object) -> Iterable[Key]:
        """The sets one of whose pods has a claim of this name."""
        number = identity.ordinal(claim)
        for stateful_set in self._sets.lister.list(objects.namespace(claim)):
            templates = identity.claim_templates(stateful_set)
            names = (identity.claim_name(stateful_set, template, number) for template in templates)
            if objects.name(claim) in names:
                yield objects.key(stateful_set)

    def _forget_failures(self, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or objects.uid(new) != objects.uid(old)):
            self._replacements.forget(objects.uid(old))

    async def reconcile(self, key: Key) -> Result | None:
        stateful_set = self._sets.lister.get(key)
        if stateful_set is None:
            return None
        if objects.is_deleting(stateful_set):
            await self._leave(stateful_set)
            return None
        revisions = await self._history.claim(stateful_set)
        members = await self._claims.claim(stateful_set)
        labels = objects.labels(objects.spec(stateful_set).get("template") or {})
        update, collisions = await self._history.settle(stateful_set, revisions, labels=labels)
        named = objects.status(stateful_set).get("currentRevision")
        current = next((each for each in revisions if objects.name(each) == named), update)
        now = self._clock.now()
        waits = self._waits(stateful_set, members, now)
        failure, deleted = await self._act(stateful_set, current, update, members, waits)
        revision_names = (objects.name(current), objects.name(update))
        desired = self._report(stateful_set, revision_names, members, collisions, deleted)
        await self._status.write(stateful_set, desired)
        await self._forget(stateful_set, revisions, [current, update], members)
        if failure is not None:
            raise failure
        soon = (set_status.next_available_s(stateful_set, members, now), *waits.values())
        return Result(min((each for each in soon if each), default=None))

    def _waits(self, stateful_set: Object, members: Sequence[Object], now: float) -> dict[str, float]:
        """For how long the failed pods are left, by their names."""
        failed = (objects.name(pod) for pod in members if pods.phase(pod) == "Failed")
        return self._replacements.waits(stateful_set, failed, now)

    async def _act(
        self,
        stateful_set: Object,
        current: Object,
        update: Object,
        members: Sequence[Object],
        waits: Mapping[str, float],
    ) -> tuple[errors.ApiError | None, list[Object]]:
        """Do what is planned: the error it ended with, if any, and the pods that were deleted."""
        old, new = (Revision(objects.name(each), history.template(each)) for each in (current, update))
        templates = identity.claim_templates(stateful_set)
        listed = self._volume_claims.lister.list(objects.namespace(stateful_set)) if templates else []
        claims = {objects.name(claim): claim for claim in listed}
        now = self._clock.now()
        actions = plan.plan(stateful_set, old, new, members, claims=claims, now=now, waits=waits)
        deleted = [action.pod for action in actions if isinstance(action, plan.Delete)]
        failed = [objects.name(pod) for pod in deleted if pods.phase(pod) == "Failed"]
        self._replacements.note(stateful_set, failed, now)
        try:
            return None, await self._pods.carry_out(stateful_set, actions)
        except errors.ApiError as error:
            return error, []

    async def _leave(self, stateful_set: Object) -> None:
        """A set that is being deleted makes nothing more; its pods are the garbage collector's."""
        status = objects.status(stateful_set)
        names = str(status.get("currentRevision") or ""), str(status.get("updateRevision") or "")
        collisions = int(status.get("collisionCount") or 0)
        members = self._claims.owned(stateful_set)
        await self._status.write(stateful_set, self._report(stateful_set, names, members, collisions))

    def _report(
        self,
        stateful_set: Object,
        revision_names: tuple[str, str],
        members: Sequence[Object],
        collisions: int | None,
        deleted: Sequence[Object] = (),
    ) -> Object:
        """The status; `revision_names` are those of the current and of the update revision."""
        replicas, condemned = plan.split(stateful_set, members)
        return set_status.status(
            stateful_set,
            *revision_names,
            [*replicas.values(), *condemned],
            collisions=collisions or 0,
            deleted={objects.uid(pod) for pod in deleted},
            now=self._clock.now(),
        )

    async def _forget(
        self,
        stateful_set: Object,
        revisions: Sequence[Object],
        kept: Sequence[Object],
        members: Sequence[Object],
    ) -> None:
        limit = objects.spec(stateful_set).get("revisionHistoryLimit")
        if limit is None or limit < 0:
            return
        in_use = {objects.name(each) for each in kept} | {identity.revision(pod) for pod in members}
        await self._history.truncate(revisions, in_use, int(limit))


def _is_leaving(old: Object | None, new: Object | None) -> bool:
    """A claim goes, is gone, or has other owners: a pod may have waited for it."""
    if old is None or new is None:
        return new is None
    owners = (list(objects.owner_references(each)) for each in (old, new))
    return objects.is_deleting(new) or next(owners) != next(owners)
