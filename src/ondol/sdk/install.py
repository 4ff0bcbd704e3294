"""Install CustomResourceDefinitions and wait until their kinds are served."""

from __future__ import annotations

from collections.abc import Iterable

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import Clock, SystemClock
from ondol.client import Client
from ondol.sdk import schema
from ondol.sdk.model import CustomResource

_WAIT_S = 30.0


async def install_crds(
    client: Client,
    crds: Iterable[Object | type[CustomResource]],
    *,
    clock: Clock | None = None,
    wait_s: float = _WAIT_S,
) -> None:
    """Apply each definition (a document or a typed resource), then wait until all are Established."""
    clock = clock or SystemClock()
    documents = [schema.crd(crd) if isinstance(crd, type) else crd for crd in crds]
    for document in documents:
        await client.apply(resources.CUSTOM_RESOURCE_DEFINITION, document)
    deadline = clock.monotonic() + wait_s
    for document in documents:
        await _established(client, objects.name(document), clock, deadline)


async def _established(client: Client, name: str, clock: Clock, deadline: float) -> None:
    while True:
        crd = await client.get(resources.CUSTOM_RESOURCE_DEFINITION, name)
        if conditions.is_true(crd, "Established"):
            return
        if clock.monotonic() >= deadline:
            raise errors.Timeout(f"{name} was not established in time: {list(conditions.of(crd))}")
        await clock.sleep(0.05)
