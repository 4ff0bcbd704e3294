"""What is put off has not failed: retries are for who was asked and did not take it. On virtual time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio
import pytest

from ondol.base.signal import Signal
from ondol.eventing import filters
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery.policy import Policy
from ondol.eventing.exchange import Target
from ondol.eventing.journal.memory import MemoryJournal
from ondol.eventing.plane import letters, records
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.dispatch import Shared
from ondol.eventing.plane.dispatcher import Dispatcher
from ondol.eventing.plane.letters import Letter
from ondol.eventing.plane.routes import Route, Source
from ondol.eventing.plane.tracing import Tracer
from ondol.sdk.testing import LoopClock, simulate
from ondol.web.calling import Answer

STREAM, DEAD = "B-1", "D-1"
TAKEN = Answer(200, [], b"")
FAILED = Answer(500, [], b"broken")
BUSY = Answer(503, [(b"retry-after", b"30")], b"busy")
REPLY = Answer(
    200,
    [(b"ce-specversion", b"1.0"), (b"ce-id", b"r"), (b"ce-source", b"/r"), (b"ce-type", b"reply")],
    b"",
)
both_orders = pytest.mark.parametrize("is_ordered", [False, True])


@dataclass(slots=True)
class Subscriber:
    """Implements `Sender`: answers one after the other, the last one for ever."""

    clock: LoopClock
    answers: list[Answer]
    calls: list[tuple[float, str]] = field(default_factory=list)

    async def send(self, target: Target, event: Event, headers: object) -> Answer:
        del target, headers
        self.calls.append((self.clock.monotonic(), event.id))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Scene:
    """One consumer, its journal in memory, and what it is answered."""

    def __init__(self, *answers: Answer, is_ordered: bool = False, retries: int = 1) -> None:
        self.clock, rng = LoopClock(), random.Random(1)
        self.journal = MemoryJournal(clock=self.clock, rng=rng)
        self.subscriber = Subscriber(self.clock, list(answers))
        terms = Policy(retries=retries, backoff_s=1.0, retry_after_max_s=60.0)
        self.route = Route(
            STREAM,
            "t",
            Source("Trigger", "default", "t", "b"),
            filters.predicate(None),
            subscriber=Target("http://subscriber/"),
            reply_stream="R-1",
            dead_stream=DEAD,
            policy=terms,
            is_ordered=is_ordered,
        )
        tracer = Tracer(clock=self.clock, rng=rng)
        shared = Shared(self.journal, self.subscriber, self.clock, tracer, Signal())
        self.dispatcher = Dispatcher(shared, Counts())
        self.letters: list[Letter] = []

    async def send(self, id_: str = "1") -> None:
        event = events.new(id=id_, source="/s", type="t")
        await self.journal.publish(STREAM, records.message(event))

    def play(self, story: Callable[[], Awaitable[None]]) -> None:
        """The story, with everything running."""

        async def run() -> None:
            for stream in (STREAM, DEAD, "R-1"):
                await self.journal.create_stream(stream, bytes_max=-1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.journal.run)
                tasks.start_soon(self.dispatcher.run)
                await self.dispatcher.ensure(self.route)
                await story()
                self.letters += [letters.letter(each) for each in await self.journal.read(DEAD)]
                tasks.cancel_scope.cancel()

        simulate(run, seed=1)


@both_orders
def test_waiting_for_a_subscriber_uses_up_no_retries(is_ordered: bool) -> None:
    """An event in hand when its subscriber was lost still has all of its attempts."""
    scene = Scene(FAILED, FAILED, TAKEN, is_ordered=is_ordered, retries=2)

    async def story() -> None:
        await scene.dispatcher.ensure(replace(scene.route, window=1))
        await scene.send()
        await scene.clock.sleep(0.5)  # it failed once, and waits
        await scene.dispatcher.ensure(replace(scene.route, window=1, subscriber=None))
        await scene.clock.sleep(300)
        assert len(scene.subscriber.calls) == 1
        await scene.dispatcher.ensure(replace(scene.route, window=1))
        await scene.clock.sleep(60)

    scene.play(story)
    assert len(scene.subscriber.calls) == 3
    assert not scene.letters


@both_orders
def test_who_asks_to_be_spared_uses_up_no_retries(is_ordered: bool) -> None:
    """It is called again when it said; a failure in between counts as one."""
    scene = Scene(BUSY, BUSY, FAILED, BUSY, TAKEN, is_ordered=is_ordered)

    async def story() -> None:
        await scene.send()
        await scene.clock.sleep(300)

    scene.play(story)
    times = [at_s for at_s, _ in scene.subscriber.calls]
    pauses = [round(after - before) for before, after in itertools.pairwise(times)]
    assert pauses == [30, 30, 1, 30]
    assert not scene.letters


@both_orders
def test_nobody_is_spared_for_ever(is_ordered: bool) -> None:
    """After a day of asking it has failed as others do: its event is a dead letter."""
    scene = Scene(BUSY, is_ordered=is_ordered)

    async def story() -> None:
        await scene.send()
        await scene.clock.sleep(23 * 3600)
        assert not await scene.journal.read(DEAD)
        await scene.clock.sleep(2 * 3600)

    scene.play(story)
    assert [(each.code, each.attempts) for each in scene.letters] == [(503, 2)]


@both_orders
@pytest.mark.parametrize(("answer", "stream"), [(REPLY, "R-1"), (FAILED, DEAD)])
def test_a_full_journal_calls_nobody_again(answer: Answer, stream: str, is_ordered: bool) -> None:
    """What came of an attempt is kept once there is room: the subscriber is not asked anew for that."""
    scene = Scene(answer, TAKEN, is_ordered=is_ordered, retries=0)
    kept: list[int] = []

    async def story() -> None:
        await scene.journal.create_stream(stream, bytes_max=0)
        await scene.send()
        await scene.clock.sleep(100)
        await scene.journal.create_stream(stream, bytes_max=-1)
        await scene.clock.sleep(10)
        kept.append((await scene.journal.state(stream)).messages)
        assert (await scene.journal.consumers(STREAM))["t"].pending == 0

    scene.play(story)
    assert (len(scene.subscriber.calls), kept) == (1, [1])


def test_a_replay_waits_for_its_subscriber() -> None:
    """As events do: what cannot be sent now is no dead letter."""
    scene = Scene(TAKEN, retries=0)
    taken: list[bool | None] = []

    async def story() -> None:
        await scene.send()
        await scene.clock.sleep(1)
        await scene.dispatcher.ensure(replace(scene.route, subscriber=None))
        (stored,) = await scene.journal.read(STREAM)
        event = records.event(stored.headers, stored.data)

        async def replay() -> None:
            taken.append(await scene.dispatcher.replayed("t", event, stored))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(replay)
            await scene.clock.sleep(60)
            await scene.dispatcher.ensure(scene.route)

    scene.play(story)
    assert (taken, len(scene.subscriber.calls), scene.letters) == ([True], 2, [])
