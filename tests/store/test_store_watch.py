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
    kept = store.open_memory()
    watch = kept.watch("pods", after=kept.revision)
    woken = anyio.Event()

    async def wait() -> None:
        await watch.changed()
        woken.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await kept.append("nodes", "n", lambda _: b"")
        await anyio.wait_all_tasks_blocked()
        assert not woken.is_set()
        await kept.append("pods", "a/p", lambda _: b"")
        await anyio.wait_all_tasks_blocked()
        assert woken.is_set()
    kept.close()


async def test_wake_ends_the_wait_even_if_it_comes_first() -> None:
    """A timer may fire between two waits without being lost."""
    kept = store.open_memory()
    watch = kept.watch("pods", after=kept.revision)
    watch.wake()
    with anyio.fail_after(1):
        await watch.changed()
    with anyio.move_on_after(0.02) as scope:
        await watch.changed()
    assert scope.cancelled_caught  # one wake ends one wait
    kept.close()


async def test_a_slow_watch_expires_and_never_holds_up_the_writer() -> None:
    """Beyond the bounds of the history the watch is told to start over."""
    kept = store.open_memory(store.Retention(events=8))
    watch = kept.watch("pods", after=kept.revision)
    for number in range(20):
        await kept.append("pods", f"a/{number}", lambda _: b"")
    with pytest.raises(errors.Expired, match="too old"):
        watch.take()
    kept.close()


async def test_size_bounds_the_history_too() -> None:
    """A few large objects count as much as many small ones."""
    kept = store.open_memory(store.Retention(size_bytes=1000))
    watch = kept.watch("secrets", after=kept.revision)
    for number in range(5):
        await kept.append("secrets", f"a/{number}", lambda _: b"x" * 400)
    with pytest.raises(errors.Expired):
        watch.take()
    assert kept.count("secrets") == 5
    kept.close()


async def test_a_prefix_narrows_a_watch() -> None:
    """A watch of one namespace hears nothing of the others, yet moves on past them."""
    kept = store.open_memory()
    watch = kept.watch("pods", "a/", after=kept.revision)
    await kept.append("pods", "b/x", lambda _: b"")
    assert watch.take() == []
    assert watch.revision == kept.revision
    await kept.append("pods", "a/x", lambda _: b"")
    assert [event.record.name for event in watch.take()] == ["a/x"]
    kept.close()


async def test_reached_waits_for_a_revision() -> None:
    """A reader that knows a later revision waits for it."""
    kept = store.open_memory()
    target = kept.revision + 2
    async with anyio.create_task_group() as group:
        group.start_soon(kept.reached, target)
        await kept.append("a", "1", lambda _: b"")
        await kept.append("a", "2", lambda _: b"")
    assert kept.revision == target
    kept.close()


@pytest.mark.parametrize(("watches", "together"), [(3, False), (40, True)], ids=["few", "many"])
async def test_changes_are_announced_together_to_many_watches(watches: int, together: bool) -> None:
    """Few are told of each change at once; many of the first at once, and of the next a moment later."""
    kept, clock, wakes = store.open_memory(), ManualClock(), 0

    async def follow(watch: store.log.Watch) -> None:
        nonlocal wakes
        while True:
            await watch.changed()
            if watch.take():
                wakes += 1

    async with anyio.create_task_group() as group:
        group.start_soon(kept.pace_forever, clock)
        for _ in range(watches):
            group.start_soon(follow, kept.watch("pods", after=kept.revision))
        await anyio.wait_all_tasks_blocked()
        for number in range(5):
            await kept.append("pods", f"a/{number}", lambda _: b"")
            await anyio.wait_all_tasks_blocked()
        assert wakes == watches * (1 if together else 5)
        await clock.advance(0.02)
        await anyio.wait_all_tasks_blocked()
        assert wakes == watches * (2 if together else 5)
        await clock.advance(0.02)
        await anyio.wait_all_tasks_blocked()
        await kept.append("pods", "a/x", lambda _: b"")
        await anyio.wait_all_tasks_blocked()
        assert wakes == watches * (3 if together else 6), "after a rest the first is told at once again"
        group.cancel_scope.cancel()
    kept.close()
