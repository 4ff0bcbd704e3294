"""Replays: events of a broker's history are delivered once more, to one trigger or to all, once.

How far one is stands in its status, so that it goes on there after a crash; what came since comes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import parse_rfc3339, rfc3339
from ondol.contracts import eventing
from ondol.eventing.journal.port import Stored
from ondol.eventing.plane import planning, records
from ondol.eventing.plane.errands import Errands
from ondol.eventing.plane.reporting import FIELD_MANAGER
from ondol.eventing.plane.serving import RETRIES, Services, is_ours, named_broker
from ondol.sdk import Controller, Manager, Retry, status

COMPLETE: Final = "Complete"
_PAGE: Final = 64
_AT_ONCE: Final = 16
_WAIT_S: Final = 5.0
_REPLAYS_AT_ONCE: Final = 8
_PROGRESS: Final = ("delivered", "failed", "position", "end", "startTime")


class ReplayServer:
    """Has Replays done, a page of events at a time, each as an errand: a long one holds up no other."""

    def __init__(self, manager: Manager, services: Services) -> None:
        self._services = services
        self._clock = manager.clock
        self._errands = Errands(manager.clock, manager.rng, at_once=_REPLAYS_AT_ONCE)
        self._replays = manager.informer(eventing.REPLAY)
        self._brokers = manager.informer(eventing.BROKER)
        self._triggers = manager.informer(eventing.TRIGGER)
        self._controller = Controller("events-replay", self.reconcile, backoff=RETRIES)
        self._newest: dict[Key, Object] = {}
        """Replays as they were written last: the cache may still have an older one."""
        self._status = status.Writer(
            manager.client,
            eventing.REPLAY,
            field_manager=FIELD_MANAGER,
            fields=("delivered", "failed", "position", "end", "startTime", "completionTime"),
            conditions=(COMPLETE,),
        )

    def controller(self) -> Controller:
        self._controller.watch(self._replays)
        return self._controller

    async def run(self) -> None:
        """Do what the reconciler begins."""
        await self._errands.run()

    async def reconcile(self, key: Key) -> None:
        replay = self._replays.lister.get(key)
        if replay is None or objects.is_deleting(replay):
            self._errands.end(key)
            self._newest.pop(key, None)
            return
        newest = self._newest.get(key, replay)
        if objects.uid(newest) != objects.uid(replay):
            newest = replay
        if conditions.is_true(replay, COMPLETE) or conditions.is_true(newest, COMPLETE):
            return

        def ended(after_s: float) -> None:
            self._controller.enqueue(key, after_s)

        self._errands.begin(key, objects.uid(replay), lambda: self._do(newest), ended)

    async def _do(self, replay: Object) -> None:
        """Page after page, from where its status says that it is."""
        while not conditions.is_true(replay, COMPLETE):
            try:
                newest = await self._page(replay)
            except (Retry, errors.ApiError) as error:
                await self._write(replay, objects.status(replay), waits=str(error))
                raise
            if newest is replay:
                raise Retry("the Replay is gone, and the cache does not know it yet", after_s=_WAIT_S)
            replay = newest

    async def _page(self, replay: Object) -> Object:
        """Deliver the next events, and say so; the Replay as it is then."""
        spec = objects.spec(replay)
        broker = self._brokers.lister.get(Key(objects.namespace(replay), str(spec["broker"])))
        if broker is None or not is_ours(broker):
            raise Retry(f"there is no broker {spec['broker']}", after_s=_WAIT_S)
        consumers = self._consumers(replay, broker)
        stream = planning.stream(eventing.BROKER.kind, objects.uid(broker))
        progress = dict(objects.status(replay))
        if "end" not in progress:
            return await self._write(replay, await self._begun(stream, replay))
        position, end = int(progress["position"]), int(progress["end"])
        stored = await self._services.journal.read(stream, sequence=position + 1, limit=_PAGE)
        page = [each for each in stored if each.sequence <= end]
        counts = [0, 0]
        for consumer in consumers:
            await self._deliver(consumer, page, counts)
        progress["delivered"] = int(progress.get("delivered") or 0) + counts[0]
        progress["failed"] = int(progress.get("failed") or 0) + counts[1]
        progress["position"] = page[-1].sequence if page else end
        is_done = not page or page[-1].sequence >= end
        return await self._write(replay, progress, is_done=is_done)

    def _consumers(self, replay: Object, broker: Object) -> list[str]:
        """The consumers that get the events; `Retry` while one of them is not served."""
        name = objects.spec(replay).get("trigger")
        chosen = [
            objects.uid(trigger)
            for trigger in self._triggers.lister.list(objects.namespace(replay))
            if named_broker(trigger) == objects.key(broker) and name in (None, objects.name(trigger))
        ]
        if name and not chosen:
            raise Retry(f"the broker has no trigger {name}", after_s=_WAIT_S)
        for consumer in chosen:
            if not self._services.dispatcher.serves(consumer):
                raise Retry("a trigger of the broker is not served yet", after_s=_WAIT_S)
        return chosen

    async def _begun(self, stream: str, replay: Object) -> dict[str, Any]:
        """The progress of one that begins: before its first event, and its last one as it is now."""
        spec = objects.spec(replay)
        state = await self._services.journal.state(stream)
        first = await self._sequence(stream, spec.get("from") or {}, default=state.first)
        end = await self._end(stream, spec.get("until") or {}, state.last)
        return {
            "delivered": 0,
            "failed": 0,
            "position": max(first - 1, 0),
            "end": end,
            "startTime": rfc3339(self._clock.now()),
        }

    async def _sequence(self, stream: str, place: Mapping[str, Any], *, default: int) -> int:
        """The sequence of the first event at a place or behind it."""
        if place.get("sequence"):
            return int(place["sequence"])
        if not place.get("time"):
            return default
        since_ns = round(parse_rfc3339(str(place["time"])) * 1e9)
        following = await self._services.journal.read(stream, since_ns=since_ns, limit=1)
        if following:
            return following[0].sequence
        return (await self._services.journal.state(stream)).last + 1

    async def _end(self, stream: str, place: Mapping[str, Any], last: int) -> int:
        if place.get("sequence"):
            return min(int(place["sequence"]), last)
        if not place.get("time"):
            return last
        return min(await self._sequence(stream, place, default=last + 1) - 1, last)

    async def _deliver(self, consumer: str, page: Sequence[Stored], counts: list[int]) -> None:
        """Deliver a page to one trigger, in order if it wants that; without the journal it ends."""
        dispatcher = self._services.dispatcher
        limit = anyio.Semaphore(1 if dispatcher.is_ordered(consumer) else _AT_ONCE)
        failures: list[errors.ApiError] = []

        async def deliver(stored: Stored) -> None:
            event = records.event(stored.headers, stored.data)
            async with limit:
                try:
                    taken = await dispatcher.replayed(consumer, event, stored)
                except errors.ApiError as error:
                    failures.append(error)
                    return
            if taken is not None:
                counts[0 if taken else 1] += 1

        async with anyio.create_task_group() as tasks:
            for stored in page:
                tasks.start_soon(deliver, stored)
        if failures:
            raise failures[0]

    async def _write(
        self, replay: Object, progress: Mapping[str, Any], *, is_done: bool = False, waits: str = ""
    ) -> Object:
        """Say how far it is; the Replay as written."""
        now = self._clock.now()
        listed = conditions.set(
            conditions.of(replay),
            COMPLETE,
            conditions.TRUE if is_done else conditions.FALSE,
            reason="Done" if is_done else "Waiting" if waits else "Delivering",
            message=waits,
            now=now,
        )
        fields: Object = {field: progress[field] for field in _PROGRESS if field in progress}
        if is_done:
            fields["completionTime"] = rfc3339(now)
        written = await self._status.write(replay, {**fields, "conditions": listed})
        if written is None:
            return replay
        self._newest[objects.key(replay)] = written
        return written
