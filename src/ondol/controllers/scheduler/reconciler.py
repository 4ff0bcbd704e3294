"""Reconciles pods without a node: choose one and bind, or report why not and try again when that changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any, Final

from ondol.api import conditions, objects, pods, resizes, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.host_ports import HostPort
from ondol.client import ConnectionLost
from ondol.controllers.scheduler import filters, hosts, preemption
from ondol.controllers.scheduler.accounts import Accounts, priority
from ondol.controllers.scheduler.filters import Choice, Trial
from ondol.controllers.scheduler.hosts import Fleet
from ondol.controllers.scheduler.peers import Cluster, Namespaces
from ondol.controllers.scheduler.preemption import Plan
from ondol.controllers.scheduler.volume_binding import VolumeBinding
from ondol.controllers.scheduler.volumes import Needs
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

NAME: Final = "default-scheduler"
_SCHEDULED: Final = "PodScheduled"
_PREEMPTION: Final = "default-scheduler-preemption"
_PORT_RETRY_S: Final = 2.0
"""No watch tells that a program of the machine has given a port back."""


def add_to(manager: Manager, in_use: Callable[[], Collection[HostPort]] = frozenset) -> None:
    """`in_use` tells the ports of the machine on which others than pods listen."""
    manager.add(Reconciler(manager, in_use).controller)


class Reconciler:
    """Decisions are made between two awaits, on accounts that already hold the decisions before."""

    def __init__(self, manager: Manager, in_use: Callable[[], Collection[HostPort]]) -> None:
        self._manager = manager
        self._in_use = in_use
        self._client = manager.client
        self._accounts = Accounts()
        self._fleet = Fleet()
        self._start = 0
        self._volumes = VolumeBinding(manager)
        self._status = Writer(manager.client, resources.POD, field_manager=NAME, conditions=(_SCHEDULED,))
        self._targets = Writer(
            manager.client, resources.POD, field_manager=_PREEMPTION, conditions=(preemption.TARGET,)
        )
        self._waiting: dict[Key, int] = {}
        """Pods without a node, by their priority."""
        self._in_doubt: dict[Key, str] = {}
        """Pods that a request without an answer may have bound, and where."""
        self._pods = manager.informer(resources.POD)
        self._nodes = manager.informer(resources.NODE)
        self._namespaces = manager.informer(resources.NAMESPACE)
        self._budgets = manager.informer(resources.POD_DISRUPTION_BUDGET)
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)
        self.controller = Controller("scheduler", self.reconcile, concurrency=16)
        self.controller.watch(self._pods, predicate=_may_need_node)
        self.controller.watch(self._budgets, lambda _: ())
        self._volumes.watch(self.controller)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        self._accounts.observe(old, new)
        freed = old is not None and pods.node_name(old) and (new is None or pods.is_terminal(new))
        joined = new is not None and pods.node_name(new) and not (old and pods.node_name(old))
        if new is None and old is not None:
            self._settle(objects.key(old))
        shrunk = old is not None and new is not None and resizes.is_under_way(old) and pods.node_name(new)
        if freed or joined or shrunk:  # a newcomer may be the company an affinity asks for
            self._retry_waiting()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._fleet.remove(objects.name(old or {}))
        else:
            self._fleet.put(hosts.of(new))
        if old is None or new is None or _offer(old) != _offer(new):
            self._retry_waiting()

    def _settle(self, key: Key) -> None:
        """The pod waits no more: it has a node, or is gone."""
        self._waiting.pop(key, None)
        self._in_doubt.pop(key, None)
        self._accounts.withdraw(key)

    def _retry_waiting(self) -> None:
        for key in sorted(self._waiting, key=lambda key: -self._waiting[key]):
            self.controller.enqueue(key)

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.lister.get(key)
        if pod is None or not _is_ours(pod):
            self._settle(key)
            return None
        if objects.spec(pod).get("schedulingGates"):
            message = "Scheduling is blocked due to non-empty scheduling gates"
            await self._report(pod, "SchedulingGated", message)
            return None
        if self._accounts.has(pod):  # bound, though no watch shows it yet: nobody must give way to it
            if key in self._in_doubt:
                await self._bind(pod, self._in_doubt[key])
            return None
        self._remember(pod)
        needs = self._volumes.needs(pod)
        choice = self._choose(pod, needs)
        if not choice.node:
            return await self._refuse(pod, choice)
        if needs.delayed:
            node = self._nodes.lister.get(Key("", choice.node)) or {}
            await self._volumes.bind(needs.bindings(node) or (), choice.node)
            return None  # the claims tell when they are bound
        await self._bind(pod, choice.node)
        return None

    def _remember(self, pod: Object) -> None:
        """Keep the room that was made for the pod before this process began."""
        node = str(objects.status(pod).get("nominatedNodeName") or "")
        if node and not self._accounts.nominated(objects.key(pod)):
            self._accounts.nominate(pod, node)

    def _choose(self, pod: Object, needs: Needs) -> Choice:
        """A node for the pod; the next one is looked for from where this search ended."""
        choice = filters.choose(
            pod, self._fleet, self._accounts, self._labels(), self._in_use, volumes=needs, start=self._start
        )
        self._start = (self._start + choice.examined) % max(1, len(self._fleet.hosts))
        return choice

    def _labels(self) -> Namespaces:
        return Namespaces(
            {objects.name(each): objects.labels(each) for each in self._namespaces.lister.list()}
        )

    async def _bind(self, pod: Object, node: str) -> None:
        name, namespace = objects.name(pod), objects.namespace(pod)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": objects.uid(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._accounts.assume(pod, node)
        try:
            await self._client.create(resources.POD, binding, namespace, subresource="binding", name=name)
        except (ConnectionLost, errors.Timeout):
            self._in_doubt[objects.key(pod)] = node  # it may be bound: its room is nobody else's meanwhile
            raise
        except errors.ApiError as error:
            self._not_bound(pod, error)
            if isinstance(error, errors.NotFound | errors.Conflict):
                return  # gone, or bound by somebody else: the watch tells
            raise
        self._settle(objects.key(pod))
        message = f"Successfully assigned {namespace}/{name} to {node}"
        self._manager.recorder.event(pod, "Normal", "Scheduled", message, component=NAME)

    def _not_bound(self, pod: Object, error: errors.ApiError) -> None:
        """The pod has no room, unless a watch shows it, or an earlier request seems to have bound it."""
        key = objects.key(pod)
        was_in_doubt = self._in_doubt.pop(key, None) is not None
        if was_in_doubt and isinstance(error, errors.Conflict):
            return
        current = self._pods.lister.get(key)
        is_same = current is not None and objects.uid(current) == objects.uid(pod)
        if not (is_same and pods.node_name(current or {})):
            self._accounts.forget(pod)

    async def _refuse(self, pod: Object, choice: Choice) -> Result | None:
        """Say why there is no node; make room for the pod by sending lower ones away, if that is possible."""
        self._waiting[objects.key(pod)] = priority(pod)
        plan = self._plan(pod, choice)
        reason = f"{choice.reason} preemption: {plan.reason}" if plan.reason else choice.reason
        if await self._report(pod, "Unschedulable", reason, nominated=plan.node):
            self._manager.recorder.event(pod, "Warning", "FailedScheduling", reason, component=NAME)
        if plan.node:
            await self._preempt(pod, plan)
        return Result(requeue_after_s=_PORT_RETRY_S) if filters.NO_PORT in choice.reason else None

    def _plan(self, pod: Object, choice: Choice) -> Plan:
        """What preemption would do; room is kept on its node at once, before anything is awaited."""
        if not choice.refusals:
            return Plan()
        trial = Trial(pod, Cluster(self._fleet, self._accounts, self._labels()), self._in_use)
        plan = preemption.plan(trial, choice, self._budgets.lister.list())
        if plan.node:
            self._accounts.nominate(pod, plan.node)
        return plan

    async def _preempt(self, pod: Object, plan: Plan) -> None:
        for victim in plan.victims:
            message = f"{NAME}: preempting to accommodate a higher priority pod"
            listed = conditions.set(
                conditions.of(victim),
                preemption.TARGET,
                "True",
                reason=preemption.BY_SCHEDULER,
                message=message,
                now=self._manager.clock.now(),
            )
            text = f"Preempted by pod {objects.uid(pod)} on node {plan.node}"
            with contextlib.suppress(errors.NotFound):
                await self._targets.write(victim, {"conditions": listed})
                self._manager.recorder.event(victim, "Normal", "Preempted", text, component=NAME)
                await self._client.delete(
                    resources.POD,
                    objects.name(victim),
                    objects.namespace(victim),
                    uid=objects.uid(victim),
                )

    async def _report(self, pod: Object, reason: str, message: str, *, nominated: str = "") -> bool:
        """Write the PodScheduled condition unless it is so already; whether it was written."""
        current = conditions.get(pod, _SCHEDULED) or {}
        node = nominated or self._accounts.nominated(objects.key(pod))
        is_reported = (current.get("reason"), current.get("message")) == (reason, message)
        if is_reported and node == str(objects.status(pod).get("nominatedNodeName") or ""):
            return False
        listed = conditions.set(
            conditions.of(pod),
            _SCHEDULED,
            "False",
            reason=reason,
            message=message,
            now=self._manager.clock.now(),
        )
        desired = {"conditions": listed, "nominatedNodeName": node or None}
        return await self._status.write(pod, desired) is not None


def _is_ours(pod: Object) -> bool:
    spec = objects.spec(pod)
    ours = (spec.get("schedulerName") or NAME) == NAME
    return ours and not spec.get("nodeName") and pods.is_active(pod)


def _may_need_node(old: Object | None, new: Object | None) -> bool:
    """New, or its spec changed (gates lifted, say): not for a mere word in its status."""
    if new is None:
        return False
    return _is_ours(new) and (old is None or objects.spec(old) != objects.spec(new))


def _offer(node: Object) -> tuple[Any, ...]:
    """All of a node that a decision looks at."""
    status = objects.status(node)
    return (
        dict(objects.labels(node)),
        objects.spec(node),
        conditions.is_true(node, "Ready"),
        status.get("allocatable"),
        status.get("capacity"),
    )
