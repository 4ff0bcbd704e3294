"""get, list and watch."""

from __future__ import annotations

import dataclasses

from ondol.api import status
from ondol.apiserver import answers, listing, selecting, watching
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.lenses import Lens
from ondol.apiserver.served import Served


async def get(core: Core, request: Request, served: Served) -> Answer:
    info = request.info
    record = core.record(served, info.namespace, info.name)
    if record is None:
        await _wait_for_version(core, request)
        record = core.record(served, info.namespace, info.name)
    if record is None:
        raise status.not_found(served.resource, info.name)
    (shown,) = await answers.shown(request, served, [record])
    return answers.one(core, request, served, served.as_served(shown.value))


async def _wait_for_version(core: Core, request: Request) -> None:
    if version := request.query.get("resourceVersion"):
        await listing.reached(core, listing.revision_of(version))


async def get_part(core: Core, request: Request, served: Served, lens: Lens) -> Answer:
    info = request.info
    record = core.record(served, info.namespace, info.name)
    if record is None:
        raise status.not_found(served.resource, info.name)
    if lens.subresource == "status":
        (shown,) = await answers.shown(request, served, [record])
        return answers.one(core, request, served, served.as_served(shown.value))
    return answers.document(request, lens.get(core.document(served, await served.shown(record))))


async def list_(core: Core, request: Request, served: Served) -> Answer:
    chosen = selecting.selection(request, served)
    answers.accepted_by(request)
    listed = await listing.listing(core, request, served, chosen)
    records = await answers.shown(request, served, listed.records)
    if records is not listed.records:
        listed = dataclasses.replace(listed, records=records)
    return answers.many(core, request, served, listed)


async def watch(core: Core, request: Request, served: Served) -> Answer:
    chosen = selecting.selection(request, served)
    return await watching.watch(core, request, served, chosen, answers.frames(core, request, served))
