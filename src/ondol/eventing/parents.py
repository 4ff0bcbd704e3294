"""Looks before children are made: a cache that lags behind may show a parent that is gone."""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.client import Client
from ondol.sdk import Retry, children

_AGAIN_S: Final = 1.0


async def require_current(client: Client, resource: Resource, parent: Object, *live: Object | None) -> None:
    """Nothing if every child is there (`live`); else `Retry` unless the server has the parent as it is here.

    Children of one that is gone would be collected, and made again, as fast as both sides can.
    """
    if None in live and not await children.is_current(client, resource, parent):
        raise Retry(f"{resource.kind} {objects.key(parent)} is not as it was", after_s=_AGAIN_S)
