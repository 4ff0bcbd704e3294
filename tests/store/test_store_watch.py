"""Watches: cursors over the history that wake when something happens."""

from __future__ import annotations

import anyio
import pytest

from ondol import store
from ondol.base import errors
from ondol.base.clock import ManualClock

pytestmark = pytest.mark.anyio


async def test_a_waiting_watch_wakes_for_its_bucket_only() -> None:
    """Changes elsewhere leave it asleep."""
    log = store.open_memory()
    watch = log.watch("pods", after=log.revision)
    woken = anyio.Event()

    async def wait() -> None:
        await watch.changed()
        woken.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await log.append("nodes", "n", lambda _: b"")
        await anyio.wait_all_tasks_blocked()
        assert not woken.is_set()
        await log.append("pods", "a/p", lambda _: b"")
        await anyio.wait_all_tasks_blocked()
        assert woken.is_set()
    log.close()


async def test_wake_ends_the_wait_even_if_it_comes_first() -> None:
    """A timer may fire between two waits without being lost."""
    log = store.open_memory()
    watch = log.watch("pods", after=log.revision)
    watch.wake()
    with anyio.fail_after(1):
        await watch.changed()
    with anyio.move_on_after(0.02) as scope:
        await watch.changed()
    assert scope.cancelled_caught  # one wake ends one wait
    log.close()


async def test_a_slow_watch_expires_and_never_holds_up_the_writer() -> None:
    """Beyond the bounds of the history the watch is told to start over."""
    log = store.open_memory(store.Retention(events=8))
    watch = log.watch("pods", after=log.revision)
    for number in range(20):
        await log.append("pods", f"a/{number}", lambda _: b"")
    with pytest.raises(errors.Expired, match="too old"):
        watch.take()
    log.close()


async def test_size_bounds_the_history_too() -> None:
    """A few large objects count as much as many small ones."""
    log = store.open_memory(store.Retention(size_bytes=1000))
    watch = log.watch("secrets", after=log.revision)
    for number in range(5):
        await log.append("secrets", f"a/{number}", lambda _: b"x" * 400)
    with pytest.raises(errors.Expired):
        watch.take()
    assert log.count("secrets") == 5
    log.close()


async def test_a_prefix_narrows_a_watch() -> None:
    """A watch of one namespace hears nothing of the others, yet moves on past them."""
    log = store.open_memory()
    watch = log.watch("pods", "a/", after=log.revision)
    await log.append("pods", "b/x", lambda _: b"")
    assert watch.take() == []
    assert watch.revision == log.revision
    await log.append("pods", "a/x", lambda _: b"")
    assert [event.record.name for event in watch.take()] == ["a/x"]
    log.close()


async def test_reached_waits_for_a_revision() -> None:
    """A reader that knows a later revision waits for it."""
    log = store.open_memory()
    target = log.revision + 2
    async with anyio.create_task_group() as group:
        group.start_soon(log.reached, target)
        await log.append("a", "1", lambda _: b"")
        await log.append("a", "2", lambda _: b"")
    assert log.revision == target
    log.close()


@pytest.mark.parametrize(("watches", "together"), [(3, False), (40, True)], ids=["few", "many"])
async def test_changes_are_announced_together_to_many_watches(watches: int, together: bool) -> None:
    """Few are told of each change at once; many of the first at once, and of the next a moment later."""
    log, clock, wakes = store.open_memory(), ManualClock(), 0

    async def follow(watch: store.log.Watch) -> None:
        nonlocal wakes
        while True:
            await watch.changed()
            if watch.take():
                wakes += 1

    async with anyio.create_task_group() as group:
        group.start_soon(log.pace_forever, clock)
        for _ in range(watches):
            group.start_soon(follow, log.watch("pods", after=log.revision))
        await anyio.wait_all_tasks_blocked()
        for number in range(5):
            await log.append("pods", f"a/{number}", lambda _: b"")
            await anyio.wait_all_tasks_blocked()
        assert wakes == watches * (1 if together else 5)
        await clock.advance(0.02)
        await anyio.wait_all_tasks_blocked()
        assert wakes == watches * (2 if together else 5)
        await clock.advance(0.02)
        await anyio.wait_all_tasks_blocked()
        await log.append("pods", "a/x", lambda _: b"")
        await anyio.wait_all_tasks_blocked()
        assert wakes == watches * (3 if together else 6), "after a rest the first is told at once again"
        group.cancel_scope.cancel()
    log.close()
