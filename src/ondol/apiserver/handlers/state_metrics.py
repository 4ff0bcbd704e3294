"""`/ondol/metrics/state`: what all objects are, in the families of kube-state-metrics.

Made when somebody asks, of the objects that are in memory anyway, kind by kind and in turns with other
requests: nothing is kept for it, and nothing is computed while nobody asks.
"""

from __future__ import annotations

from typing import Final

from ondol.api import own_paths
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import PIECE_BYTES, Emit, Request, Stream
from ondol.apiserver.state_metrics import pages, subjects
from ondol.apiserver.state_metrics.families import Subject
from ondol.base import comma_list, errors, metrics

PATH: Final = own_paths.STATE_METRICS
_COST: Final = 8
"""How many times as long as to parse a pod it takes to parse and tell of it."""


def get(core: Core, request: Request) -> Stream:
    """All kinds, or those that the parameter `resources` names by their plurals (`pods,nodes`)."""
    chosen = _chosen(request.query.get("resources") or "")

    async def produce(emit: Emit) -> None:
        for subject in chosen:
            await _tell(core, request.user.tenant, subject, emit)

    return Stream(produce, metrics.CONTENT_TYPE.encode())


def _chosen(text: str) -> tuple[Subject, ...]:
    names = comma_list.items(text)
    plurals = {subject.resource.plural for subject in subjects.ALL}
    if unknown := [name for name in names if name not in plurals]:
        raise errors.BadRequest(f"resources: there are no metrics of {', '.join(unknown)}")
    return tuple(subject for subject in subjects.ALL if not names or subject.resource.plural in names)


async def _tell(core: Core, user: str, subject: Subject, emit: Emit) -> None:
    served = core.catalogue.of(subject.resource)
    records = core.store.page(served.bucket, served.prefix("")).records
    read = core.reader(served, len(records))
    section = pages.Section(subject, core.config.metric_labels, core.config.metric_annotations)
    async for part in core.turns.slices(user, records, _COST):
        for record in part:
            section.add(read(record))
    gathered = bytearray()
    for piece in section.pieces():
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            await emit(bytes(gathered))
            gathered.clear()
            await core.turns.next(user)
    if gathered:
        await emit(bytes(gathered))
