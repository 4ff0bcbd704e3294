"""What a full or damaged disk does to events, seen by who sends them and who gets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.eventing.plane_rig import (
    NAMESPACE,
    Disk,
    Rig,
    eventually,
    rig,
    sinking,
    small_disk,
    until,
)
from tests.ports import free_port

from ondol.api import conditions, objects, resources
from ondol.base.clock import ManualClock
from ondol.contracts import eventing
from ondol.eventing import engine
from ondol.eventing.journal import commits
from ondol.eventing.journal.port import Full
from ondol.eventing.journal.room import STUCK, Room
from ondol.eventing.plane import planning


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as small:
        yield small


async def supervise(rigged: Rig) -> None:
    """Start the journal's server anew when it says that it has to be, as the supervisor does."""
    while True:
        await anyio.sleep(0.2)
        if not await anyio.to_thread.run_sync(engine.ready, rigged.server.config):
            rigged.server.kill()
            rigged.server.start()
            await anyio.to_thread.run_sync(rigged.server.wait_ready)


@pytest.mark.root
async def test_a_disk_that_is_full_at_once_loses_no_accepted_event(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends is told to come again; what was accepted is delivered; with room it goes on by itself."""
    monkeypatch.setattr(commits, "_VERDICT_S", 2.0)
    async with rig(disk.path) as rigged, sinking() as sink, anyio.create_task_group() as tasks:
        tasks.start_soon(supervise, rigged)
        await rigged.broker()
        await rigged.trigger("all", sink.url())
        accepted: set[str] = set()
        statuses: list[int] = []

        async def send(sender: int) -> None:
            number = 0
            while True:
                number += 1
                answer = await rigged.send(id_ := f"{sender}-{number}", b"x" * 20_000)
                statuses.append(answer.status)
                if answer.status == 202:
                    accepted.add(id_)
                else:
                    assert dict(answer.headers).get(b"retry-after")
                    await anyio.sleep(0.1)

        for sender in range(4):
            tasks.start_soon(send, sender)
        await until(lambda: len(accepted) > 40)
        await anyio.to_thread.run_sync(disk.fill)
        await until(lambda: statuses[-4:] == [503] * 4)
        before = len(accepted)
        disk.make_room()
        await until(lambda: len(accepted) > before + 40, limit_s=60)
        await until(lambda: accepted <= set(sink.ids()), limit_s=60)
        assert set(statuses) == {202, 503}
        tasks.cancel_scope.cancel()


def test_a_stream_that_is_stuck_is_not_hidden_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of another stream say nothing of it; after the disk was full one silence is enough."""
    clock, free = ManualClock(), [1 << 40]
    monkeypatch.setattr(Room, "_free_bytes", lambda _room: free[0])
    room, stuck = Room(tmp_path, clock=clock), tmp_path / STUCK
    for _ in range(3):
        assert not stuck.exists()
        room.overdue("B-1")
        room.answered("B-2")
    assert stuck.exists()
    stuck.unlink()
    free[0] = 0
    room.overdue("B-1")
    room.answered("B-2")
    with pytest.raises(Full):
        room.require()
    assert not stuck.exists(), "it would be stuck again"
    free[0] = 1 << 40
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(clock.advance, 1)
    room.require()
    assert stuck.exists()


def _cut(place: Path) -> None:
    (block,) = (place / "msgs").glob("*.blk")
    block.write_bytes(block.read_bytes()[: block.stat().st_size // 2])
    (place / "msgs" / "index.db").unlink(missing_ok=True)


def _garble(place: Path) -> None:
    (block,) = (place / "msgs").glob("*.blk")
    content = bytearray(block.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    block.write_bytes(content)
    (place / "msgs" / "index.db").unlink(missing_ok=True)


def _empty(place: Path) -> None:
    for file in place.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def _forget_what_it_is(place: Path) -> None:
    (place / "meta.inf").write_bytes(b"")


@pytest.mark.parametrize("harm", [_cut, _garble, _empty, _forget_what_it_is])
async def test_a_damaged_stream_harms_no_other(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Its broker says what is wrong, or goes on and tells what is lost; other brokers do not notice."""
    async with rig(tmp_path) as rigged, sinking() as sink:
        damaged = await rigged.broker()
        await rigged.broker("other")
        await rigged.trigger("t", sink.url("/b"))
        await rigged.trigger("u", sink.url("/other"), {"broker": "other"})
        for number in range(20):
            assert (await rigged.send(str(number), b"x" * 1000)).status == 202
        await until(lambda: len(sink.ids("/b")) == 20)
        await anyio.sleep(0.5)
        rigged.server.kill()
        (place,) = rigged.server.config.data_dir.rglob(planning.stream("Broker", objects.uid(damaged)))
        harm(place)
        rigged.server.start()
        await anyio.to_thread.run_sync(rigged.server.wait_ready)

        async def is_taken() -> bool:
            return (await rigged.send("after", path="/default/other")).status == 202

        await eventually(is_taken)
        await until(lambda: sink.ids("/other") == ["after"])
        assert rigged.plane is not None
        plane = rigged.plane

        def is_counted() -> bool:
            listed = [family for family in plane.metrics() if family.name == "event_journal_lost_messages"]
            return any(sample.value > 0 for family in listed for sample in family.samples)

        await until(is_counted)

        async def goes_on() -> bool:
            return (await rigged.send("more")).status == 202

        await eventually(goes_on)
        await until(lambda: sink.ids("/b")[-1] == "more")
        if harm in (_empty, _forget_what_it_is):
            await eventually(partial(has_event, rigged))


@pytest.mark.parametrize("harm", [_empty, _forget_what_it_is, shutil.rmtree])
async def test_a_stream_that_is_gone_has_event_after_a_restart(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Also by a data plane that was away as well: an Event of its broker says so, none of a new broker."""
    async with rig(tmp_path, plane=False) as rigged:
        manager = await rigged.start_plane()
        damaged = await rigged.broker()
        assert (await rigged.send("1")).status == 202
        assert not await has_event(rigged)
        rigged.world.crash(manager)
        rigged.server.kill()
        (place,) = rigged.server.config.data_dir.rglob(planning.stream("Broker", objects.uid(damaged)))
        harm(place)
        rigged.port = free_port()
        await rigged.start_plane()
        await anyio.sleep(0.3)  # it is there before the journal is, as after a power cut
        rigged.server.start()
        await eventually(partial(has_event, rigged))


async def test_a_loss_is_told_of_a_broker_that_was_told_unserved(tmp_path: Path) -> None:
    """The journal went before the data plane did, and the broker's conditions say that it is away."""
    async with rig(tmp_path, plane=False) as rigged:
        manager = await rigged.start_plane()
        damaged = await rigged.broker()
        rigged.server.kill()
        patch = {"metadata": {"annotations": {"touched": "yes"}}}

        async def is_unserved() -> bool:
            await rigged.client.patch(eventing.BROKER, "b", NAMESPACE, patch=patch)
            live = await rigged.client.get(eventing.BROKER, "b", NAMESPACE)
            return not conditions.is_true(live, eventing.INGRESS_READY)

        await eventually(is_unserved)
        rigged.world.crash(manager)
        (place,) = rigged.server.config.data_dir.rglob(planning.stream("Broker", objects.uid(damaged)))
        shutil.rmtree(place)
        rigged.port = free_port()
        await rigged.start_plane()
        rigged.server.start()
        await eventually(partial(has_event, rigged))


async def has_event(rigged: Rig) -> bool:
    """Whether an Event of the broker says that its events are lost."""
    listed = (await rigged.client.list(resources.EVENT, NAMESPACE)).items
    return any(each["reason"] == "EventsLost" and each["involvedObject"]["name"] == "b" for each in listed)
