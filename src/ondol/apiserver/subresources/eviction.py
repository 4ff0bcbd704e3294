"""pods/eviction: a delete that says why. There are no disruption budgets yet, so none is asked."""

from __future__ import annotations

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.apiserver import answers, bodies, deleting, lenses, writing
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.apiserver.subresources.binding import SUCCESS
from ondol.base import errors


async def create(core: Core, request: Request, served: Served) -> Reply:
    body = await request.body()
    eviction = bodies.decode(body, bodies.media_type(request.header(b"content-type")))
    name, namespace = request.info.name, request.info.namespace
    if objects.name(eviction) not in ("", name):
        raise errors.BadRequest(f"name in URL does not match name in Eviction object: {name}")
    found = eviction.get("deleteOptions") or {}
    asked = deleting.DeleteOptions.of(found)
    how = changing.options(request)
    if "All" in (found.get("dryRun") or ()):
        how = writing.Options(how.user, how.manager, dry_run=True, warn=how.warn)
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

    await writes.update(namespace, name, lenses.STATUS, marked)
    await deleting.delete(writes, namespace, name, asked)
    return answers.document(request, SUCCESS, 201)
