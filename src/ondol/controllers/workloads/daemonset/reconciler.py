"""Reconciles DaemonSets: settle the revision, keep a pod on each node, roll, report, forget old revisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ondol.api import labels, objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.workloads import history
from ondol.controllers.workloads.daemonset import daemon_pods, daemon_status, placement
from ondol.controllers.workloads.daemonset import plan as planning
from ondol.controllers.workloads.daemonset.naming import Naming
from ondol.controllers.workloads.daemonset.plan import Plan, View
from ondol.controllers.workloads.podcontrol import PodControl
from ondol.controllers.workloads.replacements import Replacements
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "daemonset-controller"
_BURST: Final = 250


def add_to(manager: Manager) -> None:
    """Add the controller to a manager that does not run yet."""
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """Follows Kubernetes' `pkg/controller/daemon`; what is decided stands in the modules beside this one."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._recorder = manager.recorder
        self._sets = manager.informer(resources.DAEMON_SET)
        self._nodes = manager.informer(resources.NODE)
        self._pods = PodControl(manager, self._sets, component=COMPONENT)
        self._history = history.History(manager, self._sets, hash_label=history.REVISION_LABEL)
        self._naming = Naming(self._pods.pods, manager.rng)
        self._replacements = Replacements()
        self._sets.add_handler(self._forget)
        self._status = Writer(
            manager.client, resources.DAEMON_SET, field_manager=COMPONENT, fields=daemon_status.FIELDS
        )

    def controller(self) -> Controller:
        controller = Controller("daemonset", self.reconcile, concurrency=2)
        controller.watch(self._sets)
        self._pods.watch(controller)
        controller.watch(self._nodes, self._all, predicate=placement.affects)
        controller.informers.append(self._history.informer)
        return controller

    def _all(self, _node: Object) -> Iterable[Key]:
        return [objects.key(daemon_set) for daemon_set in self._sets.lister.list()]

    def _forget(self, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or objects.uid(new) != objects.uid(old)):
            self._replacements.forget(objects.uid(old))
            self._naming.forget(objects.uid(old))

    async def reconcile(self, key: Key) -> Result | None:
        daemon_set = self._sets.lister.get(key)
        if daemon_set is None or objects.is_deleting(daemon_set):
            return None  # its pods and revisions are the garbage collector's
        if labels.from_document(objects.spec(daemon_set).get("selector")).is_everything:
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self._event(daemon_set, "SelectingAll", text, is_warning=True)
            return None
        template = objects.spec(daemon_set).get("template") or {}
        revisions = await self._history.claim(daemon_set)
        claimed = await self._pods.claim(daemon_set)
        update, collisions = await self._history.settle(
            daemon_set, revisions, labels=objects.labels(template)
        )
        hashed = objects.labels(update).get(history.REVISION_LABEL) or objects.name(update)
        view = planning.view(daemon_set, hashed, self._nodes.lister.list(), claimed, self._clock.now())
        failure, wait_s = await self._act(view)
        await self._status.write(daemon_set, daemon_status.status(view, collisions=collisions))
        if failure is not None:
            raise failure
        await self._truncate(daemon_set, revisions, update, claimed)
        waits = (wait_s, daemon_status.next_available_s(view))
        return Result(min((each for each in waits if each), default=None))

    async def _act(self, view: View) -> tuple[errors.ApiError | None, float | None]:
        """Keep or roll: the error it ended with, if any, and when to look again at failed pods."""
        self._naming.settle(objects.uid(view.daemon_set))
        plan = planning.keep(view, self._replacements.waits(view.daemon_set, view.pods, view.now))
        try:
            await self._carry_out(view, plan or planning.roll(view))
        except errors.ApiError as error:
            return error, plan.wait_s
        return None, plan.wait_s

    async def _carry_out(self, view: View, plan: Plan) -> None:
        daemon_set = view.daemon_set
        for node, pod in plan.ended:
            self._tell_end(daemon_set, node, pod)
        failed = [node for node, pod in plan.ended if pods.phase(pod) == "Failed"]
        self._replacements.note(daemon_set, failed, view.now)
        documents = [
            daemon_pods.pod(
                daemon_set, view.hashed, node, name=self._naming.name(daemon_set, node, view.hashed)
            )
            for node in plan.nodes[:_BURST]
        ]
        try:
            await self._pods.create(daemon_set, documents)
        finally:
            await self._pods.delete(daemon_set, plan.deleted[:_BURST])

    def _tell_end(self, daemon_set: Object, node: str, pod: Object) -> None:
        name = f"{objects.namespace(pod)}/{objects.name(pod)}"
        if pods.phase(pod) == "Failed":
            text = f"Found failed daemon pod {name} on node {node}, will try to kill it"
            self._event(daemon_set, "FailedDaemonPod", text, is_warning=True)
        else:
            text = f"Found succeeded daemon pod {name} on node {node}, will try to delete it"
            self._event(daemon_set, "SucceededDaemonPod", text)

    async def _truncate(
        self, daemon_set: Object, revisions: Sequence[Object], update: Object, claimed: Sequence[Object]
    ) -> None:
        """Old revisions beyond the limit go, which those that pods are of count against."""
        limit = int(objects.spec(daemon_set).get("revisionHistoryLimit") or 0)
        hashes = {objects.labels(pod).get(history.REVISION_LABEL) for pod in claimed}
        in_use = {
            objects.name(each)
            for each in revisions
            if objects.labels(each).get(history.REVISION_LABEL) in hashes
        }
        old = in_use - {objects.name(update)}
        await self._history.truncate(revisions, in_use | {objects.name(update)}, max(0, limit - len(old)))

    def _event(self, daemon_set: Object, reason: str, text: str, *, is_warning: bool = False) -> None:
        kind: Final = "Warning" if is_warning else "Normal"
        self._recorder.event(daemon_set, kind, reason, text, component=COMPONENT)
