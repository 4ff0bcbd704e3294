"""All deliveries of a process: a `Dispatch` for each consumer that has a route, and their heartbeat."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.abc

from ondol.base import errors, log
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.journal.port import WORKING_S, ConsumerConfig, ConsumerState, Stored
from ondol.eventing.plane import records
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.dispatch import Attempt, Dispatch, Shared
from ondol.eventing.plane.routes import Route

_KEPT: Final = ("stream", "consumer", "is_ordered", "window", "source")


class Dispatcher:
    """`ensure` and `remove` routes at any time; they are served while `run` runs."""

    def __init__(self, shared: Shared, counts: Counts) -> None:
        self._shared = shared
        self._counts = counts
        self._dispatches: dict[str, Dispatch] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._log = log.get("dispatcher")

    async def run(self) -> None:
        """Serve, until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            for dispatch in self._dispatches.values():
                self._tasks.start_soon(dispatch.run)
            await self._beat()

    async def _beat(self) -> None:
        """While anything is in hand, have the journal know every few seconds; else sleep."""
        busy = self._shared.busy
        while True:
            await busy.wait()
            busy.clear()
            await self._shared.clock.sleep(WORKING_S)
            for dispatch in self._dispatches.values():
                if dispatch.in_hand:
                    dispatch.beat()
                    busy.set()

    def streams(self) -> dict[str, list[Route]]:
        """The routes of each stream."""
        routes: dict[str, list[Route]] = {}
        for dispatch in self._dispatches.values():
            routes.setdefault(dispatch.route.stream, []).append(dispatch.route)
        return routes

    async def ensure(self, route: Route) -> ConsumerState:
        """Have the consumer, and deliver by the route."""
        journal = self._shared.journal
        state = await journal.create_consumer(route.stream, ConsumerConfig(route.consumer, route.topics))
        dispatch = self._dispatches.get(route.consumer)
        if dispatch is not None and self._is_same(dispatch.route, route):
            dispatch.follow(route)
            return state
        if dispatch is not None:
            self._end(route.consumer)
        if route.is_ordered and state.pending:
            # Nobody has them in hand any more; what came after them must not go first.
            await journal.rewind(route.stream, route.consumer)
        self._begin(route)
        return state

    def serves(self, consumer: str) -> bool:
        """Whether it has a route with a subscriber."""
        dispatch = self._dispatches.get(consumer)
        return dispatch is not None and dispatch.route.subscriber is not None

    def is_ordered(self, consumer: str) -> bool:
        return self._dispatches[consumer].route.is_ordered

    async def attempt(self, consumer: str, event: Event, handed_on: records.Pairs) -> Attempt:
        """Send an event to a consumer's subscriber once, past the journal."""
        return await self._dispatches[consumer].attempt(event, handed_on)

    async def replayed(self, consumer: str, event: Event, stored: Stored) -> bool | None:
        """Deliver an event of the history: whether it was taken, None if it is not for this consumer."""
        dispatch = self._dispatches.get(consumer)
        if dispatch is None:
            raise errors.Unavailable("the trigger is not served any more")
        return await dispatch.replayed(event, stored)

    def forget(self, consumer: str) -> None:
        """Deliver no more; the consumer stays."""
        if consumer in self._dispatches:
            self._end(consumer)

    async def remove(self, stream: str, consumer: str) -> None:
        """Deliver no more, and forget how far the consumer is."""
        self.forget(consumer)
        await self._shared.journal.delete_consumer(stream, consumer)

    @staticmethod
    def _is_same(old: Route, new: Route) -> bool:
        return all(getattr(old, field) == getattr(new, field) for field in _KEPT)

    def _begin(self, route: Route) -> None:
        dispatch = Dispatch(route, self._shared, self._counts.deliveries(route.source))
        self._dispatches[route.consumer] = dispatch
        if self._tasks is not None:
            self._tasks.start_soon(dispatch.run)

    def _end(self, consumer: str) -> None:
        dispatch = self._dispatches.pop(consumer)
        dispatch.stop()
        self._counts.forget(dispatch.route.source)
