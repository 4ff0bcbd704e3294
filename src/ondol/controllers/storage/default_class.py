"""Makes the StorageClass `local`, once in the life of a platform: who deletes it has none."""

from __future__ import annotations

import contextlib
from typing import Final

from ondol.api import default_classes, objects, resources, volumes
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import storage
from ondol.sdk import Controller, Manager, Result

NAMESPACE: Final = Key("", "ondol-system")
MARK: Final = "ondol.dev/default-storage-class"
"""On the platform's own namespace once the class has been made."""


def storage_class(*, is_default: bool) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": storage.CLASS,
            "annotations": {default_classes.STORAGE[0]: "true" if is_default else "false"},
        },
        "provisioner": storage.PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": volumes.FIRST_CONSUMER,
        "allowVolumeExpansion": True,
    }


class Reconciler:
    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._namespaces = manager.informer(resources.NAMESPACE)
        self._classes = manager.informer(resources.STORAGE_CLASS)

    def controller(self) -> Controller:
        controller = Controller("default-storage-class", self.reconcile, concurrency=1)
        controller.watch(self._namespaces, predicate=_is_unmarked)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        namespace = self._namespaces.lister.get(key)
        if namespace is None or not _is_unmarked(None, namespace):
            return None
        has_default = bool(default_classes.newest(self._classes.lister.list(), default_classes.STORAGE))
        with contextlib.suppress(errors.AlreadyExists):  # made before the mark was written, or a person's
            await self._client.create(resources.STORAGE_CLASS, storage_class(is_default=not has_default))
        mark = {"uid": objects.uid(namespace), "annotations": {MARK: storage.CLASS}}
        await self._client.patch(resources.NAMESPACE, key.name, patch={"metadata": mark})
        return None


def _is_unmarked(_: Object | None, new: Object | None) -> bool:
    is_own = new is not None and objects.key(new) == NAMESPACE
    return is_own and MARK not in objects.annotations(new or {})
