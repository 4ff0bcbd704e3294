"""Claiming children: adopt orphans that match the selector, release own ones that no longer do.

Used by every controller that owns objects by label selector (ReplicaSets own pods, Deployments own
ReplicaSets).
"""

from __future__ import annotations

from collections.abc import Iterable

from ondol.api import labels, objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.client import Client


class Claims:
    """Claims children of one resource for owners of another."""

    def __init__(self, client: Client, owners: Resource, children: Resource) -> None:
        self._client = client
        self._owners = owners
        self._children = children

    async def claim(self, owner: Object, own: Iterable[Object], orphans: Iterable[Object]) -> list[Object]:
        """The children that are the owner's: those of `own` it keeps and those of `orphans` it adopts."""
        selector = labels.from_document(objects.spec(owner).get("selector"))
        claimed: list[Object] = []
        for child in own:
            if selector.matches(objects.labels(child)):
                claimed.append(child)
            elif not objects.is_deleting(owner):
                await self._release(owner, child)
        wanted = [child for child in orphans if self._may_adopt(owner, child, selector)]
        if wanted and await self._still_wanted(owner):
            for child in wanted:
                adopted = await self._adopt(owner, child)
                claimed.extend([adopted] if adopted else [])
        return claimed

    def _may_adopt(self, owner: Object, child: Object, selector: labels.Selector) -> bool:
        if objects.is_deleting(owner) or objects.is_deleting(child):
            return False
        return not selector.is_everything and selector.matches(objects.labels(child))

    async def _still_wanted(self, owner: Object) -> bool:
        """Ask the server itself: an owner deleted a moment ago must not take children with it."""
        try:
            live = await self._client.get(self._owners, objects.name(owner), objects.namespace(owner))
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
            return await self._client.patch(self._children, name, namespace, patch={"metadata": metadata})
        except errors.NotFound:
            return None
