"""pods/eviction: a delete whose reason is recorded. There are no disruption budgets, so none is checked."""

from __future__ import annotations

from typing import Final

from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.apiserver import answers, deleting, lenses, schemas, writing
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing, removing
from ondol.apiserver.served import Served
from ondol.apiserver.subresources.binding import SUCCESS

_EVICTION: Final = Resource("policy", "v1", "evictions", "Eviction")


async def create(core: Core, request: Request, served: Served) -> Reply:
    eviction = await changing.read_typed(core, request, _EVICTION, schemas.EVICTION)
    name, namespace = request.info.name, request.info.namespace
    document = eviction.get("deleteOptions") or {}
    options = deleting.DeleteOptions.of(document)
    how = removing.dry_run_too(changing.options(request), document)
    writes = writing.Writes(core, served, how)

    def marked(pod: Object) -> Object:
        if objects.is_deleting(pod):
            return pod
        listed = conditions.set(
            conditions.of(pod),
            "DisruptionTarget",
            "True",
            reason="EvictionByEvictionAPI",
            message="Eviction API: evicting",
            now=core.clock.now(),
        )
        return {**pod, "status": {**objects.status(pod), "conditions": listed}}

    await writes.update(namespace, name, lenses.Status(served.strategy.status_reset), marked)
    await deleting.delete(writes, namespace, name, options)
    return answers.document(request, SUCCESS, 201)
