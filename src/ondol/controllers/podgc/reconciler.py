"""Reconciles pods that the node agent cannot remove, because there is none for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ondol.api import objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.sdk import Controller, Manager, Result, children

# A node that registers anew within this time keeps its pods.
QUARANTINE_S: Final = 40.0
TERMINATED_MAX: Final = 12_500
_TERMINATED: Final = "terminated"


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._pods = manager.informer(resources.POD)
        self._pods.add_index(pods.BY_NODE, pods.by_node)
        self._pods.add_index(_TERMINATED, _by_termination)
        self._nodes = manager.informer(resources.NODE)
        self._lost: dict[str, float] = {}

    def controller(self) -> Controller:
        controller = Controller("pod-garbage-collector", self.reconcile, concurrency=2)
        controller.watch(self._pods, predicate=_may_matter)
        controller.watch(self._nodes, self._pods_of, predicate=lambda old, new: old is None or new is None)
        return controller

    def _pods_of(self, node: Object) -> Iterable[Key]:
        bound = self._pods.lister.by_index(pods.BY_NODE, objects.name(node))
        return [objects.key(pod) for pod in bound]

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.lister.get(key)
        if pod is None:
            return None
        node = pods.node_name(pod)
        if not node:
            if objects.is_deleting(pod):
                await self._remove(pod)
            return None
        if pods.is_terminal(pod):
            await self._remove_oldest_terminated()
        return await self._check_node(pod, node)

    async def _check_node(self, pod: Object, node: str) -> Result | None:
        """Give a missing node time to come back; then its pods go."""
        if self._nodes.lister.get(Key("", node)) is not None:
            self._lost.pop(node, None)
            return None
        since = self._lost.setdefault(node, self._clock.monotonic())
        left_s = since + QUARANTINE_S - self._clock.monotonic()
        if left_s > 0:
            return Result(left_s)
        try:
            await self._client.get(resources.NODE, node)
        except errors.NotFound:
            await self._remove(pod)
        return None

    async def _remove_oldest_terminated(self) -> None:
        ended = self._pods.lister.by_index(_TERMINATED, "")
        for pod in sorted(ended, key=pods.created_at)[: max(0, len(ended) - TERMINATED_MAX)]:
            await self._remove(pod)

    async def _remove(self, pod: Object) -> None:
        await children.delete(self._client, resources.POD, pod, grace_period_s=0)


def _by_termination(pod: Object) -> Iterable[str]:
    return ("",) if pods.is_terminal(pod) and not objects.is_deleting(pod) else ()


def _may_matter(old: Object | None, new: Object | None) -> bool:
    """Bound, ended or being deleted now, and not before."""
    if new is None:
        return False
    return old is None or _state(old) != _state(new)


def _state(pod: Object) -> tuple[str, bool, bool]:
    return pods.node_name(pod), pods.is_terminal(pod), objects.is_deleting(pod)
