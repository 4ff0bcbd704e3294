"""Who owns whom, over all kinds: the graph the garbage collector decides on. Pure.

Nodes are objects by uid; an edge leads from a dependent to each owner it names. Owners may be
unknown: named, but never seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"


@dataclass(frozen=True, slots=True)
class Node:
    """An object as far as garbage collection cares."""

    resource: Resource
    key: Key
    uid: str
    owners: tuple[Mapping[str, Any], ...]
    deleting: bool
    finalizers: tuple[str, ...]

    @property
    def waits_for_dependents(self) -> bool:
        """Being deleted in the foreground: it goes after what it owns."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.deleting and ORPHAN in self.finalizers

    @property
    def owner_uids(self) -> frozenset[str]:
        return frozenset(str(owner.get("uid")) for owner in self.owners)

    def is_blocked_by(self, dependent: Node) -> bool:
        """Whether this owner, deleted in the foreground, waits for that dependent."""
        return any(
            ref.get("uid") == self.uid and bool(ref.get("blockOwnerDeletion")) for ref in dependent.owners
        )


_IDENTITY: Final = ("namespace", "name", "uid", "resourceVersion")
_FATE: Final = ("ownerReferences", "finalizers", "deletionTimestamp")


def needed(obj: Object) -> Object:
    """Of an object's metadata, what a node is made of: there is one of these for every object there is."""
    metadata = objects.metadata(obj)
    identity = {field: metadata[field] for field in (*_IDENTITY, *_FATE) if metadata.get(field)}
    if "namespace" in identity:
        identity["namespace"] = sys.intern(identity["namespace"])
    return {"metadata": identity}


def node(resource: Resource, obj: Object) -> Node:
    return Node(
        resource,
        objects.key(obj),
        objects.uid(obj),
        tuple(objects.owner_references(obj)),
        objects.is_deleting(obj),
        objects.finalizers(obj),
    )


@dataclass(slots=True)
class Graph:
    """All nodes, and the dependents of every uid that is named as an owner."""

    nodes: dict[str, Node] = field(default_factory=dict)
    _dependents: dict[str, dict[str, None]] = field(default_factory=dict)

    def dependents(self, uid: str) -> Iterator[Node]:
        for each in list(self._dependents.get(uid, ())):
            yield self.nodes[each]

    def put(self, new: Node) -> set[str]:
        """Enter or replace a node; the uids whose situation changed by it."""
        old = self._unlink(new.uid)
        self.nodes[new.uid] = new
        for owner in new.owner_uids:
            self._dependents.setdefault(owner, {})[new.uid] = None
        return self._touched(old, new)

    def discard(self, uid: str) -> set[str]:
        """Take a node out; its dependents may have lost their last owner, its owners a dependent."""
        old = self._unlink(uid)
        if old is None:
            return set()
        return {each.uid for each in self.dependents(uid)} | self._waiting(old.owner_uids)

    def _unlink(self, uid: str) -> Node | None:
        old = self.nodes.pop(uid, None)
        for owner in old.owner_uids if old else ():
            dependents = self._dependents.get(owner)
            if dependents is not None:
                dependents.pop(uid, None)
                if not dependents:
                    del self._dependents[owner]
        return old

    def _touched(self, old: Node | None, new: Node) -> set[str]:
        touched: set[str] = set()
        if new.waits_for_dependents or new.orphans_dependents:
            touched.add(new.uid)
        if new.owners and (old is None or old.owners != new.owners):
            touched.add(new.uid)
        if new.waits_for_dependents and not (old and old.waits_for_dependents):
            touched |= {each.uid for each in self.dependents(new.uid)}
        if old is not None and old.owners != new.owners:
            touched |= self._waiting(old.owner_uids)
        return touched

    def _waiting(self, uids: frozenset[str]) -> set[str]:
        return {uid for uid in uids if uid in self.nodes and self.nodes[uid].waits_for_dependents}
