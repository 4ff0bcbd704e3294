"""Reconciles namespaces: the default service account and the authority's certificate are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.serviceaccount import resources as makes
from ondol.sdk import Controller, Manager, Result


def add_to(manager: Manager, root_ca: str) -> None:
    """`root_ca` is the PEM of the authority, empty if no ConfigMap is wanted."""
    manager.add(Reconciler(manager, root_ca).controller())


class Reconciler:
    def __init__(self, manager: Manager, root_ca: str) -> None:
        self._client = manager.client
        self._root_ca = root_ca
        self._namespaces = manager.informer(resources.NAMESPACE)
        self._accounts = manager.informer(resources.SERVICE_ACCOUNT)
        self._certificates = manager.informer(
            resources.CONFIG_MAP, field_selector=f"metadata.name={makes.ROOT_CA}"
        )

    def controller(self) -> Controller:
        controller = Controller("serviceaccount", self.reconcile, concurrency=4)
        controller.watch(self._namespaces)
        controller.watch(self._accounts, _namespace_of(makes.ACCOUNT))
        controller.watch(self._certificates, _namespace_of(makes.ROOT_CA))
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        namespace = self._namespaces.lister.get(key)
        if namespace is None or objects.is_deleting(namespace):
            return None
        try:
            await self._ensure_account(key.name)
            if self._root_ca:
                await self._ensure_certificate(key.name)
        except errors.Forbidden:
            current = await self._client.get(resources.NAMESPACE, key.name)
            if not objects.is_deleting(current):
                raise
        except errors.NotFound:
            return None  # the namespace went away meanwhile
        return None

    async def _ensure_account(self, namespace: str) -> None:
        if self._accounts.lister.get(Key(namespace, makes.ACCOUNT)) is None:
            try:
                await self._client.create(resources.SERVICE_ACCOUNT, makes.account(namespace))
            except errors.AlreadyExists:
                return

    async def _ensure_certificate(self, namespace: str) -> None:
        wanted = makes.root_ca(namespace, self._root_ca)
        found = self._certificates.lister.get(Key(namespace, makes.ROOT_CA))
        if found is None:
            try:
                await self._client.create(resources.CONFIG_MAP, wanted)
            except errors.AlreadyExists:
                found = await self._client.get(resources.CONFIG_MAP, makes.ROOT_CA, namespace)
        if found is not None and found.get("data") != wanted["data"]:
            await self._client.patch(
                resources.CONFIG_MAP, makes.ROOT_CA, namespace, patch={"data": _replaced(found, wanted)}
            )


def _replaced(found: Object, wanted: Object) -> Object:
    """The merge patch that leaves exactly the wanted data."""
    strange = dict.fromkeys(found.get("data") or {})
    return {**strange, **wanted["data"]}


def _namespace_of(name: str) -> Callable[[Object], Iterable[Key]]:
    def key(obj: Object) -> Iterable[Key]:
        return [Key("", objects.namespace(obj))] if objects.name(obj) == name else ()

    return key
