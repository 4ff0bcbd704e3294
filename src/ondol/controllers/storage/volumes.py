"""Reconciles PersistentVolumes: the phase of each, and what becomes of it when its claim is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ondol.api import objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.storage import binding
from ondol.controllers.storage.claims import COMPONENT
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

_BY_CLAIM: Final = "claim"
_OVER: Final = ("Released", "Failed")
_NO_DELETER: Final = 'error getting deleter volume plugin for volume "{}": no deletable volume plugin matched'
_NO_RECYCLER: Final = "No recycler plugin found for the volume!"
_MODES: Final = 'Cannot bind {} "{}" to requested {} "{}" due to incompatible volumeMode.'


def _by_claim(volume: Object) -> list[str]:
    key = volumes.claim_key(volume)
    return [str(key)] if key else []


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._recorder = manager.recorder
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._volumes = manager.informer(resources.PERSISTENT_VOLUME)
        self._volumes.add_index(_BY_CLAIM, _by_claim)
        self._status = Writer(
            manager.client,
            resources.PERSISTENT_VOLUME,
            field_manager=COMPONENT,
            fields=("phase", "message"),
        )

    def controller(self) -> Controller:
        controller = Controller("persistentvolume-binder", self.reconcile, concurrency=2)
        controller.watch(self._volumes)
        controller.watch(self._claims, self._volumes_of)
        return controller

    def _volumes_of(self, claim: Object) -> Iterable[Key]:
        reserved = self._volumes.lister.by_index(_BY_CLAIM, str(objects.key(claim)))
        names = {objects.name(each) for each in reserved} | {volumes.volume_name(claim)}
        return [Key("", name) for name in sorted(names - {""})]

    async def reconcile(self, key: Key) -> Result | None:
        volume = self._volumes.lister.get(key)
        if volume is None:
            return None
        reference = volumes.claim_ref(volume)
        if reference is None or not reference.get("uid"):
            await self._show(volume, "Available")
            return None
        claim = await self._claim_of(volume)
        if claim is None:
            await self._release(volume)
        elif volumes.volume_name(claim) == objects.name(volume):
            await self._show(volume, "Bound")
        elif volumes.volume_name(claim):
            await self._take_back(volume)
        elif volumes.volume_mode(claim) != volumes.volume_mode(volume):
            self._tell_of_modes(volume, claim)
        return None

    async def _claim_of(self, volume: Object) -> Object | None:
        """The very claim the volume is bound to; the server is asked before it is called gone."""
        key, uid = volumes.claim_key(volume), (volumes.claim_ref(volume) or {}).get("uid")
        if key is None:
            return None
        claim = self._claims.lister.get(key)
        if claim is None or objects.uid(claim) != uid:
            try:
                claim = await self._client.get(resources.PERSISTENT_VOLUME_CLAIM, key.name, key.namespace)
            except errors.NotFound:
                return None
        return claim if objects.uid(claim) == uid else None

    async def _take_back(self, volume: Object) -> None:
        """Its claim has another volume: one that was made for the claim goes, any other is free again."""
        is_provisioned = volumes.PROVISIONED_BY in objects.annotations(volume)
        if is_provisioned and volumes.reclaim_policy(volume) == "Delete":
            await self._release(volume)
        else:
            patch = binding.release(volume)
            await self._client.patch(resources.PERSISTENT_VOLUME, objects.name(volume), patch=patch)

    async def _release(self, volume: Object) -> None:
        """The data is nobody's any more. Who provisioned the volume deletes it, if it is to be deleted."""
        if volumes.phase(volume) not in _OVER:
            await self._show(volume, "Released")
        policy = volumes.reclaim_policy(volume)
        if policy == "Recycle":
            await self._fail(volume, "VolumeFailedRecycle", _NO_RECYCLER)
        elif policy == "Delete" and volumes.PROVISIONED_BY not in objects.annotations(volume):
            await self._fail(volume, "VolumeFailedDelete", _NO_DELETER.format(objects.name(volume)))

    async def _fail(self, volume: Object, reason: str, message: str) -> None:
        if await self._show(volume, "Failed", message):
            self._tell(volume, reason, message)

    async def _show(self, volume: Object, phase: str, message: str = "") -> bool:
        """Write the phase if it is another; what somebody else says of a volume in its phase stays."""
        if volumes.phase(volume) == phase:
            return False
        desired = {"phase": phase, "message": message or None}
        return await self._status.write(volume, desired) is not None

    def _tell_of_modes(self, volume: Object, claim: Object) -> None:
        nouns = ("PersistentVolume", "PersistentVolumeClaim")
        name, key = objects.name(volume), objects.name(claim)
        self._tell(volume, "VolumeMismatch", _MODES.format(nouns[0], name, nouns[1], key))
        self._tell(claim, "VolumeMismatch", _MODES.format(nouns[1], key, nouns[0], name))

    def _tell(self, obj: Object, reason: str, message: str) -> None:
        warning: Any = "Warning"
        self._recorder.event(obj, warning, reason, message, component=COMPONENT)
