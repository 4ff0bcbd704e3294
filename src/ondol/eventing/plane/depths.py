"""How far each consumer is behind, asked of the journal when somebody looks at the metrics."""

from __future__ import annotations

from typing import Final

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.eventing.journal.port import Journal
from ondol.eventing.plane.counts import Counts, Depth
from ondol.eventing.plane.dispatcher import Dispatcher

_PAUSE_S: Final = 2.0


class Depths:
    """Refreshes `Counts.depths` after a look, so that the next one has them; without looks it sleeps."""

    def __init__(self, journal: Journal, dispatcher: Dispatcher, counts: Counts, clock: Clock) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self._counts = counts
        self._clock = clock

    async def run(self) -> None:
        while True:
            await self._counts.asked.wait()
            self._counts.asked.clear()
            await self._refresh()
            await self._clock.sleep(_PAUSE_S)

    async def _refresh(self) -> None:
        for stream, routes in self._dispatcher.streams().items():
            try:
                states = await self._journal.consumers(stream)
            except errors.ApiError:
                continue  # the numbers stay as old as they are
            for route in routes:
                if (state := states.get(route.consumer)) is not None:
                    depth = Depth(state.waiting, state.pending, state.redelivered)
                    self._counts.depths[route.source] = depth
