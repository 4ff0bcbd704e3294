"""Reconciles one node of the ownership graph: deletes it, frees it, or lets its deletion go on.

The server marks what is deleted in the foreground or with orphaning by a finalizer; the collector
does what the mark asks for and takes it off. Before it deletes anything it asks the server itself
whether the owners are really gone: a stale view must never cost an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.garbage.graph import FOREGROUND, ORPHAN, Node
from ondol.controllers.garbage.trackers import Trackers
from ondol.sdk import Controller, Manager, Result

COMPONENT: Final = "garbage-collector-controller"
_ABSENT_MAX: Final = 10_000


def add_to(manager: Manager, catalogue: Catalogue) -> None:
    reconciler = Reconciler(manager, catalogue)
    manager.add(reconciler.controller)
    manager.add_runnable(reconciler.trackers.run, "garbage trackers")


@dataclass(slots=True)
class _Owners:
    """The owner references of one object, sorted by what became of the owner."""

    solid: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


class _Unknown(errors.OndolError):
    """An owner of a kind that is not served: whether it exists cannot be determined."""


class Reconciler:
    """Keys are uids (without namespace): a name alone could mean another object by now."""

    def __init__(self, manager: Manager, catalogue: Catalogue) -> None:
        self._manager = manager
        self._client = manager.client
        self._catalogue = catalogue
        self.controller = Controller("garbage-collector", self.reconcile, concurrency=8)
        self.trackers = Trackers(manager, catalogue, self._enqueue)
        self._absent: set[str] = set()
        self._unresolved: set[str] = set()
        catalogue.on_change(self._retry_unresolved)

    def _enqueue(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.controller.enqueue(Key("", uid))

    def _retry_unresolved(self) -> None:
        unresolved, self._unresolved = self._unresolved, set()
        self._enqueue(unresolved)

    async def reconcile(self, key: Key) -> Result | None:
        await self.trackers.wait_synced()
        node = self.trackers.graph.nodes.get(key.name)
        if node is None:
            return None
        if node.orphans_dependents:
            await self._orphan_dependents(node)
        elif node.waits_for_dependents:
            await self._wait_for_dependents(node)
        elif not node.deleting and node.owners:
            await self._check_owners(node)
        return None

    async def _orphan_dependents(self, node: Node) -> None:
        for dependent in self.trackers.graph.dependents(node.uid):
            await self._drop_references(dependent, {node.uid})
        await self._remove_finalizer(node, ORPHAN)

    async def _wait_for_dependents(self, node: Node) -> None:
        blocking = [each for each in self.trackers.graph.dependents(node.uid) if node.is_blocked_by(each)]
        if not blocking:
            await self._remove_finalizer(node, FOREGROUND)
        else:
            self._enqueue(each.uid for each in blocking if not each.deleting)

    async def _check_owners(self, node: Node) -> None:
        """Delete the object if nobody owns it any more; else drop the references that lead nowhere."""
        if all(self._is_solid(node, reference) for reference in node.owners):
            return
        live = await self._live(node)
        if live is None or objects.is_deleting(live):
            return
        try:
            owners = await self._sorted(node, list(objects.owner_references(live)))
        except _Unknown:
            self._unresolved.add(node.uid)
            return
        if owners.solid:
            if owners.dangling or owners.waiting:
                await self._drop_references(node, {*owners.dangling, *owners.waiting})
        elif owners.waiting and any(True for _ in self.trackers.graph.dependents(node.uid)):
            await self._unblock_circle(node, live)
            await self._delete(node, "Foreground")
        elif owners.waiting or owners.dangling:
            await self._delete(node, _policy(objects.finalizers(live)), objects.resource_version(live))

    def _is_solid(self, node: Node, reference: Mapping[str, Any]) -> bool:
        """Whether the graph alone shows that this owner is there to stay; spares the server the question."""
        owner = self.trackers.graph.nodes.get(str(reference.get("uid")))
        return (
            owner is not None
            and owner.key.namespace in ("", node.key.namespace)
            and not (owner.waits_for_dependents and owner.is_blocked_by(node))
        )

    async def _sorted(self, node: Node, references: Iterable[Mapping[str, Any]]) -> _Owners:
        sorted_owners = _Owners()
        for reference in references:
            uid = str(reference.get("uid"))
            owner = self.trackers.graph.nodes.get(uid)
            if owner is not None and owner.key.namespace not in ("", node.key.namespace):
                self._warn_of_namespace(node, reference)
                sorted_owners.dangling.append(uid)
            elif owner is not None:
                waiting = owner.waits_for_dependents and owner.is_blocked_by(node)
                (sorted_owners.waiting if waiting else sorted_owners.solid).append(uid)
            elif await self._exists(node, reference):
                sorted_owners.solid.append(uid)
            else:
                sorted_owners.dangling.append(uid)
        return sorted_owners

    async def _exists(self, node: Node, reference: Mapping[str, Any]) -> bool:
        """Ask the server for an owner that no watch has shown."""
        uid = str(reference.get("uid"))
        if uid in self._absent:
            return False
        api_version, kind = str(reference.get("apiVersion")), str(reference.get("kind"))
        resource = self._catalogue.find(api_version, kind)
        if resource is None:
            raise _Unknown(f"no kind {kind} is served in {api_version}")
        if resource.namespaced and not node.key.namespace:
            self._warn_of_namespace(node, reference)
            raise _Unknown("a cluster-scoped object cannot be owned by a namespaced one")
        namespace = node.key.namespace if resource.namespaced else ""
        try:
            live = await self._client.get(resource, str(reference.get("name")), namespace)
        except errors.NotFound:
            live = {}
        if objects.uid(live) == uid:
            return True
        if len(self._absent) >= _ABSENT_MAX:
            self._absent.clear()
        self._absent.add(uid)  # a uid never comes back
        return False

    def _warn_of_namespace(self, node: Node, reference: Mapping[str, Any]) -> None:
        involved = {
            "apiVersion": node.resource.api_version,
            "kind": node.resource.kind,
            "metadata": {"name": node.key.name, "namespace": node.key.namespace, "uid": node.uid},
        }
        owner = f"{reference.get('apiVersion')}/{reference.get('kind')}, name: {reference.get('name')}"
        message = (
            f"ownerRef [{owner}, uid: {reference.get('uid')}] does not exist in namespace "
            f'"{node.key.namespace}"'
        )
        self._manager.recorder.event(
            involved, "Warning", "OwnerRefInvalidNamespace", message, component=COMPONENT
        )

    async def _unblock_circle(self, node: Node, live: Object) -> None:
        """Where a dependent is being deleted in the foreground too, owners would wait for each other."""
        if not any(each.waits_for_dependents for each in self.trackers.graph.dependents(node.uid)):
            return
        freed = [{**ref, "blockOwnerDeletion": False} for ref in objects.owner_references(live)]
        await self._patch(node, live, {"ownerReferences": freed})

    async def _drop_references(self, node: Node, uids: set[str]) -> None:
        live = await self._live(node)
        if live is None:
            return
        remaining = [ref for ref in objects.owner_references(live) if ref.get("uid") not in uids]
        await self._patch(node, live, {"ownerReferences": remaining})

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        live = await self._live(node)
        if live is None or finalizer not in objects.finalizers(live):
            return
        remaining = [each for each in objects.finalizers(live) if each != finalizer]
        await self._patch(node, live, {"finalizers": remaining})

    async def _live(self, node: Node) -> Object | None:
        """The object as the server has it, unless it is gone or another has its name."""
        try:
            live = await self._client.get(node.resource, node.key.name, node.key.namespace)
        except errors.NotFound:
            return None
        return live if objects.uid(live) == node.uid else None

    async def _patch(self, node: Node, live: Object, metadata: Object) -> None:
        precise = {"uid": node.uid, "resourceVersion": objects.resource_version(live), **metadata}
        try:
            await self._client.patch(
                node.resource, node.key.name, node.key.namespace, patch={"metadata": precise}
            )
        except errors.NotFound:
            return

    async def _delete(self, node: Node, propagation: str, resource_version: str = "") -> None:
        try:
            await self._client.delete(
                node.resource,
                node.key.name,
                node.key.namespace,
                propagation=propagation,
                uid=node.uid,
                resource_version=resource_version,
            )
        except errors.NotFound:
            return


def _policy(finalizers: tuple[str, ...]) -> str:
    """What the object's own finalizers ask for, as when a user had deleted it."""
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"
