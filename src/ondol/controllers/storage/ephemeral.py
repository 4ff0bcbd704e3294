"""Makes the claims of `ephemeral` volumes: each is the pod's own and goes with it."""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.controller import controller_key

COMPONENT: Final = "ephemeral_volume"


def claim(pod: Object, volume: Object) -> Object:
    """The claim of one volume of the pod. Pure."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    metadata = template.get("metadata") or {}
    owner = objects.controller_reference({"apiVersion": "v1", "kind": "Pod", **pod})
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": volumes.own_claim_name(pod, volume),
            "namespace": objects.namespace(pod),
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": [owner],
        },
        "spec": dict(template["spec"]),
    }


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._recorder = manager.recorder
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._pods = manager.informer(resources.POD)

    def controller(self) -> Controller:
        controller = Controller("ephemeral-volume", self.reconcile)
        controller.watch(self._pods, predicate=_has_own)
        controller.watch(self._claims, controller_key("v1", "Pod"), predicate=_is_gone)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.lister.get(key)
        if pod is None or objects.is_deleting(pod):
            return None
        for volume in objects.spec(pod).get("volumes") or ():
            if volume.get("ephemeral") is not None:
                await self._make(pod, dict(volume))
        return None

    async def _make(self, pod: Object, volume: Object) -> None:
        name, namespace = volumes.own_claim_name(pod, volume), objects.namespace(pod)
        live = self._claims.lister.get(Key(namespace, name))
        try:
            if live is None:
                try:
                    await self._client.create(resources.PERSISTENT_VOLUME_CLAIM, claim(pod, volume))
                except errors.AlreadyExists:
                    live = await self._client.get(resources.PERSISTENT_VOLUME_CLAIM, name, namespace)
            if live is not None and not volumes.is_for_pod(live, pod):
                raise errors.AlreadyExists(volumes.not_for_pod(live, pod))
        except errors.ApiError as error:
            warning: Any = "Warning"
            text = f"ephemeral volume {volume['name']}: {error.message}"
            self._recorder.event(pod, warning, "FailedBinding", text, component=COMPONENT)
            raise


def _has_own(old: Object | None, new: Object | None) -> bool:
    """New, with an ephemeral volume: volumes of a pod do not change."""
    return old is None and new is not None and any(is_own for _, is_own in volumes.claims_of(new))


def _is_gone(_: Object | None, new: Object | None) -> bool:
    return new is None
