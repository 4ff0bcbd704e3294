"""delete and deletecollection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import anyio

from ondol.api import status
from ondol.api.objects import Object, Resource
from ondol.apiserver import answers, deleting, documents, listing, schemas, selecting, writing
from ondol.apiserver.core import Core
from ondol.apiserver.deleting import DeleteOptions
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.handlers import changing
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Record

_AT_ONCE: Final = 64
"""Deletes of one collection under way together: what waits for the disk goes there in one commit."""
_OPTIONS: Final = Resource("meta.k8s.io", "v1", "deleteoptions", "DeleteOptions", namespaced=False)


async def _requested(core: Core, request: Request, served: Served) -> tuple[DeleteOptions, writing.Writes]:
    """Delete options, from the body if there is one, else from the query."""
    how = changing.options(request)
    body = await request.body()
    if not body:
        return DeleteOptions.of(_from_query(request)), writing.Writes(core, served, how)
    document = await changing.beside(
        core,
        request,
        lambda: schemas.DELETE_OPTIONS.read(
            changing.document_in(body, request, schemas.DELETE_OPTIONS, _OPTIONS)
        ),
    )
    if document.get("kind") not in (None, "", "DeleteOptions"):
        raise errors.BadRequest(f"the body of a delete must be DeleteOptions, not {document['kind']}")
    return DeleteOptions.of(document), writing.Writes(core, served, dry_run_too(how, document))


def dry_run_too(how: writing.Options, document: Object) -> writing.Options:
    """The options of a write, with what the delete options of its body say of a dry run."""
    dry_runs = [changing.dry_run(value) for value in document.get("dryRun") or ()]
    return dataclasses.replace(how, dry_run=True) if any(dry_runs) else how


def _from_query(request: Request) -> Object:
    options: dict[str, Any] = {}
    if (grace_s := request.number("gracePeriodSeconds")) is not None:
        options["gracePeriodSeconds"] = grace_s
    if policy := request.query.get("propagationPolicy"):
        options["propagationPolicy"] = policy
    if "orphanDependents" in request.query:
        options["orphanDependents"] = request.flag("orphanDependents")
    return options


async def delete(core: Core, request: Request, served: Served) -> Answer:
    info = request.info
    options, writes = await _requested(core, request, served)
    value, is_removed = await deleting.delete(writes, info.namespace, info.name, options)
    if not is_removed or served.strategy.returns_deleted:
        return answers.one(core, request, served, value)
    last = documents.parse(value)
    return answers.document(request, status.success(served.resource, info.name, last["metadata"]["uid"]))


async def delete_collection(core: Core, request: Request, served: Served) -> Answer:
    options, writes = await _requested(core, request, served)
    chosen = selecting.selection(request, served)
    listed = await listing.listing(core, request, served, chosen)
    removed = await _delete_all(writes, listed.records, options)
    result = listing.Listing(removed, core.store.revision, listed.continue_token, listed.remaining)
    return answers.many(core, request, served, result)


async def _delete_all(
    writes: writing.Writes, records: Sequence[Record], options: DeleteOptions
) -> list[Record]:
    """Delete many objects, in the order of the records; the first error ends it, with what is done done."""
    removed: dict[str, Record] = {}
    waiting = iter(records)
    failures: list[errors.ApiError] = []

    async def work() -> None:
        for record in waiting:
            if failures:
                return
            namespace, _, name = record.name.rpartition("/")
            try:
                value, _ = await deleting.delete(writes, namespace, name, options)
                removed[record.name] = Record(record.name, record.revision, value)
            except errors.NotFound:
                continue  # someone else was faster: it is gone, as wanted
            except errors.ApiError as error:
                failures.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(min(_AT_ONCE, len(records))):
            group.start_soon(work)
    if failures:
        raise failures[0]
    return [removed[record.name] for record in records if record.name in removed]
