"""Reconciles Endpoints of Services without a selector: their mirrored EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.endpoints.slices import MANAGED_BY, SERVICE_NAME
from ondol.controllers.mirroring import mirrored_slices
from ondol.sdk import Controller, Manager, Result, children

_MIRRORED: Final = "mirrored"


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """Keeps the slices of an Endpoints object what it says, and takes them away with it."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._services = manager.informer(resources.SERVICE)
        self._endpoints = manager.informer(resources.ENDPOINTS)
        self._slices = manager.informer(resources.ENDPOINT_SLICE)
        self._slices.add_index(_MIRRORED, _mirrored_of)

    def controller(self) -> Controller:
        controller = Controller("endpointslicemirroring", self.reconcile)
        controller.watch(self._endpoints)
        controller.watch(self._services, predicate=_selector_changed)
        controller.watch(self._slices, _key_of_slice)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        existing = list(self._slices.lister.by_index(_MIRRORED, str(key)))
        endpoints = self._endpoints.lister.get(key)
        if endpoints is None or not mirrored_slices.is_mirrored(endpoints, self._services.lister.get(key)):
            for each in existing:
                await children.delete(self._client, resources.ENDPOINT_SLICE, each)
            return None
        changes = mirrored_slices.changes(endpoints, existing)
        if changes.create and not await self._is_current(endpoints):
            return None  # the watch will tell
        for each in changes.create:
            if not await self._create(each):
                return None
        for each in changes.update:
            await self._client.update(resources.ENDPOINT_SLICE, each)
        for each in changes.delete:
            await children.delete(self._client, resources.ENDPOINT_SLICE, each)
        return None

    async def _is_current(self, endpoints: Object) -> bool:
        return await children.is_current(self._client, resources.ENDPOINTS, endpoints)

    async def _create(self, each: Object) -> bool:
        """Create a slice; False where its namespace is being deleted, where nothing need be made."""
        try:
            await self._client.create(resources.ENDPOINT_SLICE, each)
        except errors.Forbidden:
            namespace = await self._client.get(resources.NAMESPACE, objects.namespace(each))
            if not objects.is_deleting(namespace):
                raise
            return False
        return True


def _mirrored_of(each: Object) -> Iterable[str]:
    return [str(key) for key in _key_of_slice(each)]


def _key_of_slice(each: Object) -> Iterable[Key]:
    labels = objects.labels(each)
    if labels.get(MANAGED_BY) != mirrored_slices.MANAGER or not labels.get(SERVICE_NAME):
        return ()
    return [Key(objects.namespace(each), labels[SERVICE_NAME])]


def _selector_changed(old: Object | None, new: Object | None) -> bool:
    if old is None or new is None:
        return True
    return bool(objects.spec(old).get("selector")) is not bool(objects.spec(new).get("selector"))
