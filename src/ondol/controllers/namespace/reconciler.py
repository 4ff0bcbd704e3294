"""Reconciles namespaces that are being deleted: pods first, then all other content, then the finalizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.namespace import deletion
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "namespace-controller"
FINALIZER: Final = "kubernetes"
_PAGE: Final = 500
# Content that others must finalize tells nobody when it is gone; pods do.
_LOOK_AGAIN_S: Final = 1.0
_DISCOVER_AGAIN_S: Final = 5.0


def add_to(manager: Manager, catalogue: Catalogue) -> None:
    manager.add(Reconciler(manager, catalogue).controller())


class Reconciler:
    def __init__(self, manager: Manager, catalogue: Catalogue) -> None:
        self._manager = manager
        self._client = manager.client
        self._catalogue = catalogue
        self._namespaces = manager.informer(resources.NAMESPACE)
        self._pods = manager.informer(resources.POD)
        self._status = Writer(
            manager.client, resources.NAMESPACE, field_manager=COMPONENT, conditions=deletion.CONDITIONS
        )

    def controller(self) -> Controller:
        controller = Controller("namespace", self.reconcile, concurrency=4)
        controller.watch(self._namespaces)
        controller.watch(self._pods, self._terminating, predicate=lambda _old, new: new is None)
        return controller

    def _terminating(self, pod: Object) -> Iterable[Key]:
        namespace = self._namespaces.lister.get(Key("", objects.namespace(pod)))
        return [objects.key(namespace)] if namespace and objects.is_deleting(namespace) else ()

    async def reconcile(self, key: Key) -> Result | None:
        namespace = self._namespaces.lister.get(key)
        if namespace is None or not objects.is_deleting(namespace):
            return None
        if FINALIZER not in (objects.spec(namespace).get("finalizers") or ()):
            return None
        await self._catalogue.load()
        remains = deletion.Remains()
        await self._empty(resources.POD, key.name, remains)
        if remains.empty:
            for resource in self._catalogue.resources():
                if resource.namespaced and resource != resources.POD:
                    await self._empty(resource, key.name, remains)
        remains.undiscovered = self._catalogue.undiscovered
        listed = deletion.deletion_conditions(namespace, remains, self._manager.clock.now())
        await self._status.write(namespace, {"conditions": listed})
        if not remains.empty:
            return Result(_DISCOVER_AGAIN_S if remains.undiscovered else _LOOK_AGAIN_S)
        await self._finalize(key.name)
        return None

    async def _empty(self, resource: Resource, namespace: str, remains: deletion.Remains) -> None:
        """Delete all objects of one kind, and note what is left of them."""
        try:
            if not await self._content(resource, namespace):
                return
            await self._client.delete_collection(resource, namespace)
            for obj in await self._content(resource, namespace):
                remains.objects[f"{resource.group_resource}."] += 1
                remains.finalizers.update(objects.finalizers(obj))
        except (errors.NotFound, errors.MethodNotAllowed):
            return  # the kind went away meanwhile
        except errors.ApiError as error:
            remains.failures.append(f"{resource.group_resource}: {error.message}")

    async def _content(self, resource: Resource, namespace: str) -> list[Object]:
        page = await self._client.list(resource, namespace, limit=_PAGE, metadata_only=True)
        return page.items

    async def _finalize(self, name: str) -> None:
        """Take off our finalizer; with the last one the server removes the namespace."""
        try:
            live = await self._client.get(resources.NAMESPACE, name)
            others = [each for each in objects.spec(live).get("finalizers") or () if each != FINALIZER]
            finalized = {**live, "spec": {**objects.spec(live), "finalizers": others}}
            await self._client.update(resources.NAMESPACE, finalized, subresource="finalize")
        except errors.NotFound:
            return
