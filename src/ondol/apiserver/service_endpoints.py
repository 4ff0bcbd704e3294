"""Where a Service is reached, as its EndpointSlices show it: it need not have an address of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.state import State
from ondol.base import errors
from ondol.contracts.cluster import SERVICE_NAME_LABEL

Address: TypeAlias = tuple[str, int]
"""Host and port."""
Choice: TypeAlias = Callable[[list[Address]], Address]


class NotReached(errors.OndolError):
    """Nothing stands behind the Service's port."""


class Endpoints:
    """The endpoints of a Service."""

    def __init__(self, state: State, namespace: str, name: str) -> None:
        self._state = state
        self._namespace = namespace
        self._name = name

    def service(self) -> Object | None:
        return self._state.lookup(resources.SERVICE, self._namespace, self._name)

    def slices(self) -> Iterator[Object]:
        for endpoint_slice in self._state.list_objects(resources.ENDPOINT_SLICE, self._namespace):
            if service_of(endpoint_slice) == self._name:
                yield endpoint_slice

    def choose(self, port: int, choice: Choice) -> Address:
        """Address and port of one that is ready; `NotReached` if there is none."""
        service = self.service()
        if service is None:
            raise NotReached(f'service "{self._name}" not found')
        named = port_name(service, port)
        if named is None:
            raise NotReached(f'no service port {port} found for service "{self._name}"')
        ready = self.ready(named)
        if not ready:
            raise NotReached(f'no endpoints available for service "{self._name}"')
        return choice(ready)

    def ready(self, port: str) -> list[Address]:
        """Those that serve a port of this name."""
        return [
            (address, number)
            for endpoint_slice in self.slices()
            for number in _numbers(endpoint_slice, port)
            for endpoint in endpoint_slice.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
            for address in endpoint.get("addresses") or ()
        ]


def port_name(service: Object, port: int) -> str | None:
    """What the Service calls a port, which may be nothing; None if it has no such port."""
    listed = objects.spec(service).get("ports") or ()
    return next((each.get("name") or "" for each in listed if each["port"] == port), None)


def service_of(endpoint_slice: Object) -> str:
    """The name of the Service that a slice is of; empty if it is of none."""
    return objects.labels(endpoint_slice).get(SERVICE_NAME_LABEL) or ""


def _numbers(endpoint_slice: Object, name: str) -> list[int]:
    ports = endpoint_slice.get("ports") or ()
    return [int(each["port"]) for each in ports if (each.get("name") or "") == name and each.get("port")]
