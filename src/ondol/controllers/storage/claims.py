"""Reconciles PersistentVolumeClaims: finds a volume for each, has one made, or says what it waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ondol.api import default_classes, objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.storage import binding, matching
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer

COMPONENT: Final = "persistentvolume-controller"
BY_VOLUME: Final = "volume"
_IN_TREE: Final = "kubernetes.io/"
_LOST: Final = "Data on the volume is lost!"
_EXTERNAL: Final = (
    "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system "
    "administrator. If volume creation is delayed, please verify that the provisioner is running and "
    "correctly registered."
)


def by_volume(claim: Object) -> list[str]:
    name = volumes.volume_name(claim)
    return [name] if name else []


class Reconciler:
    """Follows `pv_controller`: a bound claim is checked, one that names a volume is given that one."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._recorder = manager.recorder
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._volumes = manager.informer(resources.PERSISTENT_VOLUME)
        self._classes = manager.informer(resources.STORAGE_CLASS)
        self._pods = manager.informer(resources.POD)
        self._claims.add_index(BY_VOLUME, by_volume)
        self._status = Writer(
            manager.client,
            resources.PERSISTENT_VOLUME_CLAIM,
            field_manager=COMPONENT,
            fields=("phase", "accessModes", "capacity"),
        )

    def controller(self) -> Controller:
        controller = Controller("persistentvolumeclaim-binder", self.reconcile, concurrency=1)
        controller.watch(self._claims)
        controller.watch(self._volumes, self._claims_of)
        controller.watch(self._classes, lambda _: self._unbound())
        return controller

    def _claims_of(self, volume: Object) -> Iterable[Key]:
        reserved = volumes.claim_key(volume)
        keys = [objects.key(each) for each in self._claims.lister.by_index(BY_VOLUME, objects.name(volume))]
        return [*keys, *([reserved] if reserved else self._unbound())]

    def _unbound(self) -> list[Key]:
        return [objects.key(each) for each in self._claims.lister.list() if not volumes.volume_name(each)]

    async def reconcile(self, key: Key) -> Result | None:
        claim = self._claims.lister.get(key)
        if claim is None:
            return None
        if volumes.BIND_COMPLETED in objects.annotations(claim):
            await self._check(claim)
        elif volumes.volume_name(claim):
            await self._by_name(claim)
        else:
            await self._search(claim)
        return None

    # Bound before

    async def _check(self, claim: Object) -> None:
        """Whether it still has its volume."""
        name = volumes.volume_name(claim)
        if not name:
            text = f"Bound claim has lost reference to PersistentVolume. {_LOST}"
            await self._lose(claim, "ClaimLost", text)
            return
        volume = self._volumes.lister.get(Key("", name))
        if volume is None or not _may_have(volume, claim):
            volume = await self._asked(name)  # the cache of claims may be ahead of the one of volumes
        if volume is None:
            await self._lose(claim, "ClaimLost", f"Bound claim has lost its PersistentVolume. {_LOST}")
        elif _may_have(volume, claim):
            await self._bind(claim, volume)
        else:
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", text)

    async def _asked(self, name: str) -> Object | None:
        try:
            return await self._client.get(resources.PERSISTENT_VOLUME, name)
        except errors.NotFound:
            return None

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if volumes.phase(claim) != "Lost":
            self._tell(claim, reason, message, is_warning=True)
        await self._status.write(claim, {"phase": "Lost"})

    # Not bound yet

    async def _by_name(self, claim: Object) -> None:
        """The claim names its volume: nothing else will do."""
        volume = self._volumes.lister.get(Key("", volumes.volume_name(claim)))
        if volume is None:
            await self._wait(claim)
        elif volumes.claim_ref(volume) is None:
            if why := matching.mismatch(claim, volume):
                text = f'Cannot bind to requested volume "{objects.name(volume)}": {why}'
                self._tell(claim, "VolumeMismatch", text, is_warning=True)
                await self._wait(claim)
            else:
                await self._bind(claim, volume)
        elif volumes.is_bound_to(volume, claim):
            await self._bind(claim, volume)
        else:
            text = f'volume "{objects.name(volume)}" already bound to a different claim.'
            self._tell(claim, "FailedBinding", text, is_warning=True)
            await self._wait(claim)

    async def _search(self, claim: Object) -> None:
        storage_class = self._classes.lister.get(Key("", volumes.class_name(claim)))
        is_delayed = (storage_class or {}).get("volumeBindingMode") == volumes.FIRST_CONSUMER
        volume = matching.best(claim, self._volumes.lister.list(), is_delayed=is_delayed)
        if volume is not None:
            await self._bind(claim, volume)
            return
        if await self._give_class(claim):
            return
        if is_delayed and volumes.SELECTED_NODE not in objects.annotations(claim):
            self._tell(claim, *self._consumers(claim))
        elif volumes.class_name(claim):
            claim = await self._provide(claim, storage_class)
        else:
            text = "no persistent volumes available for this claim and no storage class is set"
            self._tell(claim, "FailedBinding", text)
        await self._wait(claim)

    async def _give_class(self, claim: Object) -> bool:
        """A claim that came before there was a default class gets it now."""
        if volumes.names_class(claim):
            return False
        name = default_classes.newest(self._classes.lister.list(), default_classes.STORAGE)
        if not name:
            return False
        patch = {"metadata": binding.version_of(claim), "spec": {"storageClassName": name}}
        await self._patch(claim, patch)
        return True

    def _consumers(self, claim: Object) -> tuple[str, str]:
        """The event of a claim that waits for a pod to have a node."""
        waiting = sorted(
            objects.name(pod)
            for pod in self._pods.lister.list(objects.namespace(claim))
            if not objects.spec(pod).get("nodeName") and volumes.uses(pod, objects.name(claim))
        )
        if not waiting:
            return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
        noun = "pod" if len(waiting) == 1 else "pods"
        return "WaitForPodScheduled", f"waiting for {noun} {','.join(waiting)} to be scheduled"

    async def _provide(self, claim: Object, storage_class: Object | None) -> Object:
        """Ask the provisioner of the class for a volume; the claim as it is then."""
        if objects.is_deleting(claim):
            return claim
        if storage_class is None:
            text = f'storageclass.storage.k8s.io "{volumes.class_name(claim)}" not found'
            self._tell(claim, "ProvisioningFailed", text, is_warning=True)
            return claim
        provisioner = str(storage_class["provisioner"])
        if provisioner.startswith(_IN_TREE):
            text = f"no volume plugin matched name: {provisioner}"
            self._tell(claim, "ProvisioningFailed", text, is_warning=True)
            return claim
        asked = dict.fromkeys((volumes.STORAGE_PROVISIONER, volumes.STORAGE_PROVISIONER_BETA), provisioner)
        if asked.items() - objects.annotations(claim).items():
            patch = {"metadata": binding.version_of(claim) | {"annotations": asked}}
            claim = await self._patch(claim, patch)
        self._tell(claim, "ExternalProvisioning", _EXTERNAL.format(provisioner))
        return claim

    # Writes

    async def _bind(self, claim: Object, volume: Object) -> None:
        if patch := binding.reservation(volume, claim):
            name = objects.name(volume)
            volume = await self._client.patch(resources.PERSISTENT_VOLUME, name, patch=patch)
        if patch := binding.pointing(claim, volume):
            claim = await self._patch(claim, patch)
        await self._status.write(claim, binding.bound_status(claim, volume))

    async def _wait(self, claim: Object) -> None:
        await self._status.write(claim, {"phase": "Pending"})

    async def _patch(self, claim: Object, patch: Object) -> Object:
        return await self._client.patch(
            resources.PERSISTENT_VOLUME_CLAIM, objects.name(claim), objects.namespace(claim), patch=patch
        )

    def _tell(self, claim: Object, reason: str, message: str, *, is_warning: bool = False) -> None:
        type_: Any = "Warning" if is_warning else "Normal"
        self._recorder.event(claim, type_, reason, message, component=COMPONENT)


def _may_have(volume: Object, claim: Object) -> bool:
    reference = volumes.claim_ref(volume)
    return reference is None or reference.get("uid") == objects.uid(claim)
