"""Reconciles nodes: a silent one becomes Unknown, conditions become taints, taints send pods away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.node import taints
from ondol.sdk import Controller, Manager, Result, children
from ondol.sdk.status import Writer

COMPONENT: Final = "node-controller"
LEASES: Final = "kube-node-lease"
# Nodes renew their lease every ten seconds; four may be lost.
GRACE_S: Final = 50.0


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """Silence is measured by our own clock, from when a heartbeat was last seen to change.

    So neither a clock that is wrong nor a control plane that was down makes a node look dead.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._client = manager.client
        self._clock = manager.clock
        self._nodes = manager.informer(resources.NODE)
        self._leases = manager.informer(resources.LEASE, namespace=LEASES)
        self._pods = manager.informer(resources.POD)
        self._pods.add_index(pods.BY_NODE, pods.by_node)
        self._node_status = Writer(
            self._client, resources.NODE, field_manager=COMPONENT, conditions=taints.REPORTED
        )
        self._pod_status = Writer(self._client, resources.POD, field_manager=COMPONENT, conditions=("Ready",))
        self._heartbeats: dict[str, tuple[str, float]] = {}
        self._tainted_since: dict[str, dict[str, float]] = {}
        """By node and uid, since when each pod has been seen to bear its node's taints."""

    def controller(self) -> Controller:
        controller = Controller("node-lifecycle", self.reconcile, concurrency=2)
        controller.watch(self._nodes)
        controller.watch(self._leases, lambda lease: [Key("", objects.name(lease))])
        controller.watch(self._pods, self._tainted, predicate=_bound_now)
        return controller

    def _tainted(self, pod: Object) -> Iterable[Key]:
        """The pod's node, if its taints may send the pod away."""
        node = self._nodes.lister.get(Key("", pods.node_name(pod)))
        return [objects.key(node)] if node and objects.spec(node).get("taints") else ()

    async def reconcile(self, key: Key) -> Result | None:
        node = self._nodes.lister.get(key)
        if node is None:
            self._heartbeats.pop(key.name, None)
            self._tainted_since.pop(key.name, None)
            return None
        now = self._clock.now()
        silent_in_s = self._silent_in_s(node)
        listed: list[Object] = [dict(condition) for condition in conditions.of(node)]
        if silent_in_s <= 0:
            listed = taints.unknown_conditions(node, now)
            if await self._node_status.write(node, {"conditions": listed}):
                await self._mark_pods_unready(node)
                self._event(node, "NodeNotReady", f"Node {key.name} status is now: NodeNotReady")
        desired = taints.taints(node, listed, now)
        await self._write_taints(node, desired)
        leaving_in_s = await self._evict(node, desired)
        due = [each for each in (silent_in_s, leaving_in_s) if each is not None and each > 0]
        return Result(min(due)) if due else None

    def _silent_in_s(self, node: Object) -> float:
        """Seconds until the node counts as silent; not positive once it does."""
        name = objects.name(node)
        lease = self._leases.lister.get(Key(LEASES, name))
        ready = conditions.get(node, "Ready") or {}
        beat = f"{objects.spec(lease or {}).get('renewTime')} {ready.get('lastHeartbeatTime')}"
        last = self._heartbeats.get(name)
        if last is None or last[0] != beat:
            last = self._heartbeats[name] = (beat, self._clock.monotonic())
        return last[1] + GRACE_S - self._clock.monotonic()

    async def _write_taints(self, node: Object, desired: list[Object]) -> None:
        if desired == (objects.spec(node).get("taints") or []):
            return
        metadata = {"uid": objects.uid(node), "resourceVersion": objects.resource_version(node)}
        try:
            patch = {"metadata": metadata, "spec": {"taints": desired or None}}
            await self._client.patch(resources.NODE, objects.name(node), patch=patch)
        except errors.Conflict:
            # Our own status write, or the agent's, came between: the watch brings the next try.
            return

    async def _mark_pods_unready(self, node: Object) -> None:
        """Nobody can say that pods of a silent node are ready, so no traffic should go there."""
        now = self._clock.now()
        for pod in self._pods.lister.by_index(pods.BY_NODE, objects.name(node)):
            if not pods.is_ready(pod):
                continue
            listed = conditions.set(conditions.of(pod), "Ready", "False", reason="NodeNotReady", now=now)
            await self._pod_status.write(pod, {"conditions": listed})

    async def _evict(self, node: Object, node_taints: list[Object]) -> float | None:
        """Delete the pods whose time is up; seconds until the next one's is."""
        before = self._tainted_since.pop(objects.name(node), {})
        if not any(taint.get("effect") == "NoExecute" for taint in node_taints):
            return None
        now = self._clock.monotonic()
        bearing = self._tainted_since[objects.name(node)] = {}
        waits: list[float] = []
        for pod in self._pods.lister.by_index(pods.BY_NODE, objects.name(node)):
            limit_s = taints.tolerated_s(pod, node_taints)
            if limit_s is None or not pods.is_active(pod):
                continue
            uid = objects.uid(pod)
            # A pod that was bound to the node later has its time from then on, not from the taint's.
            bearing[uid] = before.get(uid, now)
            wait_s = bearing[uid] + limit_s - now
            if wait_s > 0:
                waits.append(wait_s)
            else:
                await self._remove(pod)
        return min(waits, default=None)

    async def _remove(self, pod: Object) -> None:
        if await children.delete(self._client, resources.POD, pod):
            message = f"Marking for deletion Pod {objects.namespace(pod)}/{objects.name(pod)}"
            recorder = self._manager.recorder
            recorder.event(pod, "Normal", "TaintManagerEviction", message, component=COMPONENT)

    def _event(self, node: Object, reason: str, message: str) -> None:
        self._manager.recorder.event(node, "Normal", reason, message, component=COMPONENT)


def _bound_now(old: Object | None, new: Object | None) -> bool:
    return new is not None and bool(pods.node_name(new)) and not (old and pods.node_name(old))
