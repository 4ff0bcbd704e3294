"""Reconciles pods without a node: choose one and bind, or report why not and try again when that changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.host_ports import HostPort
from ondol.controllers.scheduler import filters
from ondol.controllers.scheduler.accounts import Accounts
from ondol.controllers.scheduler.volume_binding import VolumeBinding
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

NAME: Final = "default-scheduler"
_SCHEDULED: Final = "PodScheduled"
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
        self._status = Writer(manager.client, resources.POD, field_manager=NAME, conditions=(_SCHEDULED,))
        self._waiting: set[Key] = set()
        self._volumes = VolumeBinding(manager)
        self._pods = manager.informer(resources.POD)
        self._nodes = manager.informer(resources.NODE)
        self._namespaces = manager.informer(resources.NAMESPACE)
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)
        self.controller = Controller("scheduler", self.reconcile, concurrency=16)
        self.controller.watch(self._pods, predicate=_may_need_node)
        self._volumes.watch(self.controller)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        self._accounts.observe(old, new)
        freed = old is not None and pods.node_name(old) and (new is None or pods.is_terminal(new))
        joined = new is not None and pods.node_name(new) and not (old and pods.node_name(old))
        if new is None and old is not None:
            self._waiting.discard(objects.key(old))
        if freed or joined:  # a newcomer may be the company an affinity asks for
            self._retry_waiting()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _offer(old) != _offer(new):
            self._retry_waiting()

    def _retry_waiting(self) -> None:
        for key in self._waiting:
            self.controller.enqueue(key)

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.lister.get(key)
        if pod is None or not _is_ours(pod):
            self._waiting.discard(key)
            return None
        if objects.spec(pod).get("schedulingGates"):
            message = "Scheduling is blocked due to non-empty scheduling gates"
            await self._report(pod, "SchedulingGated", message)
            return None
        labels = {objects.name(each): objects.labels(each) for each in self._namespaces.lister.list()}
        needs = self._volumes.needs(pod)
        nodes = self._nodes.lister.list()
        choice = filters.choose(
            pod, nodes, self._accounts, filters.Namespaces(labels), self._in_use, volumes=needs
        )
        if not choice.node:
            await self._refuse(pod, choice.reason)
            return Result(requeue_after_s=_PORT_RETRY_S) if filters.NO_PORT in choice.reason else None
        if needs.delayed:
            node = next(each for each in nodes if objects.name(each) == choice.node)
            await self._volumes.bind(needs.bindings(node) or (), choice.node)
            return None  # the claims tell when they are bound
        await self._bind(pod, choice.node)
        return None

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
        except errors.ApiError as error:
            current = self._pods.lister.get(objects.key(pod))
            is_same = current is not None and objects.uid(current) == objects.uid(pod)
            if not (is_same and pods.node_name(current or {})):
                self._accounts.forget(pod)
            if isinstance(error, errors.NotFound | errors.Conflict):
                return  # gone, or bound by somebody else: the watch tells
            raise
        self._waiting.discard(objects.key(pod))
        message = f"Successfully assigned {namespace}/{name} to {node}"
        self._manager.recorder.event(pod, "Normal", "Scheduled", message, component=NAME)

    async def _refuse(self, pod: Object, reason: str) -> None:
        self._waiting.add(objects.key(pod))
        if await self._report(pod, "Unschedulable", reason):
            self._manager.recorder.event(pod, "Warning", "FailedScheduling", reason, component=NAME)

    async def _report(self, pod: Object, reason: str, message: str) -> bool:
        """Write the PodScheduled condition unless it is so already; whether it was written."""
        current = conditions.get(pod, _SCHEDULED) or {}
        if (current.get("reason"), current.get("message")) == (reason, message):
            return False
        listed = conditions.set(
            conditions.of(pod),
            _SCHEDULED,
            "False",
            reason=reason,
            message=message,
            now=self._manager.clock.now(),
        )
        return await self._status.write(pod, {"conditions": listed}) is not None


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
