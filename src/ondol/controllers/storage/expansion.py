"""Lets the volumes of the platform's own provisioner grow with what their claims ask for.

They are folders, whose size nothing bounds: a new size is written down, and there is nothing else to do.
"""

from __future__ import annotations

from ondol.api import objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.contracts import storage
from ondol.controllers.storage import binding
from ondol.sdk import Controller, Manager, Result


def growth(claim: Object, volume: Object) -> Object | None:
    """The patch that has the volume be as large as its claim asks for; None if it is. Pure."""
    if objects.annotations(volume).get(volumes.PROVISIONED_BY) != storage.PROVISIONER:
        return None
    is_theirs = volumes.is_bound(claim) and volumes.is_bound_to(volume, claim)
    if not is_theirs or volumes.requested_bytes(claim) <= volumes.capacity_bytes(volume):
        return None
    capacity = {"storage": volumes.requested(claim)}
    return {"metadata": binding.version_of(volume), "spec": {"capacity": capacity}}


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._recorder = manager.recorder
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._volumes = manager.informer(resources.PERSISTENT_VOLUME)

    def controller(self) -> Controller:
        controller = Controller("volume-expansion", self.reconcile)
        controller.watch(self._claims)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        claim = self._claims.lister.get(key)
        volume = self._volumes.lister.get(Key("", volumes.volume_name(claim or {})))
        if claim is None or volume is None:
            return None
        patch = growth(claim, volume)
        if patch is not None:
            await self._client.patch(resources.PERSISTENT_VOLUME, objects.name(volume), patch=patch)
            self._recorder.event(
                claim,
                "Normal",
                "VolumeResizeSuccessful",
                "Resize volume succeeded",
                component=storage.PROVISIONER,
            )
        return None
