"""The one way to keep children: apply what is desired, skip what is so already, delete exactly.

`Children` is a controller's memory of what it applied; `Children.of(parent)` is the view of it for
one reconcile. Used by `Context`, by Serving and by every controller that makes objects of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.client import Client

Place = tuple[Resource, Key]
"""Where a child is."""

_DIGEST_BYTES: Final = 16
_SHAPE: Final = ("uid", "generation", "labels", "annotations", "ownerReferences", "finalizers")
"""Of an object with a generation these and the generation itself tell whether an apply might change it."""


class Applied(NamedTuple):
    """Digests of what was applied, and of the child as it was then: all of it, and as far as that goes."""

    desired: bytes
    shape: bytes
    part: bytes


class NotOwned(errors.AlreadyExists):
    """An object of the child's name exists, and its controller is not the parent."""


class Children:
    """What one controller applied, by parent; one of them serves all reconciles of the controller.

    An apply that would change nothing costs the server a merge. Remembered are digests of what was
    applied and of what the child then looked like, so that a reconcile of settled objects is free.
    """

    def __init__(self, client: Client, *, field_manager: str, adopts: bool = False) -> None:
        """`adopts`: take over a child of that name that nobody controls, instead of refusing it."""
        self.client = client
        self.field_manager = field_manager
        self.adopts = adopts
        self._applied: dict[Key, tuple[str, dict[Place, Applied]]] = {}

    def of(self, parent: Object) -> Family:
        """The children of this parent; another parent of its name begins anew."""
        key, uid = objects.key(parent), objects.uid(parent)
        last_uid, applied = self._applied.get(key, ("", {}))
        if last_uid != uid:
            applied = {}
            self._applied[key] = (uid, applied)
        return Family(self, parent, applied)

    def forget(self, parent: Key) -> None:
        """The parent is gone."""
        self._applied.pop(parent, None)


class Family:
    """The children of one parent, during one reconcile of it."""

    def __init__(self, children: Children, parent: Object, applied: dict[Place, Applied]) -> None:
        self._children = children
        self._parent = parent
        self._applied = applied
        self._desired: set[Place] = set()

    async def apply(self, resource: Resource, desired: Object, live: Object | None) -> Object:
        """Make the child so; it, as it is now. `live` is what the lister has under its name.

        `NotOwned` if that belongs to another controller, or to none and the controller adopts none. What
        the lister has not seen yet is asked for, so that nothing is taken from anybody unseen. `Conflict`
        if another object has the name by now, or the fields of one that came between.
        """
        place = (resource, objects.key(desired))
        self._desired.add(place)
        digest = _digest(desired)
        if live is not None:
            self._require_own(resource, live)
            if self._is_settled(place, digest, desired, live):
                return live
        written = await self._write(resource, desired, live or await self._unseen(resource, desired))
        self._applied[place] = Applied(digest, _shape(written), _part(desired, written))
        return written

    def _is_settled(self, place: Place, digest: bytes, desired: Object, live: Object) -> bool:
        """Whether this was applied already, and nothing of it has changed since."""
        applied = self._applied.get(place)
        if applied is None or applied.desired != digest or objects.is_deleting(live):
            return False
        shape = _shape(live)
        if applied.shape == shape:
            return True
        if applied.part != _part(desired, live):
            return False  # else another hand has changed what is its own, such as the number of replicas
        self._applied[place] = applied._replace(shape=shape)
        return True

    async def _unseen(self, resource: Resource, desired: Object) -> Object | None:
        """What the server has under the child's name, and the lister has not."""
        try:
            live = await self._children.client.get(resource, *_name_and_namespace(desired))
        except errors.NotFound:
            return None
        self._require_own(resource, live)
        return live

    async def _write(self, resource: Resource, desired: Object, live: Object | None) -> Object:
        """Apply the child to exactly the object that was looked at, or where there is none.

        It is created by apply too, not by POST: of what POST sets an apply takes nothing away later. Without
        force it is refused where an object of other fields came between.
        """
        manager = self._children.field_manager
        if live is None:
            return await self._children.client.apply(resource, desired, field_manager=manager, force=False)
        metadata = {**objects.metadata(desired), "uid": objects.uid(live)}
        exact = {**desired, "metadata": metadata}
        return await self._children.client.apply(resource, exact, field_manager=manager)

    def keep(self, resource: Resource, key: Key) -> None:
        """Keep a child as it is, though this reconcile applies none of its name."""
        self._desired.add((resource, key))

    async def prune(self, resource: Resource, live: Iterable[Object]) -> list[Object]:
        """Delete the children of one kind that were neither applied nor kept; those deleted.

        `live` are children of the parent; one of another controller is passed over.
        """
        surplus = [
            child
            for child in live
            if (resource, objects.key(child)) not in self._desired
            and objects.is_controlled_by(child, self._parent)
            and not objects.is_deleting(child)
        ]
        deleted = []
        for child in surplus:
            self._applied.pop((resource, objects.key(child)), None)
            if await delete(self._children.client, resource, child):
                deleted.append(child)
        return deleted

    def _require_own(self, resource: Resource, live: Object) -> None:
        if objects.is_controlled_by(live, self._parent):
            return
        if objects.controller_of(live) is not None:
            raise NotOwned(f"{resource.kind} {objects.key(live)} belongs to another controller")
        if not self._children.adopts:
            raise NotOwned(f"{resource.kind} {objects.key(live)} exists and has no controller")


async def delete(
    client: Client, resource: Resource, obj: Object, *, grace_period_s: int | None = None
) -> bool:
    """Delete exactly this object; False if it was gone already, or another has its name by now."""
    try:
        await client.delete(
            resource,
            objects.name(obj),
            objects.namespace(obj),
            uid=objects.uid(obj),
            grace_period_s=grace_period_s,
        )
    except (errors.NotFound, errors.Conflict):
        return False
    return True


async def is_current(client: Client, resource: Resource, parent: Object) -> bool:
    """Whether the server still has this parent as it was looked at: asked before children are created.

    A cache that lags behind (its watch broke, say) may show a parent that is gone. Its children
    would be collected, made again, and so on as fast as both sides can.
    """
    try:
        live = await client.get(resource, objects.name(parent), objects.namespace(parent))
    except errors.NotFound:
        return False
    same = objects.uid(live) == objects.uid(parent) and objects.generation(live) == objects.generation(parent)
    return same and not objects.is_deleting(live)


def _name_and_namespace(obj: Object) -> tuple[str, str]:
    return objects.name(obj), objects.namespace(obj)


def _shape(obj: Object) -> bytes:
    """All of an object that an apply could change: not its status, version and bookkeeping of fields."""
    metadata = objects.metadata(obj)
    if metadata.get("generation"):
        return _digest({field: metadata.get(field) for field in _SHAPE})
    lasting = {k: v for k, v in metadata.items() if k not in ("resourceVersion", "managedFields")}
    return _digest({**obj, "metadata": lasting, "status": None})


def _part(desired: Object, live: Object) -> bytes:
    """What the child has of all that is desired; of its lists everything."""
    return _digest({"uid": objects.uid(live), "part": _common(desired, live)})


def _common(desired: Any, live: Any) -> Any:
    if not isinstance(desired, dict) or not isinstance(live, dict):
        return live
    return {key: _common(value, live[key]) for key, value in desired.items() if key in live}


def _digest(document: Object) -> bytes:
    encoded = msgspec.json.encode(document, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).digest()
