"""Reconciles Endpoints of Services without a selector: their mirrored EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.endpoints.slices import MANAGED_BY, SERVICE_NAME
from ondol.controllers.mirroring import mirrored_slices
from ondol.sdk import Children, Controller, Manager, Result, children

COMPONENT: Final = "endpointslicemirroring-controller"
_MIRRORED: Final = "mirrored"


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """Keeps the slices of an Endpoints object what it says, and takes them away with it."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._children = Children(manager.client, field_manager=COMPONENT)
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
            self._children.forget(key)
            await self._delete(existing)
            return None
        own = [each for each in existing if objects.is_controlled_by(each, endpoints)]
        if await self._apply(endpoints, own):
            await self._delete(each for each in existing if not objects.is_controlled_by(each, endpoints))
        return None

    async def _apply(self, endpoints: Object, own: Sequence[Object]) -> bool:
        """Keep the slices of the Endpoints; False where that is to be left for the next time."""
        desired = mirrored_slices.documents(endpoints, own)
        live = {objects.key(each): each for each in own}
        if not live.keys() >= {objects.key(each) for each in desired} and not await children.is_current(
            self._client, resources.ENDPOINTS, endpoints
        ):
            return False  # the watch will tell
        family = self._children.of(endpoints)
        for document in desired:
            key = objects.key(document)
            if key in live and mirrored_slices.is_current(live[key], document):
                family.keep(resources.ENDPOINT_SLICE, key)
                continue
            try:
                await family.apply(resources.ENDPOINT_SLICE, document, live.get(key))
            except errors.Forbidden:
                namespace = await self._client.get(resources.NAMESPACE, key.namespace)
                if not objects.is_deleting(namespace):
                    raise
                return False  # nothing can be created in it, and nothing need be
        await family.prune(resources.ENDPOINT_SLICE, own)
        return True

    async def _delete(self, slices: Iterable[Object]) -> None:
        for each in slices:
            await children.delete(self._client, resources.ENDPOINT_SLICE, each)


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
