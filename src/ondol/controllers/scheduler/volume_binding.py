"""Has the claims of a pod bound on the node that was chosen for it: reads caches, writes what is decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ondol.api import objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.controllers.scheduler.volumes import Binding, Needs, State, needs
from ondol.controllers.storage import binding
from ondol.sdk import Controller, Manager


class VolumeBinding:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._pods = manager.informer(resources.POD)
        self._claims = manager.informer(resources.PERSISTENT_VOLUME_CLAIM)
        self._volumes = manager.informer(resources.PERSISTENT_VOLUME)
        self._classes = manager.informer(resources.STORAGE_CLASS)

    def watch(self, controller: Controller) -> None:
        """Have pods without a node looked at again when something about their claims has changed."""
        controller.watch(self._claims, self._waiting_for)
        controller.watch(self._volumes, lambda _: self._waiting())
        controller.watch(self._classes, lambda _: self._waiting())

    def _waiting_for(self, claim: Object) -> Iterable[Key]:
        return [
            objects.key(pod)
            for pod in self._pods.lister.list(objects.namespace(claim))
            if _is_waiting(pod) and volumes.uses(pod, objects.name(claim))
        ]

    def _waiting(self) -> Iterable[Key]:
        return [
            objects.key(pod)
            for pod in self._pods.lister.list()
            if _is_waiting(pod) and any(True for _ in volumes.claims_of(pod))
        ]

    def needs(self, pod: Object) -> Needs:
        if not any(True for _ in volumes.claims_of(pod)):
            return Needs()
        return needs(pod, self._state())

    def _state(self) -> State:
        return State(
            lambda namespace, name: self._claims.lister.get(Key(namespace, name)),
            {objects.name(each): each for each in self._volumes.lister.list()},
            {objects.name(each): each for each in self._classes.lister.list()},
            self._users,
        )

    def _users(self, namespace: str, claim: str) -> Sequence[Object]:
        return [
            pod
            for pod in self._pods.lister.list(namespace)
            if objects.spec(pod).get("nodeName") and volumes.uses(pod, claim)
        ]

    async def bind(self, bindings: Iterable[Binding], node: str) -> None:
        """Write what the binder and the provisioners go on from; the pod comes again when that is done."""
        for each in bindings:
            if each.volume is None:
                await self._select(each.claim, node)
            elif patch := binding.reservation(each.volume, each.claim):
                name = objects.name(each.volume)
                await self._client.patch(resources.PERSISTENT_VOLUME, name, patch=patch)

    async def _select(self, claim: Object, node: str) -> None:
        metadata = binding.version_of(claim) | {"annotations": {volumes.SELECTED_NODE: node}}
        await self._client.patch(
            resources.PERSISTENT_VOLUME_CLAIM,
            objects.name(claim),
            objects.namespace(claim),
            patch={"metadata": metadata},
        )


def _is_waiting(pod: Object) -> bool:
    return not objects.spec(pod).get("nodeName") and not objects.is_deleting(pod)
