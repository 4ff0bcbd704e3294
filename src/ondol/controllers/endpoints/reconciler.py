"""Reconciles Services with a selector: their EndpointSlices, and the legacy Endpoints object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import labels, objects, pods, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.controllers.endpoints import slices
from ondol.sdk import Controller, Manager, Result, children

_BY_SERVICE: Final = "service"
_BY_SELECTOR: Final = "selector"


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """A Service without a selector is somebody else's to fill; it is left alone."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._services = manager.informer(resources.SERVICE)
        self._services.add_index(_BY_SELECTOR, _first_of_selector)
        self._pods = manager.informer(resources.POD)
        self._nodes = manager.informer(resources.NODE)
        self._slices = manager.informer(resources.ENDPOINT_SLICE)
        self._slices.add_index(_BY_SERVICE, _service_of)
        self._endpoints = manager.informer(resources.ENDPOINTS)

    def controller(self) -> Controller:
        controller = Controller("endpointslice", self.reconcile, concurrency=4)
        controller.watch(self._services)
        controller.watch(self._pods, self._services_of, predicate=_endpoint_changed)
        controller.watch(self._nodes, self._services_on, predicate=_topology_changed)
        controller.watch(self._slices, _key_of_slice)
        controller.watch(self._endpoints)
        return controller

    def _services_of(self, pod: Object) -> Iterable[Key]:
        """Whose first label the pod has, and then the others: not every Service there is, for each pod."""
        namespace, by_index = objects.namespace(pod), self._services.lister.by_index
        return [
            objects.key(service)
            for pair in objects.labels(pod).items()
            for service in by_index(_BY_SELECTOR, _place(namespace, *pair))
            if _selects(service, pod)
        ]

    def _services_on(self, node: Object) -> Iterable[Key]:
        name = objects.name(node)
        bound = [pod for pod in self._pods.lister.list() if pods.node_name(pod) == name]
        return {key for pod in bound for key in self._services_of(pod)}

    async def reconcile(self, key: Key) -> Result | None:
        service = self._services.lister.get(key)
        existing = [
            each
            for each in self._slices.lister.by_index(_BY_SERVICE, str(key))
            if objects.labels(each).get(slices.MANAGED_BY) == slices.MANAGER
        ]
        if service is None:
            for each in existing:
                await children.delete(self._client, resources.ENDPOINT_SLICE, each)
            await self._remove_endpoints(key)
            return None
        if not _selector(service) or objects.is_deleting(service) or _is_external(service):
            return None
        selector = labels.from_map(_selector(service))
        members = self._pods.lister.list(key.namespace, selector)
        nodes = {objects.name(node): node for node in self._nodes.lister.list()}
        await self._write(slices.changes(service, members, nodes, existing), service)
        await self._write_endpoints(service, members)
        return None

    async def _write(self, changes: slices.Changes, service: Object) -> None:
        if changes.create and not await children.is_current(self._client, resources.SERVICE, service):
            return  # the watch will tell
        for each in changes.create:
            try:
                await self._client.create(resources.ENDPOINT_SLICE, each)
            except errors.Forbidden:
                if await self._is_alive(objects.namespace(service)):
                    raise
                return
        for each in changes.update:
            await self._client.update(resources.ENDPOINT_SLICE, each)
        for each in changes.delete:
            await children.delete(self._client, resources.ENDPOINT_SLICE, each)

    async def _is_alive(self, namespace: str) -> bool:
        """Nothing can be created in a namespace that is being deleted, and nothing need be."""
        return not objects.is_deleting(await self._client.get(resources.NAMESPACE, namespace))

    async def _write_endpoints(self, service: Object, members: Iterable[Object]) -> None:
        desired = slices.legacy(service, members)
        live = self._endpoints.lister.get(objects.key(service))
        if live is None:
            try:
                await self._client.create(resources.ENDPOINTS, desired)
            except (errors.AlreadyExists, errors.Forbidden) as error:
                if isinstance(error, errors.Forbidden) and await self._is_alive(objects.namespace(service)):
                    raise
            return
        same = (
            (live.get("subsets") or []) == (desired.get("subsets") or [])
            and dict(objects.labels(live)) == desired["metadata"]["labels"]
            and objects.annotations(live).get(slices.OVER_CAPACITY)
            == (desired["metadata"].get("annotations") or {}).get(slices.OVER_CAPACITY)
        )
        if not same:
            metadata = {**objects.metadata(live), **desired["metadata"]}
            await self._client.update(resources.ENDPOINTS, {**desired, "metadata": metadata})

    async def _remove_endpoints(self, key: Key) -> None:
        live = self._endpoints.lister.get(key)
        if live is not None and objects.labels(live).get(slices.MANAGED_BY) == "endpoint-controller":
            await children.delete(self._client, resources.ENDPOINTS, live)


def _selector(service: Object) -> Mapping[str, str]:
    selector: Mapping[str, str] = objects.spec(service).get("selector") or {}
    return selector


def _first_of_selector(service: Object) -> Iterable[str]:
    """A Service selects only pods that have the first label of its selector."""
    first = min(_selector(service).items(), default=None)
    return [_place(objects.namespace(service), *first)] if first else ()


def _place(namespace: str, label: str, value: str) -> str:
    return f"{namespace}/{label}={value}"


def _is_external(service: Object) -> bool:
    return objects.spec(service).get("type") == "ExternalName"


def _selects(service: Object, pod: Object) -> bool:
    selector, labels_ = _selector(service), objects.labels(pod)
    return bool(selector) and all(labels_.get(key) == value for key, value in selector.items())


def _service_of(each: Object) -> Iterable[str]:
    return [str(key) for key in _key_of_slice(each)]


def _key_of_slice(each: Object) -> Iterable[Key]:
    name = objects.labels(each).get(slices.SERVICE_NAME)
    return [Key(objects.namespace(each), name)] if name else ()


def _endpoint_changed(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or _endpoint_facts(old) != _endpoint_facts(new)


def _endpoint_facts(pod: Object) -> tuple[Any, ...]:
    """All that an endpoint is made from; a pod's other changes do not matter here."""
    status = objects.status(pod)
    return (
        objects.uid(pod),
        dict(objects.labels(pod)),
        pods.node_name(pod),
        pods.is_terminal(pod),
        pods.is_ready(pod),
        objects.is_deleting(pod),
        status.get("podIP"),
        status.get("podIPs"),
    )


def _topology_changed(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or objects.labels(old) != objects.labels(new)
