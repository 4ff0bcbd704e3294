"""Dead letters and replays in a world on virtual time: long works, deletions, crashes, too many of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, play

from ondol import sdk
from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.contracts import eventing
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Target
from ondol.eventing.journal.memory import MemoryJournal
from ondol.eventing.plane import planning, records, wiring
from ondol.eventing.plane.dispatch import Shared
from ondol.eventing.plane.tracing import Tracer
from ondol.eventing.plane.wiring import Deliveries
from ondol.web.calling import Answer


@dataclass(slots=True)
class Subscribers:
    """Implements `Sender`: what becomes of an event is said by the last part of the address."""

    clock: Clock
    calls: Counter[str] = field(default_factory=Counter)
    under_way: Counter[str] = field(default_factory=Counter)
    healed: set[str] = field(default_factory=set)

    async def send(self, target: Target, event: Event, headers: object) -> Answer:
        del event, headers
        path = target.url.rpartition("/")[2]
        self.calls[path] += 1
        self.under_way[path] += 1
        try:
            if path == "hanging" and path not in self.healed:
                await anyio.sleep_forever()
            if path == "slow":
                await self.clock.sleep(1.0)
            return Answer(400, [], b"no") if path == "refusing" else Answer(200, [], b"")
        finally:
            self.under_way[path] -= 1


class PlaneScene:
    """A data plane over a journal in memory, with a broker `b`."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.world = scene.world
        self.client = scene.client
        self.rng = random.Random(1)
        self.journal = MemoryJournal(clock=scene.world.clock, rng=self.rng)
        self.subscribers = Subscribers(scene.world.clock)
        self.deliveries: Deliveries | None = None

    async def start(self) -> sdk.Manager:
        """The part `events`, anew."""
        manager = self.world.manager("ondol-events")
        tracer = Tracer(clock=manager.clock, rng=self.rng)
        self.deliveries = wiring.add_deliveries_to(
            manager, Shared(self.journal, self.subscribers, manager.clock, tracer, Signal())
        )
        return await self.world.start(manager)

    def crash(self, manager: sdk.Manager) -> None:
        """As kill -9 does."""
        self.world.crash(manager)
        self.journal.cut()

    async def broker(self, **annotations: str) -> None:
        full = {eventing.BROKER_CLASS: eventing.MT_BROKER_CLASS, **annotations}
        await self.scene.create(eventing.BROKER, "b", {}, annotations=full)
        await self.world.advance(5)

    async def trigger(self, path: str) -> None:
        spec = {"broker": "b", "subscriber": {"uri": f"http://192.0.2.1/{path}"}}
        await self.scene.create(eventing.TRIGGER, path, spec)
        await self.world.advance(5)
        assert conditions.is_true(await self.scene.get(eventing.TRIGGER, path), "Ready")

    async def replay(self, name: str, trigger: str) -> None:
        await self.scene.create(eventing.REPLAY, name, {"broker": "b", "trigger": trigger})

    async def send(self, count: int, data: bytes = b"{}") -> None:
        broker = await self.scene.get(eventing.BROKER, "b")
        stream = planning.stream(eventing.BROKER.kind, objects.uid(broker))
        for _ in range(count):
            event = events.new(id=f"{self.rng.random()}", source="/s", type="t", data=data)
            await self.journal.publish(stream, records.message(event))

    async def letters(self) -> list[Object]:
        listed = (await self.client.list(eventing.DEAD_LETTER, NAMESPACE)).items
        return sorted(listed, key=lambda letter: int(objects.spec(letter)["sequence"]))

    async def kept(self) -> list[int]:
        """The sequences of the letters that the journal has."""
        broker = await self.scene.get(eventing.BROKER, "b")
        listed = await self.journal.read(planning.dead_stream(objects.uid(broker)), limit=1000)
        return [each.sequence for each in listed]

    async def redeliver(self, letter: Object) -> None:
        await self.client.patch(
            eventing.DEAD_LETTER, objects.name(letter), NAMESPACE, patch={"spec": {"redeliver": True}}
        )

    async def forget(self, letter: Object) -> None:
        await self.client.delete(eventing.DEAD_LETTER, objects.name(letter), NAMESPACE)


def _play(story: Callable[[PlaneScene], Awaitable[None]]) -> None:
    async def run(scene: Scene) -> None:
        plane = PlaneScene(scene)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(plane.journal.run)
            await story(plane)
            tasks.cancel_scope.cancel()

    play(run, plane=False)


def test_a_long_replay_holds_up_no_other() -> None:
    """However long its subscriber takes; it ends when its Replay is deleted."""

    async def story(plane: PlaneScene) -> None:
        await plane.start()
        await plane.broker()
        await plane.trigger("taking")
        await plane.send(5)
        await plane.world.advance(5)
        await plane.trigger("hanging")
        for number in range(3):
            await plane.replay(f"long-{number}", "hanging")
        await plane.world.advance(5)
        await plane.replay("short", "taking")
        await plane.world.advance(5)
        short = await plane.scene.get(eventing.REPLAY, "short")
        assert (conditions.is_true(short, "Complete"), objects.status(short)["delivered"]) == (True, 5)
        assert plane.subscribers.under_way["hanging"] == 15
        await plane.client.delete(eventing.REPLAY, "long-1", NAMESPACE)
        await plane.world.advance(5)
        assert plane.subscribers.under_way["hanging"] == 10

    _play(story)


def test_a_replay_goes_on_where_it_was() -> None:
    """After a crash: its status says how far it is, and at most a page comes twice."""

    async def story(plane: PlaneScene) -> None:
        manager = await plane.start()
        await plane.broker()
        await plane.send(400)
        await plane.trigger("slow")
        await plane.replay("all", "slow")
        await plane.world.advance(12)
        live = objects.status(await plane.scene.get(eventing.REPLAY, "all"))
        assert 0 < live["delivered"] == live["position"] < live["end"] == 400
        plane.crash(manager)
        await plane.start()
        await plane.world.advance(300)
        live = objects.status(await plane.scene.get(eventing.REPLAY, "all"))
        assert (live["delivered"], live["position"], live["failed"]) == (400, 400, 0)
        assert 400 <= plane.subscribers.calls["slow"] <= 400 + 64

    _play(story)


def test_a_replay_says_what_it_waits_for() -> None:
    """A trigger that is missing; it begins when that is there."""

    async def story(plane: PlaneScene) -> None:
        await plane.start()
        await plane.broker()
        await plane.send(1)
        await plane.replay("r", "taking")
        await plane.world.advance(20)
        live = await plane.scene.get(eventing.REPLAY, "r")
        assert condition(live, "Complete") == ("False", "Waiting", "the broker has no trigger taking")
        await plane.trigger("taking")
        await plane.world.advance(20)
        assert objects.status(await plane.scene.get(eventing.REPLAY, "r"))["delivered"] == 1

    _play(story)


def test_a_long_redelivery_holds_up_no_letter() -> None:
    """Others are shown and sent meanwhile; who deletes its letter ends it."""

    async def story(plane: PlaneScene) -> None:
        await plane.start()
        await plane.broker()
        await plane.trigger("refusing")
        await plane.send(4)
        await plane.world.advance(10)
        spec = {"subscriber": {"uri": "http://192.0.2.1/hanging"}}
        await plane.client.patch(eventing.TRIGGER, "refusing", NAMESPACE, patch={"spec": spec})
        await plane.world.advance(5)
        first, second, third, _ = await plane.letters()
        for letter in (first, second):
            await plane.redeliver(letter)
        await plane.world.advance(5)
        assert plane.subscribers.under_way["hanging"] == 2
        await plane.forget(first)
        plane.subscribers.healed.add("hanging")
        await plane.redeliver(third)
        await plane.world.advance(5)
        assert plane.subscribers.under_way["hanging"] == 1
        assert await plane.kept() == [2, 4]
        assert [objects.spec(each)["sequence"] for each in await plane.letters()] == [2, 4]

    _play(story)


def test_a_wish_is_obeyed_once() -> None:
    """What was not taken is sent again only when somebody asks again."""

    async def story(plane: PlaneScene) -> None:
        await plane.start()
        await plane.broker()
        await plane.trigger("refusing")
        await plane.send(1)
        await plane.world.advance(10)
        for calls in (2, 3):
            (letter,) = await plane.letters()
            await plane.redeliver(letter)
            await plane.world.advance(10)
            assert plane.subscribers.calls["refusing"] == calls
            (letter,) = await plane.letters()
            assert condition(letter, "Redelivered")[:2] == ("False", "NotTaken")

    _play(story)


def test_a_letter_that_was_deleted_stays_deleted() -> None:
    """Also while nobody was there to see it, and though there be a crash before it is forgotten."""

    async def story(plane: PlaneScene) -> None:
        manager = await plane.start()
        await plane.broker()
        await plane.trigger("refusing")
        await plane.send(3)
        await plane.world.advance(10)
        plane.crash(manager)
        first, second, _ = await plane.letters()
        await plane.forget(second)
        assert len(await plane.letters()) == 3
        manager = await plane.start()
        await plane.world.advance(10)
        assert await plane.kept() == [1, 3]
        assert [objects.spec(each)["sequence"] for each in await plane.letters()] == [1, 3]
        await plane.forget(first)
        plane.crash(manager)
        await plane.start()
        await plane.world.advance(10)
        assert await plane.kept() == [3]
        assert len(await plane.letters()) == 1

    _play(story)


@pytest.mark.parametrize("is_up", [True, False])
def test_letters_go_with_their_broker(is_up: bool) -> None:
    """Their finalizers hold up nobody, though the broker be gone before they are looked at."""

    async def story(plane: PlaneScene) -> None:
        manager = await plane.start()
        await plane.broker()
        await plane.trigger("refusing")
        await plane.send(3)
        await plane.world.advance(10)
        assert len(await plane.letters()) == 3
        if not is_up:
            plane.crash(manager)
        await plane.client.delete(eventing.BROKER, "b", NAMESPACE)
        await plane.world.advance(30)
        if not is_up:
            await plane.start()
            await plane.world.advance(30)
        assert not await plane.letters()
        with pytest.raises(errors.NotFound):
            await plane.scene.get(eventing.BROKER, "b")

    _play(story)


def test_letters_alone_are_reason_enough_for_the_data_plane() -> None:
    """One that is to go would be held for ever if nobody came to let it go."""

    async def story(scene: Scene) -> None:
        await scene.world.advance(5)
        assert scene.demands == 0
        await scene.create(eventing.DEAD_LETTER, "b-1", {"sequence": 1})
        await scene.world.advance(5)
        assert scene.demands == 1

    play(story, plane=False)


def test_the_oldest_letters_go_when_they_are_too_many() -> None:
    """They are counted, and the broker says so until somebody has dealt with the rest."""

    async def story(plane: PlaneScene) -> None:
        await plane.start()
        await plane.broker(**{planning.DEAD_LETTERS_BYTES: "20000"})
        await plane.trigger("refusing")
        await plane.send(10, b"x" * 1000)
        await plane.world.advance(100)
        broker = await plane.scene.get(eventing.BROKER, "b")
        assert (await plane.kept(), condition(broker, "DeadLettersKept")) == ([*range(1, 11)], ("", "", ""))
        await plane.send(40, b"x" * 1000)
        await plane.world.advance(100)
        kept = await plane.kept()
        assert 8 <= len(kept) < 20
        assert kept[-1] == 50
        broker = await plane.scene.get(eventing.BROKER, "b")
        status, reason, message = condition(broker, "DeadLettersKept")
        dropped = 50 - len(kept)
        assert (status, reason, message.split()[0]) == ("False", "DeadLettersDropped", str(dropped))
        assert conditions.is_true(broker, "Ready")
        assert [objects.spec(each)["sequence"] for each in await plane.letters()] == kept
        assert plane.deliveries is not None
        (family,) = (f for f in plane.deliveries.counts.collect() if "dropped" in f.name)
        assert [sample.value for sample in family.samples] == [dropped]
        for letter in await plane.letters():
            await plane.forget(letter)
        await plane.world.advance(100)
        broker = await plane.scene.get(eventing.BROKER, "b")
        assert (await plane.kept(), condition(broker, "DeadLettersKept")) == ([], ("", "", ""))

    _play(story)
