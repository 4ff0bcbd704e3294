"""delete and deletecollection."""

from __future__ import annotations

from typing import Any

from ondol.api import status
from ondol.api.objects import Object
from ondol.apiserver import answers, bodies, deleting, documents, listing, writing
from ondol.apiserver.core import Core
from ondol.apiserver.deleting import DeleteOptions
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Record


async def _asked(core: Core, request: Request, served: Served) -> tuple[DeleteOptions, writing.Writes]:
    """Delete options, from the body if there is one, else from the query."""
    body = await request.body()
    document: Object = {}
    if body:
        document = bodies.decode(body, bodies.media_type(request.header(b"content-type")))
        if document.get("kind") not in (None, "", "DeleteOptions"):
            raise errors.BadRequest(f"the body of a delete must be DeleteOptions, not {document['kind']}")
    else:
        document = _from_query(request)
    grace_s = document.get("gracePeriodSeconds")
    if grace_s is not None and (not isinstance(grace_s, int) or isinstance(grace_s, bool)):
        raise errors.BadRequest("gracePeriodSeconds: must be a whole number")
    how = changing.options(request)
    if "All" in (document.get("dryRun") or ()) and not how.dry_run:
        how = writing.Options(how.user, how.manager, dry_run=True, warn=how.warn)
    return DeleteOptions.of(document), writing.Writes(core, served, how)


def _from_query(request: Request) -> Object:
    found: dict[str, Any] = {}
    if (grace_s := request.number("gracePeriodSeconds")) is not None:
        found["gracePeriodSeconds"] = grace_s
    if policy := request.query.get("propagationPolicy"):
        found["propagationPolicy"] = policy
    if "orphanDependents" in request.query:
        found["orphanDependents"] = request.flag("orphanDependents")
    return found


async def delete(core: Core, request: Request, served: Served) -> Reply:
    info = request.info
    asked, writes = await _asked(core, request, served)
    value, gone = await deleting.delete(writes, info.namespace, info.name, asked)
    if not gone or served.strategy.returns_deleted:
        return answers.one(core, request, served, value)
    last = documents.parse(value)
    return answers.document(request, status.success(served.resource, info.name, last["metadata"]["uid"]))


async def delete_collection(core: Core, request: Request, served: Served) -> Reply:
    asked, writes = await _asked(core, request, served)
    chosen = listing.selection(request, served)
    listed = await listing.listing(core, request, served, chosen)
    removed: list[Record] = []
    for record in listed.records:
        namespace, _, name = record.name.rpartition("/")
        try:
            value, _ = await deleting.delete(writes, namespace, name, asked)
        except errors.NotFound:
            continue  # someone else was faster: it is gone, as wanted
        removed.append(Record(record.name, record.revision, value))
    result = listing.Listing(removed, core.store.revision, listed.continue_token, listed.remaining)
    return answers.many(core, request, served, result)
