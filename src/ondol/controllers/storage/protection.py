"""Keeps claims that pods use, and volumes that claims have, from going before their users.

Both carry a finalizer, given by admission when they are made; here it is taken off when nobody is in the way.
"""

from __future__ import annotations

from collections.abc import Iterable

from ondol.api import objects, resources, volumes
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.client import Client
from ondol.controllers.storage import binding
from ondol.sdk import Controller, Manager, Result


def in_use(claim: Object, pod: Object) -> bool:
    """Whether the pod keeps the claim: it has a node, whose agent may have the volume in its hands. Pure."""
    if not objects.spec(pod).get("nodeName"):
        return False
    for name, is_own in volumes.claims_of(pod):
        if name == objects.name(claim) and (
            not is_own or (volumes.is_for_pod(claim, pod) and not _is_shut_down(pod))
        ):
            return True
    return False


def _is_shut_down(pod: Object) -> bool:
    """Its node is done with it: only finalizers keep it, which may wait for the claim in turn."""
    return objects.is_deleting(pod) and objects.metadata(pod).get("deletionGracePeriodSeconds") == 0


class Claims:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._pods = manager.informer(resources.POD)

    def controller(self) -> Controller:
        controller = Controller("persistentvolumeclaim-protection", self.reconcile)
        controller.watch(self._claims)
        controller.watch(self._pods, _claims_of)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        claim = self._claims.lister.get(key)
        if claim is None:
            return None
        mark = volumes.CLAIM_PROTECTION
        is_marked = mark in objects.finalizers(claim)
        if not objects.is_deleting(claim):
            if not is_marked:
                await _put(self._client, resources.PERSISTENT_VOLUME_CLAIM, claim, mark)
        elif is_marked and not await self._is_used(claim):
            await _take(self._client, resources.PERSISTENT_VOLUME_CLAIM, claim, mark)
        return None

    async def _is_used(self, claim: Object) -> bool:
        """By a pod of the cache, or by one that the cache has not heard of."""
        namespace = objects.namespace(claim)
        if any(in_use(claim, pod) for pod in self._pods.lister.list(namespace)):
            return True
        listed = (await self._client.list(resources.POD, namespace)).items
        return any(in_use(claim, pod) for pod in listed)


def _claims_of(pod: Object) -> Iterable[Key]:
    return [Key(objects.namespace(pod), name) for name, _ in volumes.claims_of(pod)]


class Volumes:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._volumes = manager.informer(resources.PERSISTENT_VOLUME)

    def controller(self) -> Controller:
        controller = Controller("persistentvolume-protection", self.reconcile)
        controller.watch(self._volumes)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        volume = self._volumes.lister.get(key)
        if volume is None:
            return None
        mark = volumes.VOLUME_PROTECTION
        is_marked = mark in objects.finalizers(volume)
        if not objects.is_deleting(volume):
            if not is_marked:
                await _put(self._client, resources.PERSISTENT_VOLUME, volume, mark)
        elif is_marked and volumes.phase(volume) != "Bound":
            await _take(self._client, resources.PERSISTENT_VOLUME, volume, mark)
        return None


async def _put(client: Client, resource: Resource, obj: Object, mark: str) -> None:
    await _write(client, resource, obj, [*objects.finalizers(obj), mark])


async def _take(client: Client, resource: Resource, obj: Object, mark: str) -> None:
    await _write(client, resource, obj, [each for each in objects.finalizers(obj) if each != mark])


async def _write(client: Client, resource: Resource, obj: Object, finalizers: list[str]) -> None:
    patch = {"metadata": binding.version_of(obj) | {"finalizers": finalizers or None}}
    try:
        await client.patch(resource, objects.name(obj), objects.namespace(obj), patch=patch)
    except errors.NotFound:
        return
