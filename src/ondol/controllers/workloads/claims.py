"""Whose a child is: find it, adopt orphans that match the selector, release own ones that no longer do.

Used by every controller that owns objects by label selector (ReplicaSets own pods, Deployments own
ReplicaSets).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ondol.api import labels, objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.client import Client
from ondol.sdk import Informer, controller_key

BY_CONTROLLER: Final = "controller"
"""Index of children by the uid of their controller."""
_ORPHANS: Final = "orphans"
_BY_LABELS: Final = ("", "ReplicationController")
"""The kind whose selector is labels and their values; all others have a `LabelSelector`."""


class Claims:
    """The children of one kind, claimed for owners of another: `Claims(client, replica_sets, pods)`."""

    def __init__(
        self,
        client: Client,
        owners: Informer,
        children: Informer,
        *,
        admits: Callable[[Object, Object], bool] = lambda _owner, _child: True,
    ) -> None:
        """Before the informers run: the children are indexed by their controller.

        `admits` says of an owner and a child of matching labels whether it may be one: a StatefulSet's has a
        name of its.
        """
        self._admits = admits
        self._client = client
        self._owners = owners
        self._children = children
        children.add_index(BY_CONTROLLER, by_controller)
        children.add_index(_ORPHANS, by_orphanage)
        resource = owners.resource
        self._selector = _labels if (resource.group, resource.kind) == _BY_LABELS else _label_selector
        self._controllers_of = controller_key(owners.resource.api_version, owners.resource.kind)

    def owned(self, owner: Object) -> list[Object]:
        """The children that name the owner as their controller, whatever their labels."""
        return self._children.lister.by_index(BY_CONTROLLER, objects.uid(owner))

    def owners_of(self, child: Object) -> Iterable[Key]:
        """The owner that controls the child, or, for an orphan, those that may adopt it; for `watch`."""
        if objects.controller_of(child) is not None:
            return self._controllers_of(child)
        if not objects.labels(child) or objects.is_deleting(child):
            return ()
        owners = self._owners.lister.list(objects.namespace(child))
        return [objects.key(owner) for owner in owners if self._selects(owner, child)]

    async def claim(self, owner: Object) -> list[Object]:
        """The children that are the owner's now: own ones that match, and the orphans it adopts."""
        selector = self._selector(owner)
        claimed: list[Object] = []
        for child in self.owned(owner):
            if selector.matches(objects.labels(child)) and self._admits(owner, child):
                claimed.append(child)
            elif not objects.is_deleting(owner):
                await self._release(owner, child)
        orphans = self._children.lister.by_index(_ORPHANS, objects.namespace(owner))
        adoptable = [
            child for child in orphans if _may_adopt(owner, child, selector) and self._admits(owner, child)
        ]
        if adoptable and await self._owner_exists(owner):
            for child in adoptable:
                adopted = await self._adopt(owner, child)
                claimed.extend([adopted] if adopted else [])
        return claimed

    def _selects(self, owner: Object, child: Object) -> bool:
        selector = self._selector(owner)
        matches = not selector.is_everything and selector.matches(objects.labels(child))
        return matches and self._admits(owner, child)

    async def _owner_exists(self, owner: Object) -> bool:
        """Ask the server itself: an owner deleted a moment ago must not take children with it."""
        resource = self._owners.resource
        try:
            live = await self._client.get(resource, objects.name(owner), objects.namespace(owner))
        except errors.NotFound:
            return False
        return objects.uid(live) == objects.uid(owner) and not objects.is_deleting(live)

    async def _adopt(self, owner: Object, child: Object) -> Object | None:
        references = [*objects.owner_references(child), objects.controller_reference(owner)]
        return await self._patch(child, references)

    async def _release(self, owner: Object, child: Object) -> None:
        own = objects.uid(owner)
        await self._patch(child, [ref for ref in objects.owner_references(child) if ref.get("uid") != own])

    async def _patch(self, child: Object, references: Iterable[object]) -> Object | None:
        """Write the references on exactly the child that was looked at; a change since is a Conflict."""
        metadata = {
            "uid": objects.uid(child),
            "resourceVersion": objects.resource_version(child),
            "ownerReferences": list(references),
        }
        name, namespace = objects.name(child), objects.namespace(child)
        try:
            return await self._client.patch(
                self._children.resource, name, namespace, patch={"metadata": metadata}
            )
        except errors.NotFound:
            return None


def by_controller(obj: Object) -> Iterable[str]:
    """For an index: the uid of the object's controller."""
    owner = objects.controller_of(obj)
    return (str(owner["uid"]),) if owner else ()


def by_orphanage(obj: Object) -> Iterable[str]:
    """For an index: the namespace of an object without a controller."""
    return () if objects.controller_of(obj) else (objects.namespace(obj),)


def _may_adopt(owner: Object, child: Object, selector: labels.Selector) -> bool:
    if objects.is_deleting(owner) or objects.is_deleting(child):
        return False
    return not selector.is_everything and selector.matches(objects.labels(child))


def _label_selector(owner: Object) -> labels.Selector:
    return labels.from_document(objects.spec(owner).get("selector"))


def _labels(owner: Object) -> labels.Selector:
    return labels.from_map(objects.spec(owner).get("selector") or {})
