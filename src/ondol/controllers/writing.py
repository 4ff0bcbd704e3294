"""Writing what a controller decided, and only when it differs: an idle controller writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.client import Client


def difference(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> Object:
    """The merge patch that gives each field of `wanted` its value; None means the field is absent."""
    return {field: value for field, value in wanted.items() if current.get(field) != value}


async def write_status(client: Client, resource: Resource, obj: Object, wanted: Mapping[str, Any]) -> bool:
    """Patch the status where it differs from `wanted`; whether there was anything to write."""
    changes = difference(objects.status(obj), wanted)
    if not changes:
        return False
    # The uid keeps a status from landing on a new object of the same name.
    patch = {"metadata": {"uid": objects.uid(obj)}, "status": changes}
    try:
        await client.patch(
            resource, objects.name(obj), objects.namespace(obj), patch=patch, subresource="status"
        )
    except errors.NotFound:
        return False  # deleted meanwhile
    return True


async def is_current(client: Client, resource: Resource, obj: Object) -> bool:
    """Whether the server still has this object as it was looked at: asked before children are made.

    A cache that lags behind (its watch broke, say) may show a parent that is gone. Its children
    would be collected, made again, and so on as fast as both sides can.
    """
    try:
        live = await client.get(resource, objects.name(obj), objects.namespace(obj))
    except errors.NotFound:
        return False
    same = objects.uid(live) == objects.uid(obj) and objects.generation(live) == objects.generation(obj)
    return same and not objects.is_deleting(live)


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
