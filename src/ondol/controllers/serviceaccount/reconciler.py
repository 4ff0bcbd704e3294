"""Reconciles namespaces: the default service account and the authority's certificate are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.serviceaccount import documents
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
            resources.CONFIG_MAP, field_selector=f"metadata.name={documents.ROOT_CA}"
        )

    def controller(self) -> Controller:
        controller = Controller("serviceaccount", self.reconcile, concurrency=4)
        controller.watch(self._namespaces)
        controller.watch(self._accounts, _namespace_of(documents.ACCOUNT))
        controller.watch(self._certificates, _namespace_of(documents.ROOT_CA))
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
        if self._accounts.lister.get(Key(namespace, documents.ACCOUNT)) is None:
            try:
                await self._client.create(resources.SERVICE_ACCOUNT, documents.account(namespace))
            except errors.AlreadyExists:
                return

    async def _ensure_certificate(self, namespace: str) -> None:
        desired = documents.root_ca(namespace, self._root_ca)
        live = self._certificates.lister.get(Key(namespace, documents.ROOT_CA))
        if live is None:
            try:
                await self._client.create(resources.CONFIG_MAP, desired)
            except errors.AlreadyExists:
                live = await self._client.get(resources.CONFIG_MAP, documents.ROOT_CA, namespace)
        if live is not None and live.get("data") != desired["data"]:
            await self._client.patch(
                resources.CONFIG_MAP, documents.ROOT_CA, namespace, patch={"data": _replaced(live, desired)}
            )


def _replaced(live: Object, desired: Object) -> Object:
    """The merge patch after which the data is exactly the desired one."""
    removed = dict.fromkeys(live.get("data") or {})
    return {**removed, **desired["data"]}


def _namespace_of(name: str) -> Callable[[Object], Iterable[Key]]:
    def key(obj: Object) -> Iterable[Key]:
        return [Key("", objects.namespace(obj))] if objects.name(obj) == name else ()

    return key
