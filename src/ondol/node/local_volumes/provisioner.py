"""The provisioner at work: a folder and a volume for each claim that asks, and their end.

    claim asks -> mark, folder -> PersistentVolume -> mark goes
    volume Released, policy Delete -> deleted -> (nobody's any more) folder removed -> finalizer goes

A folder is removed only when its volume is being deleted, so that no claim can be bound to it any more.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final, Protocol

import anyio.to_thread

from ondol.api import objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.contracts import storage
from ondol.node.config import NodeConfig
from ondol.node.local_volumes import documents
from ondol.node.local_volumes.folders import Folders
from ondol.sdk import Controller, Manager, Result

_AGAIN_S: Final = 5.0


class Disk(Protocol):
    """The folders, without waiting for them in the event loop; as `Folders` says of each."""

    async def make(self, name: str) -> Path: ...

    async def keep(self, name: str) -> None: ...

    async def marked(self) -> list[str]: ...

    async def remove(self, name: str) -> None: ...


class InThreads:
    """Those of this machine."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    async def make(self, name: str) -> Path:
        return await anyio.to_thread.run_sync(self._folders.make, name)

    async def keep(self, name: str) -> None:
        await anyio.to_thread.run_sync(self._folders.keep, name)

    async def marked(self) -> list[str]:
        return await anyio.to_thread.run_sync(self._folders.marked)

    async def remove(self, name: str) -> None:
        await anyio.to_thread.run_sync(self._folders.remove, name)


def add_to(manager: Manager, node: str, folders: Disk) -> None:
    manager.add(Making(manager, node, folders).controller())
    manager.add(Removing(manager, node, folders).controller())


async def run(config: NodeConfig, client: Client, clock: Clock) -> None:
    """Make and remove this node's volumes until cancelled; `client` is the provisioner's own."""
    manager = Manager(client, clock=clock, rng=random.Random(), identity=storage.PROVISIONER)  # noqa: S311 - jitter only
    add_to(manager, config.name, InThreads(Folders(config.local_volumes_dir)))
    await manager.run()


class Making:
    """Reconciles claims."""

    def __init__(self, manager: Manager, node: str, folders: Disk) -> None:
        self._client = manager.client
        self._recorder = manager.recorder
        self._node = node
        self._folders = folders
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._classes = manager.informer(resources.STORAGE_CLASS)

    def controller(self) -> Controller:
        controller = Controller("local-provisioner", self.reconcile)
        controller.watch(self._claims)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        claim = self._claims.lister.get(key)
        if claim is None or not documents.is_asked(claim, self._node):
            return None
        storage_class = await self._class_of(claim)
        if storage_class is None or storage_class.get("provisioner") != storage.PROVISIONER:
            return None
        if why := documents.refusal(claim, storage_class):
            self._fail(claim, storage_class, why)
            return None
        text = f'External provisioner is provisioning volume for claim "{key}"'
        self._tell(claim, "Normal", "Provisioning", text)
        try:
            await self._provision(claim, storage_class)
        except (errors.ApiError, OSError) as error:
            self._fail(claim, storage_class, str(error))
            raise
        return None

    async def _class_of(self, claim: Object) -> Object | None:
        name = volumes.class_name(claim)
        cached = self._classes.lister.get(Key("", name))
        if cached is not None or not name:
            return cached
        try:
            return await self._client.get(resources.STORAGE_CLASS, name)
        except errors.NotFound:
            return None

    async def _provision(self, claim: Object, storage_class: Object) -> None:
        name = documents.name_of(claim)
        path = await self._folders.make(name)
        document = documents.volume(claim, storage_class, self._node, str(path))
        try:
            await self._client.create(resources.PERSISTENT_VOLUME, document)
        except errors.AlreadyExists:  # the answer to an earlier try was lost
            live = await self._client.get(resources.PERSISTENT_VOLUME, name)
            if (volumes.claim_ref(live) or {}).get("uid") != objects.uid(claim):
                raise
        await self._folders.keep(name)
        self._tell(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    def _fail(self, claim: Object, storage_class: Object, why: str) -> None:
        name = objects.name(storage_class)
        text = f'failed to provision volume with StorageClass "{name}": {why}'
        self._tell(claim, "Warning", "ProvisioningFailed", text)

    def _tell(self, claim: Object, type_: Any, reason: str, message: str) -> None:
        self._recorder.event(claim, type_, reason, message, component=storage.PROVISIONER, host=self._node)


class Removing:
    """Reconciles volumes, and looks after folders that never got one."""

    def __init__(self, manager: Manager, node: str, folders: Disk) -> None:
        self._manager = manager
        self._client = manager.client
        self._node = node
        self._folders = folders
        self._volumes = manager.informer(resources.PERSISTENT_VOLUME)
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        manager.add_runnable(self.look_after_begun, "local-volumes-begun")

    def controller(self) -> Controller:
        controller = Controller("local-reclaimer", self.reconcile)
        controller.watch(self._volumes)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        volume = self._volumes.lister.get(key)
        if volume is None or not documents.is_of(volume, self._node):
            return None
        if not objects.is_deleting(volume):
            if volumes.phase(volume) == "Released" and volumes.reclaim_policy(volume) == "Delete":
                await self._delete(volume)
        elif storage.FINALIZER in objects.finalizers(volume) and not _is_protected(volume):
            await self._finish(volume)
        return None

    async def _delete(self, volume: Object) -> None:
        """Begin its end, if it still is as it was looked at: by now a person may want to keep it."""
        try:
            await self._client.delete(
                resources.PERSISTENT_VOLUME,
                objects.name(volume),
                uid=objects.uid(volume),
                resource_version=objects.resource_version(volume),
            )
        except errors.NotFound:
            return

    async def _finish(self, volume: Object) -> None:
        """The folder goes if the policy says so; what a person wants to keep stays on the disk."""
        name = objects.name(volume)
        if volumes.reclaim_policy(volume) == "Delete":
            try:
                await self._folders.remove(name)
            except (errors.OndolError, OSError) as error:
                self._manager.recorder.event(
                    volume, "Warning", "VolumeFailedDelete", str(error), component=storage.PROVISIONER
                )
                raise
        else:
            await self._folders.keep(name)
        finalizers = [each for each in objects.finalizers(volume) if each != storage.FINALIZER]
        metadata = {
            "uid": objects.uid(volume),
            "resourceVersion": objects.resource_version(volume),
            "finalizers": finalizers or None,
        }
        try:
            await self._client.patch(resources.PERSISTENT_VOLUME, name, patch={"metadata": metadata})
        except errors.NotFound:
            return

    async def look_after_begun(self) -> None:
        """Remove folders that were begun for claims that are gone, and have no volume; keep those that have.

        A claim whose volume was made, but not heard of before it was bound, asks for nothing any more.
        """
        while True:
            for name in await self._folders.marked():
                try:
                    await self._settle(name)
                except (errors.OndolError, OSError):
                    continue  # it is still marked, and so looked at again
            await self._manager.clock.sleep(_AGAIN_S)

    async def _settle(self, name: str) -> None:
        listed = (await self._client.list(resources.PERSISTENT_VOLUME_CLAIM)).items
        claims = (each for each in listed if documents.name_of(each) == name)
        claim = next((each for each in claims if not objects.is_deleting(each)), None)
        if claim is not None and not objects.spec(claim).get("volumeName"):
            return  # it is being provided for
        try:
            await self._client.get(resources.PERSISTENT_VOLUME, name)
        except errors.NotFound:
            if claim is None:
                await self._folders.remove(name)
        else:
            await self._folders.keep(name)


def _is_protected(volume: Object) -> bool:
    return volumes.VOLUME_PROTECTION in objects.finalizers(volume)
