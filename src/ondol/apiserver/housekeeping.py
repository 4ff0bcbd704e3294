"""What a running server does beside answering: forgets history and lets old Events go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio.lowlevel
import anyio.to_thread

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver import bootstrap, deleting, writing
from ondol.apiserver.core import Core
from ondol.base import clock, errors, log, memory

_EVENT_SWEEP_S: Final = 60.0


def tasks(core: Core) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    return [
        lambda: _compact(core),
        lambda: core.store.pace_forever(core.clock),
        lambda: _expire_events(core),
        lambda: bootstrap.keep(core),
        lambda: _give_back_memory(core),
    ]


async def _compact(core: Core) -> None:
    """Forget history at each interval; a full disk only puts that off."""
    while True:
        try:
            await core.store.compact_forever(core.clock, core.config.compaction_interval_s)
        except errors.OndolError as error:
            log.get("apiserver").warning("compaction_failed", error=str(error))


async def _give_back_memory(core: Core) -> None:
    """What a burst of work left free, as the history it made is forgotten."""
    while True:
        await core.clock.sleep(core.config.compaction_interval_s)
        await anyio.to_thread.run_sync(memory.give_back)


async def _expire_events(core: Core) -> None:
    served = core.catalogue.of(resources.EVENT)
    writes = writing.Writes(core, served, bootstrap.OPTIONS)
    while True:
        await core.clock.sleep(min(_EVENT_SWEEP_S, core.config.event_ttl_s))
        oldest = core.clock.now() - core.config.event_ttl_s
        records = core.store.page(served.bucket, served.prefix("")).records
        read = core.reader(served, len(records))
        async with contextlib.aclosing(core.turns.slices(bootstrap.SELF.name, records)) as parts:
            async for part in parts:
                for event in [event for event in map(read, part) if _last_seen(event) <= oldest]:
                    await _expire(writes, event)


async def _expire(writes: writing.Writes, event: Object) -> None:
    options = deleting.DeleteOptions(uid=objects.uid(event))
    try:
        await deleting.delete(writes, objects.namespace(event), objects.name(event), options)
    except errors.ApiError as error:
        log.get("apiserver").warning("event_not_expired", name=objects.name(event), error=str(error))


def _last_seen(event: Object) -> float:
    """When an event was last written, as well as it says."""
    series = event.get("series") or {}
    timestamp = (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )
    return clock.parse_rfc3339(timestamp)
