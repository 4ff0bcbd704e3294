"""Install CustomResourceDefinitions and wait until their kinds are served."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Final

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors, log
from ondol.base.clock import Clock, SystemClock
from ondol.client import Client
from ondol.sdk import schema
from ondol.sdk.model import CustomResource

_WAIT_S: Final = 30.0
_POLL_S: Final = 0.05


async def install_crds(
    client: Client,
    crds: Iterable[Object | type[CustomResource]],
    *,
    clock: Clock | None = None,
    wait_s: float = _WAIT_S,
) -> None:
    """Apply each definition (a document or a typed resource), then wait until all are Established.

    What the server warns of is logged: a rule that it does not enforce is no rule.
    """
    clock = clock or SystemClock()
    documents = [schema.crd(crd) if isinstance(crd, type) else crd for crd in crds]
    for document in documents:
        await _logging_warnings(client, objects.name(document)).apply(
            resources.CUSTOM_RESOURCE_DEFINITION, document
        )
    deadline = clock.monotonic() + wait_s
    for document in documents:
        await _wait_until_established(client, objects.name(document), clock, deadline)
        for resource in _served(document):
            await _wait_until_served(client, resource, clock, deadline)


def _logging_warnings(client: Client, name: str) -> Client:
    """The client, logging what the server warns of: a webhook that it does not call, for instance."""
    logging = copy.copy(client)

    def record(warning: str) -> None:
        log.get("install").warning("definition_warning", crd=name, warning=warning)
        if client.on_warning is not None:
            client.on_warning(warning)

    logging.on_warning = record
    return logging


async def _wait_until_established(client: Client, name: str, clock: Clock, deadline: float) -> None:
    while True:
        crd = await client.get(resources.CUSTOM_RESOURCE_DEFINITION, name)
        if conditions.is_true(crd, "Established"):
            return
        if clock.monotonic() >= deadline:
            raise errors.Timeout(f"{name} was not established in time: {list(conditions.of(crd))}")
        await clock.sleep(_POLL_S)


async def _wait_until_served(client: Client, resource: Resource, clock: Clock, deadline: float) -> None:
    """A server says Established a moment before it serves the kind; requests would still find nothing."""
    while True:
        try:
            await client.list(resource, limit=1)
        except errors.NotFound:
            if clock.monotonic() >= deadline:
                raise
            await clock.sleep(_POLL_S)
        else:
            return


def _served(crd: Object) -> Iterator[Resource]:
    spec = objects.spec(crd)
    names = spec["names"]
    for version in spec["versions"]:
        if version.get("served"):
            namespaced = spec["scope"] == "Namespaced"
            yield Resource(
                spec["group"], version["name"], names["plural"], names["kind"], namespaced=namespaced
            )
