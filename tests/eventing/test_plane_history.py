"""What is kept: dead letters that are shown, sent once more and forgotten; history that is replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.eventing.plane_rig import NAMESPACE, Received, Rig, Sink, eventually, rig, sinking, until

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import eventing


@pytest.fixture
async def rigged(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as running:
        yield running


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with sinking() as running:
        yield running


async def letters(rigged: Rig, count: int) -> list[Object]:
    """The DeadLetters, once they are so many."""
    listed: list[Object] = []

    async def are_there() -> bool:
        listed[:] = (await rigged.client.list(eventing.DEAD_LETTER, NAMESPACE)).items
        return len(listed) == count

    await eventually(are_there)
    return sorted(listed, key=lambda letter: int(objects.spec(letter)["sequence"]))


async def test_a_dead_letter_is_shown_sent_once_more_and_forgotten(rigged: Rig, sink: Sink) -> None:
    """Without a sink for them they are kept; a person looks at them, has one sent again, deletes another."""
    is_well = False

    def respond(_received: Received) -> tuple[int, dict[str, str], bytes]:
        return (200 if is_well else 400), {}, b"" if is_well else b"bad event"

    sink.respond = respond
    await rigged.broker()
    await rigged.trigger("refusing", sink.url())
    for number in range(3):
        await rigged.send(str(number), b"data")
    first, second, third = await letters(rigged, 3)
    spec = objects.spec(first)
    assert spec["source"] == {"kind": "Trigger", "name": "refusing", "parent": "b"}
    assert spec["reason"] == {"destination": sink.url(), "code": 400, "answer": "bad event", "attempts": 1}
    assert spec["event"]["attributes"]["type"] == "t"
    assert spec["event"]["data"] == "data"

    async def redeliver(letter: Object) -> None:
        await rigged.client.patch(
            eventing.DEAD_LETTER, objects.name(letter), NAMESPACE, patch={"spec": {"redeliver": True}}
        )

    await redeliver(first)

    async def is_shown() -> bool:
        live = await rigged.client.get(eventing.DEAD_LETTER, objects.name(first), NAMESPACE)
        return conditions.is_false(live, "Redelivered") and not objects.spec(live)["redeliver"]

    await eventually(is_shown)
    assert len(sink.received) == 4
    is_well = True
    await redeliver(first)
    assert [objects.name(each) for each in await letters(rigged, 2)] == [
        objects.name(second),
        objects.name(third),
    ]
    assert len(sink.received) == 5
    await rigged.client.delete(eventing.DEAD_LETTER, objects.name(third), NAMESPACE)
    assert [objects.name(each) for each in await letters(rigged, 1)] == [objects.name(second)]


async def test_a_replay_delivers_what_was_delivered_before(rigged: Rig, sink: Sink) -> None:
    """To one trigger or all, from one place to another, and only once."""
    await rigged.broker()
    await rigged.trigger("one", sink.url("/one"))
    await rigged.trigger("two", sink.url("/two"), {"filter": {"attributes": {"type": "other"}}})
    for number in range(6):
        await rigged.send(str(number), type="other" if number % 2 else "t")
    await until(lambda: len(sink.received) == 9)
    sink.received.clear()

    async def done(name: str) -> Object:
        async def is_complete() -> bool:
            live = await rigged.client.get(eventing.REPLAY, name, NAMESPACE)
            return conditions.is_true(live, "Complete")

        await eventually(is_complete)
        return await rigged.client.get(eventing.REPLAY, name, NAMESPACE)

    await rigged.create(
        eventing.REPLAY,
        "some",
        {"broker": "b", "trigger": "one", "from": {"sequence": 3}, "until": {"sequence": 4}},
    )
    some = objects.status(await done("some"))
    assert sorted(sink.ids("/one")) == ["2", "3"]
    assert sink.ids("/two") == []
    assert (some["delivered"], some["failed"], some["position"]) == (2, 0, 4)
    sink.received.clear()
    await rigged.create(eventing.REPLAY, "all", {"broker": "b"})
    assert objects.status(await done("all"))["delivered"] == 9
    assert sorted(sink.ids("/two")) == ["1", "3", "5"]


async def test_a_replay_that_fails_leaves_dead_letters(rigged: Rig, sink: Sink) -> None:
    """What is refused in a replay is no more lost than at its first delivery."""
    answers = [200, 400]
    sink.respond = lambda _received: (answers[0], {}, b"")
    await rigged.broker()
    await rigged.trigger("one", sink.url())
    await rigged.send("1")
    await until(lambda: len(sink.received) == 1)
    answers.pop(0)
    await rigged.create(eventing.REPLAY, "r", {"broker": "b"})
    (letter,) = await letters(rigged, 1)
    assert objects.spec(letter)["event"]["attributes"]["id"] == "1"
