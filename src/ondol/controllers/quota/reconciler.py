"""Reconciles ResourceQuotas: counts what there is, whenever something that counts comes, changes or goes.

Admission counts for itself; this is for people, and for whoever reads the status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ondol.api import objects, quota, resources
from ondol.api.objects import Key, Object, Resource
from ondol.controllers.catalogue import Catalogue
from ondol.sdk import Controller, Informer, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "resourcequota-controller"
_WHOLE: Final = (resources.POD, resources.SERVICE, resources.PERSISTENT_VOLUME_CLAIM)
"""Kinds of which more is counted than how many there are."""
_NOT_LISTED_S: Final = 0.2


def add_to(manager: Manager, catalogue: Catalogue) -> None:
    manager.add(Reconciler(manager, catalogue).controller())


class Reconciler:
    def __init__(self, manager: Manager, catalogue: Catalogue) -> None:
        self._manager = manager
        self._clock = manager.clock
        self._catalogue = catalogue
        self._quotas = manager.informer(resources.RESOURCE_QUOTA)
        self._status = Writer(manager.client, resources.RESOURCE_QUOTA, field_manager=COMPONENT)
        self._informers: dict[Resource, Informer] = {}
        """Of each kind that a quota has counted so far: a kind nobody limits is not watched."""
        self._controller = Controller("resource-quota", self.reconcile, concurrency=2)

    def controller(self) -> Controller:
        self._controller.watch(self._quotas)
        return self._controller

    async def reconcile(self, key: Key) -> Result | None:
        counted = self._quotas.lister.get(key)
        if counted is None:
            return None
        await self._catalogue.load()
        hard: dict[str, Any] = objects.spec(counted).get("hard") or {}
        used: dict[str, int] = {}
        for resource in self._resources(hard):
            informer = self._informer(resource)
            if not informer.synced:
                return Result(_NOT_LISTED_S)
            now = self._clock.now()
            uses = (quota.of(resource, obj, now) for obj in informer.lister.list(key.namespace))
            used |= quota.total(counted, uses, quota.names(hard, resource))
        shown = {name: quota.spelled(name, used.get(name, 0)) for name in hard}
        await self._status.write(counted, {"hard": hard or None, "used": shown or None})
        return None

    def _resources(self, hard: Iterable[str]) -> Iterator[Resource]:
        """The kinds that a quota counts."""
        listed = list(hard)
        for resource in self._catalogue.resources():
            if resource.namespaced and quota.names(listed, resource):
                yield resource

    def _informer(self, resource: Resource) -> Informer:
        informer = self._informers.get(resource)
        if informer is None:
            is_whole = resource in _WHOLE
            informer = self._manager.informer(resource, metadata_only=not is_whole, optional=True)
            informer.add_handler(lambda old, new: self._changed(resource, old, new))
            self._informers[resource] = informer
        return informer

    def _changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and self._use(resource, old) == self._use(resource, new):
            return
        namespace = objects.namespace(new or old or {})
        for counted in self._quotas.lister.list(namespace):
            self._controller.enqueue(objects.key(counted))

    def _use(self, resource: Resource, obj: Object) -> quota.Use:
        return quota.of(resource, obj, self._clock.now())
