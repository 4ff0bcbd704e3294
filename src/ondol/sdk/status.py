"""The one way to write a status: by server-side apply, and only what differs.

Every controller has a `Writer` for each kind it reports on: `Operator`, the platform's controllers,
Serving; one that reports on kinds of others (a mesh on pods, say) too.

- Nothing is written while the object has all that is desired.
- The uid keeps a status from an object made anew under the name, which is a `Conflict`.
- An object that was deleted meanwhile needs no status: no error.
- Fields and conditions of other writers stay, for each writer applies its own alone. What an earlier
  writer owns with us (an older version of a controller, a person) is taken away when it must be absent.
- A `Conflict` is raised. The queue tries again, with the object as the informer then has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.client import Client

CONDITIONS: Final = "conditions"
_APPLY: Final = "Apply"
_OPTIONAL: Final = ("reason", "message", "observedGeneration")
"""Fields of a condition that a writer leaves out to have them absent."""
_TRIES: Final = 4


def difference(
    current: Mapping[str, Any], desired: Mapping[str, Any], own_conditions: Collection[str] = ()
) -> Object:
    """The fields of `desired` that `current`, a status too, has otherwise; None means to be absent.

    Conditions are compared type by type, and of those only the writer's own: the difference has all
    of these, though but one differs.
    """
    changes = {
        field: value
        for field, value in desired.items()
        if field != CONDITIONS and current.get(field) != value
    }
    if CONDITIONS in desired:
        own = _of_types(desired[CONDITIONS] or (), own_conditions)
        if _by_type(own) != _by_type(_of_types(current.get(CONDITIONS) or (), own_conditions)):
            changes[CONDITIONS] = own
    return changes


class Writer:
    """Writes what one controller says of the objects of one kind.

    `fields` are those of a status that are the writer's own: what a write does not name of them goes.
    `conditions` are the types of its own; a list that is written may have others', which are left to them.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        field_manager: str,
        fields: Iterable[str] = (),
        conditions: Iterable[str] = (),
    ) -> None:
        self._client = client
        self._resource = resource
        self._manager = field_manager
        self._fields: Object = dict.fromkeys(fields)
        self._conditions = frozenset(conditions)

    async def write(self, obj: Object, desired: Mapping[str, Any]) -> Object | None:
        """The object as written; None if nothing differed, or the object is gone.

        `desired` has each field with its value, or None for one to be absent, as those of `fields` are that
        it does not name. A writer that declares no `fields` names the same ones at each write.
        """
        self._require_own(obj, desired)
        desired = self._fields | dict(desired)
        if not difference(objects.status(obj), desired, self._conditions):
            return None
        try:
            written = await self._client.apply(
                self._resource,
                self._document(obj, desired),
                subresource="status",
                field_manager=self._manager,
            )
            if self._has_remains(written, desired):
                written = await self._replace(written, desired)
        except errors.NotFound:
            return None
        return written

    async def write_onto(self, obj: Object, desired: Mapping[str, Any]) -> Object | None:
        """As `write`, but only onto the version that `obj` is; a `Conflict` if there is a newer one.

        For a status that others count down or add to meanwhile, as evictions do with a budget's. Entries of a
        map that `desired` has otherwise go, whoever wrote them.
        """
        self._require_own(obj, desired)
        desired = self._fields | dict(desired)
        current = objects.status(obj)
        if not difference(current, desired, self._conditions):
            return None
        patch = self._patch(obj, desired)
        patch["metadata"]["resourceVersion"] = objects.resource_version(obj)
        for field, value in desired.items():
            if isinstance(value, Mapping):
                patch["status"][field] = {**dict.fromkeys(current.get(field) or {}), **value}
        try:
            return await self._merge(obj, patch)
        except errors.NotFound:
            return None

    def _require_own(self, obj: Object, desired: Mapping[str, Any]) -> None:
        """`TypeError` for what is not ours: a condition would be dropped, a field never be taken away."""
        foreign = desired.keys() - self._fields.keys() - {CONDITIONS}
        if self._fields and foreign:
            raise TypeError(f"the writer {self._manager} has no field {min(foreign)} of its own")
        for condition in desired.get(CONDITIONS) or ():
            type_ = condition["type"]
            if type_ not in self._conditions and conditions.get(obj, type_) != condition:
                raise TypeError(f"the writer {self._manager} has no condition {type_} of its own")

    def _document(self, obj: Object, desired: Mapping[str, Any]) -> Object:
        status = {field: value for field, value in desired.items() if value is not None}
        if CONDITIONS in status:
            status[CONDITIONS] = _of_types(status[CONDITIONS], self._conditions)
        return {**_identity(obj), "status": status}

    def _has_remains(self, written: Object, desired: Mapping[str, Any]) -> bool:
        """Whether something is left that should be absent, because another manager owns it as well."""
        status = objects.status(written)
        if any(value is None and field in status for field, value in desired.items() if field != CONDITIONS):
            return True
        if CONDITIONS not in desired:
            return False
        own = _by_type(_of_types(desired[CONDITIONS] or (), self._conditions))
        for condition in _of_types(status.get(CONDITIONS) or (), self._conditions):
            intended = own.get(condition["type"])
            if intended is None or any(condition.get(f) and not intended.get(f) for f in _OPTIONAL):
                return True
        return False

    async def _replace(self, obj: Object, desired: Mapping[str, Any]) -> Object:
        """Write by merge patch, on the version whose conditions the patch has; read anew if that is old."""
        for attempt in range(_TRIES):
            try:
                return await self._merge(obj, self._patch(obj, desired))
            except errors.Conflict:
                live = await self._client.get(self._resource, objects.name(obj), objects.namespace(obj))
                if attempt + 1 == _TRIES or objects.uid(live) != objects.uid(obj):
                    raise
                obj = live
        raise AssertionError("unreachable")

    async def _merge(self, obj: Object, patch: Object) -> Object:
        return await self._client.patch(
            self._resource,
            objects.name(obj),
            objects.namespace(obj),
            patch=patch,
            subresource="status",
            field_manager=self._manager,
        )

    def _patch(self, obj: Object, desired: Mapping[str, Any]) -> Object:
        status = dict(desired)
        metadata = {"uid": objects.uid(obj)}
        if CONDITIONS in desired:
            metadata["resourceVersion"] = objects.resource_version(obj)
            own = _by_type(_of_types(desired[CONDITIONS] or (), self._conditions))
            listed = [
                own.pop(each["type"]) if each["type"] in own else dict(each)
                for each in conditions.of(obj)
                if each["type"] in own or each["type"] not in self._conditions
            ]
            status[CONDITIONS] = [*listed, *own.values()] or None
        return {"metadata": metadata, "status": status}


@dataclass(frozen=True, slots=True)
class Owned:
    """Fields of a status, and types of its conditions, that one manager applied last."""

    fields: frozenset[str] = frozenset()
    conditions: frozenset[str] = frozenset()


def owned(obj: Mapping[str, Any], field_manager: str) -> Owned:
    """What the object's managedFields say the manager applied to its status.

    An entry has `{"f:status": {"f:phase": {}, "f:conditions": {'k:{"type":"Ready"}': {…}}}}`.
    """
    for entry in objects.metadata(obj).get("managedFields") or ():
        if (entry.get("manager"), entry.get("operation")) != (field_manager, _APPLY):
            continue
        if entry.get("subresource") == "status":
            fields = (entry.get("fieldsV1") or {}).get("f:status") or {}
            types = {each["type"] for each in conditions.of(obj) if _element(each) in _elements(fields)}
            names = {name.removeprefix("f:") for name in fields if name.startswith("f:")}
            return Owned(frozenset(names - {CONDITIONS}), frozenset(types))
    return Owned()


def _elements(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    elements: Mapping[str, Any] = fields.get("f:conditions") or {}
    return elements


def _element(condition: Mapping[str, Any]) -> str:
    return f'k:{{"type":"{condition["type"]}"}}'


def _identity(obj: Object) -> Object:
    metadata = {"name": objects.name(obj), "uid": objects.uid(obj)}
    if objects.namespace(obj):
        metadata["namespace"] = objects.namespace(obj)
    return {"metadata": metadata}


def _of_types(listed: Iterable[Mapping[str, Any]], types: Collection[str]) -> list[Object]:
    return [dict(condition) for condition in listed if condition.get("type") in types]


def _by_type(listed: Iterable[Object]) -> dict[str, Object]:
    return {condition["type"]: condition for condition in listed}
