"""componentstatuses: long deprecated, answered and not stored; the server speaks of its store alone."""

from __future__ import annotations

from typing import Final

from ondol.api import fields, objects, status
from ondol.api.objects import Object
from ondol.apiserver import answers, documents, selecting
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.listing import Listing
from ondol.apiserver.served import Served
from ondol.store import Record

_STORE: Final = "store"


async def read(core: Core, request: Request, served: Served) -> Answer:
    """One component, or all that are selected."""
    components = {_STORE: _healthy(served, _STORE)}
    if request.info.verb == "get":
        component = components.get(request.info.name)
        if component is None:
            raise status.not_found(served.resource, request.info.name)
        return answers.one(core, request, served, documents.encode(component))
    chosen = selecting.selection(request, served)
    records = [
        Record(name, 0, documents.encode(component))
        for name, component in components.items()
        if fields.matches(chosen.field, served.resource, component)
        and chosen.label.matches(objects.labels(component))
    ]
    return answers.many(core, request, served, Listing(records, core.store.revision))


def _healthy(served: Served, name: str) -> Object:
    """It answers, or this would not have been reached."""
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    resource = served.resource
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "conditions": [condition],
    }
