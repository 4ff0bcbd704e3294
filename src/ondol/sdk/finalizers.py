"""Finalizers: names on an object that keep it until each one's owner has cleaned up.

Both writes carry the resourceVersion that was read, for a list cannot be merged: `errors.Conflict`
means another writer was faster.
"""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.client import Client


async def add(client: Client, resource: Resource, obj: Object, finalizer: str) -> Object:
    """The object with the finalizer, written if it was not there."""
    present = objects.finalizers(obj)
    if finalizer in present:
        return obj
    return await _write(client, resource, obj, [*present, finalizer])


async def remove(client: Client, resource: Resource, obj: Object, finalizer: str) -> None:
    """Let the object go as far as this finalizer is concerned."""
    present = objects.finalizers(obj)
    if finalizer not in present:
        return
    try:
        await _write(client, resource, obj, [name for name in present if name != finalizer])
    except errors.NotFound:
        return


async def _write(client: Client, resource: Resource, obj: Object, desired: list[str]) -> Object:
    metadata = {"finalizers": desired, "resourceVersion": objects.resource_version(obj)}
    return await client.patch(
        resource, objects.name(obj), objects.namespace(obj), patch={"metadata": metadata}
    )
