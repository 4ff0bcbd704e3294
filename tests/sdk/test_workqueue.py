"""The four properties of the work queue, its delays and its back-off."""

from __future__ import annotations

import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.base.backoff import Backoff
from ondol.base.clock import ManualClock
from ondol.sdk.workqueue import Closed, Workqueue

pytestmark = pytest.mark.anyio


async def test_a_key_waits_at_most_once() -> None:
    """Adding a waiting key again changes nothing."""
    queue: Workqueue[str] = Workqueue(ManualClock())
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_in_work_comes_again_only_after_done() -> None:
    """A change that comes while a key is worked on is worked on afterwards, not beside."""
    queue: Workqueue[str] = Workqueue(ManualClock())
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle


async def test_a_delayed_key_is_due_by_the_clock() -> None:
    """Of several delays of one key the earliest counts, and only it."""
    clock = ManualClock()
    queue: Workqueue[str] = Workqueue(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        queue.add_after("a", 30)
        await anyio.wait_all_tasks_blocked()
        queue.add_after("a", 10)
        queue.add_after("a", 20)
        await clock.advance(9)
        assert len(queue) == 0
        await clock.advance(1)
        assert await queue.get() == "a"
        queue.done("a")
        await clock.advance(60)
        assert len(queue) == 0
        tasks.cancel_scope.cancel()


class Restless(ManualClock):
    """A clock that moves a little every time it is read, as real ones do."""

    def monotonic(self) -> float:
        self._elapsed += 0.01
        return super().monotonic()

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        await super().sleep(seconds)


async def test_a_key_that_becomes_due_while_the_clock_is_read_is_not_lost() -> None:
    """No wait is negative, however close the moment."""
    queue: Workqueue[str] = Workqueue(Restless())
    async with anyio.create_task_group() as tasks:
        queue.add_after("a", 0.015)
        tasks.start_soon(queue.run)
        with anyio.fail_after(5):
            assert await queue.get() == "a"
        tasks.cancel_scope.cancel()


async def test_a_guarded_delay_comes_to_nothing_when_its_reason_is_gone() -> None:
    """`unless` is asked when the delay ends, not when it begins."""
    clock = ManualClock()
    queue: Workqueue[str] = Workqueue(clock)
    results: list[bool] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        queue.add_after("a", 5, unless=lambda: bool(results))
        queue.add_after("b", 6, unless=lambda: bool(results))
        await clock.advance(5)
        results.append(True)
        await clock.advance(5)
        assert len(queue) == 1
        assert await queue.get() == "a"
        tasks.cancel_scope.cancel()


async def test_failures_wait_longer_each_time_until_forgotten() -> None:
    """Back-off is a key's own and starts anew after a success."""
    queue: Workqueue[str] = Workqueue(ManualClock(), backoff=Backoff(initial_s=1, maximum_s=5))
    assert [queue.add_rate_limited("a") for _ in range(4)] == [1, 2, 4, 5]
    assert queue.add_rate_limited("b") == 1
    queue.forget("a")
    assert queue.add_rate_limited("a") == 1


async def test_a_closed_queue_hands_out_what_it_has() -> None:
    """Closing stops additions, lets the rest be worked off and then sends workers home."""
    queue: Workqueue[str] = Workqueue(ManualClock())
    queue.add("a")
    queue.close()
    queue.add("b")
    assert await queue.get() == "a"
    with pytest.raises(Closed):
        await queue.get()


async def test_closing_wakes_idle_workers() -> None:
    """A worker that waits for a key learns that none will come."""
    queue: Workqueue[str] = Workqueue(ManualClock())
    ended: list[str] = []

    async def work() -> None:
        try:
            await queue.get()
        except Closed:
            ended.append("home")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        queue.close()
    assert ended == ["home", "home"]


async def test_a_cancelled_worker_passes_its_wake_up_on() -> None:
    """Whichever of two workers gets it, no key is left because the one woken for it was cancelled."""
    queue: Workqueue[str] = Workqueue(ManualClock())
    got: list[str] = []
    doomed = anyio.CancelScope()

    async def first() -> None:
        with doomed:
            got.append(await queue.get())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await anyio.wait_all_tasks_blocked()

        async def second() -> None:
            got.append(await queue.get())

        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        queue.add("a")
        doomed.cancel()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert got == ["a"]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(0, 2**32))
def test_every_added_key_is_worked_on_and_none_twice_at_once(adds: list[str], seed: int) -> None:
    """Whatever the order of additions and completions, work is serial by key and nothing is lost."""
    rng = random.Random(seed)

    async def main() -> None:
        clock = ManualClock()
        queue: Workqueue[str] = Workqueue(clock)
        active: set[str] = set()
        last_added: dict[str, int] = {}
        last_begun: dict[str, int] = {}
        step = 0

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in active
                active.add(key)
                last_begun[key] = step
                for _ in range(rng.randrange(3)):
                    await anyio.lowlevel.checkpoint()
                active.discard(key)
                queue.done(key)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(work)
            for key in adds:
                step += 1
                last_added[key] = step
                queue.add(key)
                for _ in range(rng.randrange(3)):
                    await anyio.lowlevel.checkpoint()
            step += 1
            await anyio.wait_all_tasks_blocked()
            assert queue.idle
            assert all(last_begun[key] >= added for key, added in last_added.items())
            tasks.cancel_scope.cancel()

    anyio.run(main)
