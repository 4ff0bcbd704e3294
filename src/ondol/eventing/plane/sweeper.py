"""What is left in the journal of objects that were deleted while the data plane was away goes as well."""

from __future__ import annotations

from ondol.api import objects
from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.contracts import eventing
from ondol.eventing.journal.port import Journal
from ondol.eventing.plane import planning
from ondol.sdk import Manager

_AGAIN_S = 5.0


class Sweeper:
    """Looks once, when the caches are complete and the journal can be reached."""

    def __init__(self, manager: Manager, journal: Journal) -> None:
        self._journal = journal
        self._clock: Clock = manager.clock
        self._parents = [manager.informer(each) for each in (eventing.BROKER, eventing.IN_MEMORY_CHANNEL)]
        self._triggers = manager.informer(eventing.TRIGGER)
        self._log = log.get("sweeper")

    async def run(self) -> None:
        while True:
            try:
                await self._sweep()
            except errors.ApiError as error:
                self._log.debug("journal_not_swept", error=error.message)
                await self._clock.sleep(_AGAIN_S)
            else:
                return

    async def _sweep(self) -> None:
        # Objects are looked at after what is kept for them: what was just made has its object in the cache.
        streams = await self._journal.streams()
        parents = {objects.uid(obj) for informer in self._parents for obj in informer.lister.list()}
        for stream in streams:
            owner = planning.owner(stream)
            if owner and owner not in parents:
                self._log.info("stream_removed", stream=stream, why="its object is gone")
                await self._journal.delete_stream(stream)
            elif owner and stream == planning.stream(eventing.BROKER.kind, owner):
                await self._sweep_consumers(stream)

    async def _sweep_consumers(self, stream: str) -> None:
        """A channel's own reconciler does this for its subscribers."""
        consumers = await self._journal.consumers(stream)
        triggers = {objects.uid(trigger) for trigger in self._triggers.lister.list()}
        for consumer in consumers:
            if consumer not in triggers and not consumer.startswith(planning.REPLAY_PREFIX):
                self._log.info("consumer_removed", stream=stream, consumer=consumer)
                await self._journal.delete_consumer(stream, consumer)
