"""Keeps the namespace `knative-eventing`: its ConfigMaps, and the data plane's Services once there is demand.

A ConfigMap that is there is never written: it belongs to whoever edits it.
"""

from __future__ import annotations

from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.contracts import cluster, eventing, proxy
from ondol.eventing import wellknown
from ondol.eventing.channels import documents
from ondol.eventing.channels.documents import Plane
from ondol.eventing.configuration import maps
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.sdk import Children, Controller, Manager

_KEY: Final = Key("", eventing.NAMESPACE)
_LABELS: Final = {"app.kubernetes.io/name": "knative-eventing", proxy.CALLS_OUT: "true"}


class NamespaceReconciler:
    """One key: the namespace."""

    def __init__(self, manager: Manager, live: Live, demand: Demand, plane: Plane) -> None:
        self._client = manager.client
        self._demand = demand
        self._plane = plane
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER, adopts=True)
        self._maps = live.config_maps
        self._namespaces = manager.informer(resources.NAMESPACE)
        self._services = manager.informer(resources.SERVICE)
        self._slices = manager.informer(resources.ENDPOINT_SLICE)

    def controller(self) -> Controller:
        controller = Controller("eventing-namespace", self.reconcile, concurrency=1)
        controller.watch(self._namespaces, lambda o: [_KEY] if objects.key(o) == _KEY else [])
        controller.watch(self._maps, lambda o: [_KEY] if objects.name(o) in maps.NAMES else [])
        controller.watch(self._services, lambda o: [_KEY] if _is_service(o, objects.name(o)) else [])
        controller.watch(self._slices, lambda o: [_KEY] if _is_slice(o) else [])
        controller.enqueue(_KEY)
        self._demand.add(lambda: controller.enqueue(_KEY))
        return controller

    async def reconcile(self, key: Key) -> None:
        namespace = self._namespaces.lister.get(key)
        if namespace is None:
            await self._create(resources.NAMESPACE, maps.namespace())
            return
        if objects.is_deleting(namespace):
            return
        for name in maps.NAMES:
            if self._maps.lister.get(Key(eventing.NAMESPACE, name)) is None:
                await self._create(resources.CONFIG_MAP, maps.config_map(name))
        if self._demand.is_there:
            await self._serve(namespace)

    async def _create(self, resource: Resource, obj: Object) -> None:
        """Create what the cache has not; somebody else's is left as it is."""
        try:
            await self._client.create(resource, obj)
        except errors.AlreadyExists:
            return

    async def _serve(self, namespace: Object) -> None:
        family = self._children.of(namespace)
        for name in eventing.SERVICES:
            place = Key(eventing.NAMESPACE, name)
            service = documents.service(name, eventing.NAMESPACE, self._plane, namespace, _LABELS)
            slice_ = documents.endpoint_slice(name, eventing.NAMESPACE, self._plane, namespace, _LABELS)
            await family.apply(resources.SERVICE, service, self._services.lister.get(place))
            await family.apply(resources.ENDPOINT_SLICE, slice_, self._slices.lister.get(place))


def _is_service(obj: Object, name: str) -> bool:
    return objects.namespace(obj) == eventing.NAMESPACE and name in eventing.SERVICES


def _is_slice(obj: Object) -> bool:
    return _is_service(obj, objects.labels(obj).get(cluster.SERVICE_NAME_LABEL, ""))
