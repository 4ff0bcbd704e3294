"""Deliveries on virtual time over a faulty journal, to a faulty subscriber, by a dispatcher that crashes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import anyio
import pytest

from ondol.base import errors
from ondol.base.signal import Signal
from ondol.eventing import filters
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery.policy import Policy
from ondol.eventing.exchange import Target
from ondol.eventing.journal.memory import MemoryJournal
from ondol.eventing.journal.port import Stored
from ondol.eventing.plane import letters, records
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.dispatch import Shared
from ondol.eventing.plane.dispatcher import Dispatcher
from ondol.eventing.plane.routes import Route, Source
from ondol.eventing.plane.tracing import Tracer
from ondol.sdk.testing import LoopClock, simulate
from ondol.web.calling import Answer

STREAM, DEAD = "B-1", "D-1"
KEYS, EACH = 5, 12
SOURCE = Source("Trigger", "default", "t", "b")


class Subscriber:
    """Implements `Sender`: takes events, and misbehaves for as long as `trouble` is not 0."""

    def __init__(self, clock: LoopClock, rng: random.Random) -> None:
        self.trouble = 0.3
        self.poison: set[str] = set()
        self.taken: list[str] = []
        self.letters: list[Event] = []
        self._clock = clock
        self._rng = rng

    async def send(self, target: Target, event: Event, _headers: object) -> Answer:
        await self._clock.sleep(self._rng.random() * 0.2)
        if target.url.endswith("/dead"):
            self.letters.append(event)
            return Answer(200, [], b"")
        if event.id in self.poison:
            return Answer(400, [], b"never")
        if self._rng.random() < self.trouble:
            return await self._misbehave(event, target.timeout_s or 0.0)
        self.taken.append(event.id)
        return Answer(200, [], b"")

    async def _misbehave(self, event: Event, timeout_s: float) -> Answer:
        match self._rng.randrange(4):
            case 0:
                raise errors.Unavailable("injected: refused")
            case 1:
                await self._clock.sleep(timeout_s)
                raise errors.Timeout("injected: no answer")
            case 2:  # it was taken, but the answer is lost
                self.taken.append(event.id)
                raise errors.Unavailable("injected: cut")
            case _:
                return Answer(503, [(b"retry-after", b"1")], b"busy")


class Scene:
    def __init__(self, seed: int, *, is_ordered: bool, retries: int = 10_000) -> None:
        self.clock, self.rng = LoopClock(), random.Random(seed)
        self.journal = MemoryJournal(clock=self.clock, rng=self.rng)
        self.subscriber = Subscriber(self.clock, self.rng)
        self.route = Route(
            stream=STREAM,
            consumer="t",
            source=SOURCE,
            predicate=filters.predicate(None, {"type": "wanted"}),
            topics=(records.topic("wanted"),),
            subscriber=Target("http://subscriber/", timeout_s=20),
            dead_stream=DEAD,
            policy=Policy(retries=retries, backoff_s=0.1, is_exponential=False, timeout_s=20),
            is_ordered=is_ordered,
            window=16,
        )

    async def dispatch(self, scope: anyio.CancelScope) -> None:
        """A dispatcher that lives until its scope is cancelled, as a process is killed."""
        tracer = Tracer(clock=self.clock, rng=self.rng)
        shared = Shared(self.journal, self.subscriber, self.clock, tracer, Signal())
        dispatcher = Dispatcher(shared, Counts())
        with scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(dispatcher.run)
                while True:
                    try:
                        await dispatcher.ensure(self.route)
                    except errors.ApiError:
                        await self.clock.sleep(0.5)
                    else:
                        break

    async def send(self, key: int) -> None:
        """Events of one key, each sent until it is accepted."""
        for number in range(EACH):
            event = events.new(id=f"{key}-{number:03d}", source="/s", type="wanted", partitionkey=str(key))
            while True:
                await self.clock.sleep(self.rng.random())
                try:
                    await self.journal.publish(STREAM, records.message(event))
                    break
                except errors.ApiError:
                    continue

    async def play(self) -> None:
        self.journal.lost_publish = self.journal.lost_answer = self.journal.lost_word = 0.1
        await self.journal.create_stream(STREAM, bytes_max=-1)
        await self.journal.create_stream(DEAD, bytes_max=-1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.journal.run)
            scope = anyio.CancelScope()
            tasks.start_soon(self.dispatch, scope)
            await self.clock.sleep(1)
            async with anyio.create_task_group() as senders:
                for key in range(KEYS):
                    senders.start_soon(self.send, key)
                for _ in range(6):
                    await self.clock.sleep(self.rng.random() * 6)
                    if self.rng.random() < 0.5:
                        await self.journal.outage(self.rng.random() * 3)
                    else:
                        self.journal.cut()
                        scope.cancel()
                        scope = anyio.CancelScope()
                        tasks.start_soon(self.dispatch, scope)
            self.journal.heal()
            self.subscriber.trouble = 0.0
            await self._settled()
            tasks.cancel_scope.cancel()

    async def _settled(self) -> None:
        with self.clock.fail_after(3600):
            while True:
                await self.clock.sleep(5)
                state = (await self.journal.consumers(STREAM))["t"]
                if not state.waiting and not state.pending:
                    return


ALL = {f"{key}-{number:03d}" for key in range(KEYS) for number in range(EACH)}


@pytest.mark.parametrize("seed", range(12))
def test_everything_that_was_accepted_is_delivered(seed: int) -> None:
    """Whatever crashes, goes away or is not heard: nothing is lost."""
    scene = Scene(seed, is_ordered=False)
    simulate(scene.play, seed=seed)
    assert set(scene.subscriber.taken) == ALL, f"seed {seed}"


@pytest.mark.parametrize("seed", range(12))
def test_no_event_overtakes_one_of_its_key(seed: int) -> None:
    """In order, an event is taken for the first time only after those before it were."""
    scene = Scene(seed, is_ordered=True)
    simulate(scene.play, seed=seed)
    assert set(scene.subscriber.taken) == ALL, f"seed {seed}"
    for key in range(KEYS):
        firsts = [each for each in dict.fromkeys(scene.subscriber.taken) if each.startswith(f"{key}-")]
        assert firsts == sorted(firsts), f"seed {seed}: key {key} came as {firsts}"


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_what_nobody_takes_is_a_dead_letter_once(seed: int, is_ordered: bool) -> None:
    """It stops nobody else, and is kept once though the journal was away when it was buried."""
    scene = Scene(seed, is_ordered=is_ordered)
    scene.subscriber.poison = {"0-000", "3-005", "4-011"}
    kept: list[str] = []

    async def play() -> None:
        await scene.play()
        kept.extend(letters.letter(each).event.id for each in await scene.journal.read(DEAD))

    simulate(play, seed=seed)
    assert set(scene.subscriber.taken) == ALL - scene.subscriber.poison
    assert Counter(kept) == Counter(scene.subscriber.poison)


@pytest.mark.parametrize("is_ordered", [False, True])
def test_events_in_hand_wait_while_their_subscriber_is_not_resolved(is_ordered: bool) -> None:
    """They are no dead letters, though there be no retries: nobody has refused them."""
    scene = Scene(1, is_ordered=is_ordered, retries=0)
    scene.subscriber.trouble = 0.0
    resolved = scene.route
    letters_kept: list[Stored] = []

    async def play() -> None:
        tracer = Tracer(clock=scene.clock, rng=scene.rng)
        shared = Shared(scene.journal, scene.subscriber, scene.clock, tracer, Signal())
        dispatcher = Dispatcher(shared, Counts())
        for stream in (STREAM, DEAD):
            await scene.journal.create_stream(stream, bytes_max=-1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.journal.run)
            tasks.start_soon(dispatcher.run)
            await dispatcher.ensure(resolved)
            for number in range(40):  # more than there are workers
                event = events.new(id=str(number), source="/s", type="wanted", partitionkey="k")
                await scene.journal.publish(STREAM, records.message(event))
            await scene.clock.sleep(0.05)
            await dispatcher.ensure(replace(resolved, subscriber=None))
            await scene.clock.sleep(60)
            await dispatcher.ensure(resolved)
            await scene.clock.sleep(60)
            letters_kept.extend(await scene.journal.read(DEAD))
            tasks.cancel_scope.cancel()

    simulate(play, seed=1)
    assert not letters_kept
    assert set(scene.subscriber.taken) == {str(number) for number in range(40)}
