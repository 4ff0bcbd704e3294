"""Reconciles PodDisruptionBudgets with their pods, and takes back evictions that came to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects, pods, resources
from ondol.api.disruption import covers
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.controllers.disruption import budgets
from ondol.sdk import Controller, Informer, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "disruption-controller"
_SCALED: Final = (
    resources.REPLICA_SET,
    resources.DEPLOYMENT,
    resources.REPLICATION_CONTROLLER,
    resources.STATEFUL_SET,
)
"""Kinds whose scale is read from the cache; that of any other is asked for."""
_UNMANAGED: Final = (
    "Pods selected by this PodDisruptionBudget were found to be unmanaged: {}. As a result, the status of "
    'the PDB cannot be calculated correctly. To account for these pods please set ".spec.minAvailable" '
    "field of the PDB to an integer value."
)


class _CannotCount(Exception):
    """Why the pods that there should be are not known."""


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())
    manager.add(Spared(manager).controller())


class Reconciler:
    """A budget's status is written on the version that was counted for: evictions count it down meanwhile."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._recorder = manager.recorder
        self._budgets = manager.informer(resources.POD_DISRUPTION_BUDGET)
        self._pods = manager.informer(resources.POD)
        self._scaled: dict[tuple[str, str], Informer] = {
            (each.group, each.kind): manager.informer(each) for each in _SCALED
        }
        self._status = Writer(
            manager.client,
            resources.POD_DISRUPTION_BUDGET,
            field_manager=COMPONENT,
            conditions=(budgets.ALLOWED,),
        )

    def controller(self) -> Controller:
        controller = Controller("disruption", self.reconcile, concurrency=2)
        controller.watch(self._budgets)
        controller.watch(self._pods, self._budgets_of)
        return controller

    def _budgets_of(self, pod: Object) -> Iterable[Key]:
        near = self._budgets.lister.list(objects.namespace(pod))
        return [objects.key(budget) for budget in near if covers(budget, pod)]

    async def reconcile(self, key: Key) -> Result | None:
        budget = self._budgets.lister.get(key)
        if budget is None:
            return None
        now = self._clock.now()
        selected = [pod for pod in self._pods.lister.list(key.namespace) if covers(budget, pod)]
        if not selected:
            self._tell(budget, "NoPods", "No matching pods found", is_warning=False)
        try:
            expected = await self._expected(budget, selected)
        except (_CannotCount, errors.ApiError) as error:
            message = str(error)
            self._tell(
                budget,
                "CalculateExpectedPodCountFailed",
                f"Failed to calculate the number of expected pods: {message}",
            )
            await self._status.write_onto(budget, budgets.failed(budget, message, now))
            return None
        awaited, staying = budgets.disrupted(budget, selected, now)
        for pod in selected:
            if objects.name(pod) in staying:
                text = f"Pod was expected by PDB {key.namespace}/{key.name} to be deleted but it wasn't"
                self._tell(pod, "NotDeleted", text)
        current = budgets.healthy(selected, awaited)
        desired = budgets.status(budget, expected=expected, current=current, awaited=awaited, now=now)
        await self._status.write_onto(budget, desired)
        ends = [(pods.moment(at) or now) + budgets.CONFIRMED_S for at in awaited.values()]
        return Result(max(0.1, min(ends) - now)) if ends else None

    async def _expected(self, budget: Object, selected: list[Object]) -> int:
        """How many pods there should be: the sum of the scales of all that made them."""
        if not budgets.counts_scales(budget):
            return len(selected)
        scales: dict[str, int] = {}
        unmanaged: list[str] = []
        for pod in selected:
            owner = objects.controller_of(pod)
            if owner is None:
                unmanaged.append(objects.name(pod))
            elif owner["uid"] not in scales:
                uid, scale = await self._scale(pod, owner)
                scales[owner["uid"]] = 0  # of a Deployment's several sets, it alone is counted, once
                scales[uid] = scale
        if unmanaged:
            self._tell(budget, "UnmanagedPods", _UNMANAGED.format(", ".join(sorted(unmanaged)[:10])))
        return sum(scales.values())

    async def _scale(self, pod: Object, owner: Mapping[str, Any]) -> tuple[str, int]:
        """The uid and the scale of what stands at the top: of a set's Deployment, if it has one."""
        namespace = objects.namespace(pod)
        informer = self._scaled.get((str(owner["apiVersion"]).rpartition("/")[0], str(owner["kind"])))
        if informer is not None:
            live = informer.lister.get(Key(namespace, str(owner["name"])))
            if live is None or objects.uid(live) != owner["uid"]:
                raise _CannotCount(f'found no controllers for pod "{objects.name(pod)}"')
            above = objects.controller_of(live)
            if above is not None and above["kind"] == resources.DEPLOYMENT.kind:
                return await self._scale(pod, above)
            replicas = objects.spec(live).get("replicas")
            return objects.uid(live), 1 if replicas is None else int(replicas)
        resource = await self._client.resource_for(str(owner["apiVersion"]), str(owner["kind"]))
        return await self._asked(pod, resource, owner)

    async def _asked(self, pod: Object, resource: Resource, owner: Mapping[str, Any]) -> tuple[str, int]:
        try:
            scale = await self._client.get(
                resource, str(owner["name"]), objects.namespace(pod), subresource="scale"
            )
        except errors.NotFound as error:
            named = f'found no controllers for pod "{objects.name(pod)}"'
            why = f"{resource.group_resource} does not implement the scale subresource, or is gone"
            raise _CannotCount(f"{named}: {why}") from error
        if objects.uid(scale) != owner["uid"]:
            raise _CannotCount(f'found no controllers for pod "{objects.name(pod)}"')
        return objects.uid(scale), int(objects.spec(scale).get("replicas") or 0)

    def _tell(self, obj: Object, reason: str, message: str, *, is_warning: bool = True) -> None:
        type_: Any = "Warning" if is_warning else "Normal"
        self._recorder.event(obj, type_, reason, message, component=COMPONENT)


class Spared:
    """Pods that were to be disrupted and were not: the condition that says so is False after a while."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._pods = manager.informer(resources.POD)
        self._status = Writer(
            manager.client, resources.POD, field_manager=COMPONENT, conditions=(budgets.TARGET,)
        )

    def controller(self) -> Controller:
        controller = Controller("stale-disruption", self.reconcile)
        controller.watch(self._pods, predicate=_is_target)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.lister.get(key)
        if pod is None or not _is_target(None, pod):
            return None
        now = self._clock.now()
        condition = conditions.get(pod, budgets.TARGET) or {}
        wait_s = (pods.moment(condition.get("lastTransitionTime")) or 0.0) + budgets.CONFIRMED_S - now
        if wait_s > 0:
            return Result(wait_s)
        listed = conditions.set(conditions.of(pod), budgets.TARGET, "False", now=now)
        await self._status.write_onto(pod, {"conditions": listed})
        return None


def _is_target(_: Object | None, pod: Object | None) -> bool:
    if pod is None or objects.is_deleting(pod) or pods.is_terminal(pod):
        return False
    return conditions.is_true(pod, budgets.TARGET)
