"""Resolves destinations for one controller, and reconciles its objects again when what they refer to changes.

Any kind may be referred to, also one that is installed later: its informer is started when the first object
refers to it, so a kind that nobody refers to costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.eventing.destinations import addresses
from ondol.eventing.destinations.addresses import Address, Document, Reference, Unresolved
from ondol.sdk import Controller, Informer, Manager

_SYNC_S: Final = 5.0
"""How long a reconcile waits for the first list of a kind, once; then others are not kept waiting for it."""
_SERVED_S: Final = 1.0
"""A definition is established a moment before its kind is served."""

Place = tuple[str, str, Key]
"""Group, kind and key of an object that is referred to."""


class Resolver:
    """What the objects of one controller refer to; `resolve` answers from caches.

    A reconcile calls `begin` with its key first: what it looks up from then on is what its object refers to.
    """

    def __init__(self, manager: Manager, enqueue: Callable[[Key, float], None]) -> None:
        self._manager = manager
        self._enqueue = enqueue
        self._informers: dict[Resource, Informer] = {}
        self._slow: set[Resource] = set()
        self._referrers: dict[Place, set[Key]] = {}
        self._places: dict[Key, set[Place]] = {}
        self._awaits_kinds: set[Key] = set()
        self._is_watching_kinds = False

    @classmethod
    def of(cls, manager: Manager, controller: Controller) -> Resolver:
        """For a controller whose keys are the referring objects'."""
        return cls(manager, controller.enqueue)

    def begin(self, key: Key) -> None:
        """Forget what this object referred to: it is reconciled, or gone."""
        self._awaits_kinds.discard(key)
        for place in self._places.pop(key, ()):
            referrers = self._referrers[place]
            referrers.discard(key)
            if not referrers:
                del self._referrers[place]

    async def resolve(self, key: Key, destination: Document, *, group: bool = False) -> Address:
        """The address of a destination of this object; `Unresolved` if it has none.

        `group`: the reference may name a group in place of an apiVersion.
        """
        ref = addresses.reference_of(destination, key.namespace)
        if ref is None:
            return addresses.of_uri(destination)
        obj = await self.find(key, ref, group=group)
        return addresses.of_reference(destination, ref, obj)

    async def find(self, key: Key, ref: Reference, *, group: bool = False) -> Object:
        """The object that this one refers to; `Unresolved` if there is none.

        It is shared: never change it.
        """
        resource = await self.resource(key, ref, group=group)
        self._note(key, (resource.group, resource.kind, ref.key))
        informer = await self._informer(key, resource)
        obj = informer.lister.get(ref.key)
        if obj is None:
            raise Unresolved(
                f'failed to get object {ref.key}: {resource.group_resource} "{ref.name}" not found'
            )
        return obj

    async def resource(self, key: Key, ref: Reference, *, group: bool = False) -> Resource:
        """Where the kind of a reference is served; `Unresolved` if it is not, and tried again once it is."""
        try:
            if ref.group and not ref.api_version and group:
                return await self._of_group(ref)
            return await self._manager.client.resource_for(ref.api_version, ref.kind)
        except errors.NotFound as error:
            self._await_kinds(key)
            raise Unresolved(f"failed to get object {ref.key}: {error.message}") from error

    async def _of_group(self, ref: Reference) -> Resource:
        for resource in await self._manager.client.discover():
            if (resource.group, resource.kind) == (ref.group, ref.kind):
                return resource
        raise errors.NotFound(f'no kind "{ref.kind}" is served in group "{ref.group}"')

    def _note(self, key: Key, place: Place) -> None:
        self._referrers.setdefault(place, set()).add(key)
        self._places.setdefault(key, set()).add(place)

    async def _informer(self, key: Key, resource: Resource) -> Informer:
        """The kind's objects; `Unresolved` while the server does not list them, and tried again."""
        informer = self._informers.get(resource)
        if informer is None:
            informer = self._informers[resource] = self._manager.informer(resource, optional=True)
            informer.add_handler(partial(self._changed, resource))
        if not informer.synced and resource not in self._slow:
            with self._manager.clock.move_on_after(_SYNC_S):
                await informer.wait_synced()
        if informer.synced:
            self._slow.discard(resource)
            return informer
        self._slow.add(resource)
        self._enqueue(key, _SYNC_S)
        raise Unresolved(f"failed to get lister for {resource.group_resource}: the server does not list them")

    def _changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        place = (resource.group, resource.kind, objects.key(new or old or {}))
        for key in sorted(self._referrers.get(place, ())):
            self._enqueue(key, 0.0)

    def _await_kinds(self, key: Key) -> None:
        """Reconcile the object again when a definition comes or changes."""
        self._awaits_kinds.add(key)
        if self._is_watching_kinds:
            return
        self._is_watching_kinds = True
        definitions = self._manager.informer(resources.CUSTOM_RESOURCE_DEFINITION)
        definitions.add_handler(lambda _old, _new: self._kinds_changed())

    def _kinds_changed(self) -> None:
        for key in sorted(self._awaits_kinds):
            self._enqueue(key, 0.0)
            self._enqueue(key, _SERVED_S)
