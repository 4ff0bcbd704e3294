"""What a reconciler is given: its object, its children, and the effects it may have.

A `Context` lives for one reconcile. Children are written at once, status and conditions are
collected and written by the framework when the reconcile ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object, Resource
from ondol.base.clock import Clock
from ondol.base.log import Logger
from ondol.client import Client
from ondol.sdk import children
from ondol.sdk.children import Children
from ondol.sdk.informer import Informer
from ondol.sdk.model import CustomResource, Status, plain
from ondol.sdk.recorder import EventRecorder, EventType
from ondol.sdk.status import Owned
from ondol.sdk.store import Lister

T = TypeVar("T", bound=CustomResource)

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
"""The label children carry; the informers of owned kinds hold only those of their operator."""
OWNER_INDEX: Final = "ondol.dev/owner"


@dataclass(frozen=True, slots=True)
class Tools:
    """What all reconciles of one operator share."""

    operator: str
    client: Client
    clock: Clock
    recorder: EventRecorder
    owned: Mapping[Resource, Informer]
    watched: Mapping[Resource, Informer]
    children: Children
    owned_status: dict[Key, tuple[str, Owned | None]] = field(default_factory=dict)
    """By the key of an object, with the uid it had: what of its status this operator applied; None if
    an apply failed, which may have taken effect."""

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self.children.forget(key)
        self.owned_status.pop(key, None)


class Context(Generic[T]):
    """One reconcile of `object`, the typed view; `raw` is the document with all it holds."""

    def __init__(self, obj: T, tools: Tools, log: Logger) -> None:
        self.object = obj
        self.raw: Object = obj.raw
        self.key = obj.key
        self.client = tools.client
        self.clock = tools.clock
        self.log = log
        self.prunes = True
        self._tools = tools
        self._family = tools.children.of(obj.raw)
        self._fields: dict[str, Any] = {}
        self._conditions: list[Object] = [dict(c) for c in conditions.of(obj.raw)]
        self._condition_types: set[str] = set()

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def namespace(self) -> str:
        return self.key.namespace

    def child(self, resource: Resource, name: str = "", namespace: str = "") -> Object | None:
        """A child as the cache has it; named like the parent unless said otherwise."""
        informer = self._owned(resource)
        home = (namespace or self.namespace) if resource.namespaced else ""
        return informer.lister.get(Key(home, name or self.name))

    def children(self, resource: Resource) -> list[Object]:
        """All children of one kind in the cache."""
        owned = self._owned(resource).lister.by_index(OWNER_INDEX, self.object.uid)
        return [obj for obj in owned if objects.is_controlled_by(obj, self.raw)]

    def lister(self, resource: Resource) -> Lister:
        """The cache of a kind the operator owns or watches."""
        informer = self._tools.watched.get(resource) or self._owned(resource)
        return informer.lister

    async def apply(self, child: Object) -> Object:
        """Make a child exist as described, owned by the object; the child as it is now.

        Only the fields given are owned. A child that is as it was after the last apply of the same
        description costs no request. Children not applied again are deleted when the reconcile ends.
        """
        resource = self._resource_of(child)
        desired = self._adopted(child, resource)
        live = self._tools.owned[resource].lister.get(objects.key(desired))
        return await self._family.apply(resource, desired, live)

    def keep(self, child: Object) -> None:
        """Keep a child as it is, though this reconcile applies none of its name."""
        resource = self._resource_of(child)
        home = (objects.namespace(child) or self.namespace) if resource.namespaced else ""
        self._family.keep(resource, Key(home, objects.name(child) or self.name))

    async def delete(self, child: Object) -> None:
        """Delete a child now, in the background of what depends on it; one that is gone is no error.

        `child` is what `ctx.child` or `ctx.children` returned: another object of that name, or one of
        another owner, is not touched (`TypeError` for the latter).
        """
        resource = self._resource_of(child)
        if not objects.is_controlled_by(child, self.raw):
            raise TypeError(f"{resource.kind} {objects.key(child)} is no child of {self._kind()} {self.key}")
        await children.delete(self.client, resource, child)

    def keep_children(self) -> None:
        """Delete no child after this reconcile, whatever it applied."""
        self.prunes = False

    def set_status(self, **fields: Any) -> None:
        """Set fields of the object's status by their Python names; the others stay as they are."""
        names = {f.name for f in msgspec.structs.fields(self._status_type())}
        unknown = fields.keys() - (names - {"conditions", "observed_generation"})
        if unknown:
            raise TypeError(f"the status of {self._kind()} has no field {', '.join(sorted(unknown))}")
        self._fields |= fields

    def set_condition(self, type: str, status: bool | str, reason: str = "", message: str = "") -> None:
        """Set a condition; `status` is a bool, or the word `Unknown`."""
        word = str(status) if not isinstance(status, bool) else "True" if status else "False"
        if word not in ("True", "False", "Unknown"):
            raise ValueError(f"a condition is True, False or Unknown, not {word!r}")
        self._condition_types.add(type)
        self._conditions = conditions.set(
            self._conditions,
            type,
            word,  # type: ignore[arg-type]  # checked above
            reason=reason,
            message=message,
            now=self.clock.now(),
            observed_generation=self.object.generation,
        )

    def event(self, type: EventType, reason: str, message: str) -> None:
        """Tell that something happened to the object."""
        self._tools.recorder.event(self.raw, type, reason, message, component=self._tools.operator)

    async def prune(self) -> None:
        """Delete the children that this reconcile neither applied nor kept. For the framework."""
        for resource in self._tools.owned:
            for child in await self._family.prune(resource, self.children(resource)):
                self.event("Normal", "Pruned", f"deleted {resource.kind} {objects.name(child)}")

    def status(self, owned: Owned, *, observed: bool) -> tuple[Object, frozenset[str]]:
        """All of the status that is the operator's, and the types of its conditions. For the framework.

        That is what it `owned` before, as it is now, and what this reconcile set.
        """
        current = objects.status(self.raw)
        desired: Object = {name: current[name] for name in owned.fields if name in current}
        types = owned.conditions | self._condition_types
        if types:
            desired["conditions"] = self._conditions
        if observed and self.object.generation:
            desired["observedGeneration"] = self.object.generation
        return desired | self._encoded_fields(), types

    def _encoded_fields(self) -> Object:
        kind = self._status_type()
        names = {f.name: f.encode_name for f in msgspec.structs.fields(kind)}
        encoded: Object = {names[name]: plain(value) for name, value in self._fields.items()}
        msgspec.convert(encoded, kind)  # a wrong type is found here, not by the server
        return encoded

    def _status_type(self) -> type[Status]:
        kind = type(getattr(self.object, "status", Status()))
        if not issubclass(kind, Status):
            raise TypeError(f"the status of {self._kind()} is no sdk.Status")
        return kind

    def _kind(self) -> str:
        return type(self.object).definition.resource.kind

    def _owned(self, resource: Resource) -> Informer:
        informer = self._tools.owned.get(resource)
        if informer is None:
            raise TypeError(f"the operator does not name {resource.group_resource} in `owns`")
        return informer

    def _resource_of(self, child: Object) -> Resource:
        for resource in self._tools.owned:
            if (resource.api_version, resource.kind) == (child.get("apiVersion"), child.get("kind")):
                return resource
        raise TypeError(f"the operator does not name {child.get('apiVersion')} {child.get('kind')} in `owns`")

    def _adopted(self, child: Object, resource: Resource) -> Object:
        """The child with what every child has: place, label and owner."""
        metadata = dict(child.get("metadata") or {})
        if resource.namespaced:
            metadata["namespace"] = metadata.get("namespace") or self.namespace
            if not metadata["namespace"]:
                name = metadata.get("name") or self.name
                raise TypeError(f"{resource.kind} {name} needs a namespace, for its owner is in none")
        elif self.namespace:
            raise TypeError(f"{resource.kind} has no namespace, so nothing in one can own it")
        if self.namespace and metadata["namespace"] != self.namespace:
            raise TypeError(f"{resource.kind} {metadata.get('name')} is in another namespace than its owner")
        metadata.setdefault("name", self.name)
        metadata["labels"] = {**(metadata.get("labels") or {}), MANAGED_BY: self._tools.operator}
        metadata["ownerReferences"] = [objects.controller_reference(self.raw)]
        return {**child, "metadata": metadata}
