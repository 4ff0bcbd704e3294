"""Deadlines of requests: one timer for all of them, by a clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from ondol.apiserver.deadlines import Deadlines
from ondol.base.clock import Limited, ManualClock

pytestmark = pytest.mark.anyio


class Counting(ManualClock):
    """Counts how often anything waits for the time."""

    waits = 0

    def move_on_after(self, seconds: float) -> Limited:
        self.waits += 1
        return super().move_on_after(seconds)


@pytest.fixture
async def world() -> AsyncIterator[tuple[Counting, Deadlines]]:
    clock = Counting()
    deadlines = Deadlines(clock)
    async with anyio.create_task_group() as group:
        group.start_soon(deadlines.run)
        await anyio.wait_all_tasks_blocked()
        yield clock, deadlines
        group.cancel_scope.cancel()


World = tuple[Counting, Deadlines]


class Block:
    """One block under a deadline that waits until it is cancelled, or may go on."""

    def __init__(self, deadlines: Deadlines, seconds: float, postponed_s: float = 0.0) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._postponed_s = postponed_s
        self.go_on = anyio.Event()
        self.end = ""

    async def run(self) -> None:
        try:
            with self._deadlines.fail_after(self._seconds) as deadline:
                if self._postponed_s:
                    deadline.postpone(self._postponed_s)
                await self.go_on.wait()
            self.end = "done"
        except TimeoutError:
            self.end = "late"


async def test_each_block_ends_at_its_own_deadline(world: World) -> None:
    """However they follow each other: later ones, earlier ones, and one that was postponed."""
    clock, deadlines = world
    blocks = [Block(deadlines, 30), Block(deadlines, 60), Block(deadlines, 10), Block(deadlines, 10, 35)]
    async with anyio.create_task_group() as group:
        for block in blocks:
            group.start_soon(block.run)
            await anyio.wait_all_tasks_blocked()
        ends = []
        for step_s in (9.5, 0.5, 19.5, 0.5, 14.5, 0.5, 14.5, 0.5):
            await clock.advance(step_s)
            ends.append([block.end for block in blocks])
    nobody, third, first, fourth, every = (
        ["", "", "", ""],
        ["", "", "late", ""],
        ["late", "", "late", ""],
        ["late", "", "late", "late"],
        ["late"] * 4,
    )
    assert ends == [nobody, third, third, first, first, fourth, fourth, every]


async def test_a_block_that_ends_in_time_is_left_alone(world: World) -> None:
    """Neither it nor what the task does behind it is cancelled when its time would have been over."""
    clock, deadlines = world
    block = Block(deadlines, 5)
    async with anyio.create_task_group() as group:
        group.start_soon(block.run)
        await anyio.wait_all_tasks_blocked()
        block.go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert block.end == "done"
        await clock.advance(10)
    assert block.end == "done"


async def test_an_error_of_the_block_comes_out_as_it_is(world: World) -> None:
    """A deadline has an opinion on time alone."""
    _, deadlines = world
    with pytest.raises(KeyError), deadlines.fail_after(5):
        raise KeyError


async def test_cancelling_from_outside_is_no_lateness(world: World) -> None:
    """Whoever cancels the task gets their cancellation, and no `TimeoutError`."""
    _, deadlines = world
    block = Block(deadlines, 5)
    async with anyio.create_task_group() as group:
        group.start_soon(block.run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert block.end == ""


async def test_a_thousand_requests_wait_for_the_time_once(world: World) -> None:
    """What costs is a timer: all that end in time share the first one's."""
    clock, deadlines = world
    before = clock.waits
    for _ in range(1000):
        with deadlines.fail_after(30):
            await anyio.lowlevel.checkpoint()
    assert clock.waits - before == 1


async def test_nothing_under_way_needs_no_timer(world: World) -> None:
    """An idle server is not woken."""
    clock, _ = world
    before = clock.waits
    await clock.advance(1_000)
    assert clock.waits == before
