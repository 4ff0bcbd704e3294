"""Objects that volumes are made from, looked up by resource and name.

A kind of volume looks up what it needs, and what that leads to, as if all were there:

    claim = inputs.lookup.get(CLAIM, "data")
    store = inputs.lookup.get(STORE, claim["spec"]["storeName"])

An object that has not been read yet ends `resolve` there (`NotRead`); `resolved` reads it and asks again, so
that the kind itself stays a pure function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from ondol.api.objects import Key, Object, Resource

Reference: TypeAlias = tuple[Resource, Key]
T = TypeVar("T")


class NotRead(Exception):
    """The answer needs an object that has not been read."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(f"{reference[0].kind} {reference[1]} has not been read")
        self.reference = reference


class Lookup(Protocol):
    def get(self, resource: Resource, name: str) -> Mapping[str, Any] | None:
        """The object, of the pod's own namespace where the kind has namespaces; None if there is none."""


class ReadObjects:
    """What has been read for one pod, as a `Lookup`."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._objects: dict[Reference, Object | None] = {}

    @property
    def references(self) -> frozenset[Reference]:
        """All that was asked for: a change of any may change the answer."""
        return frozenset(self._objects)

    def get(self, resource: Resource, name: str) -> Mapping[str, Any] | None:
        reference = (resource, Key(self._namespace if resource.namespaced else "", name))
        if reference not in self._objects:
            raise NotRead(reference)
        return self._objects[reference]

    async def resolved(
        self, answer: Callable[[], T], read: Callable[[Resource, Key], Awaitable[Object | None]]
    ) -> T:
        """`answer()`, once all that it looks up has been read."""
        while True:
            try:
                return answer()
            except NotRead as missing:
                self._objects[missing.reference] = await read(*missing.reference)
