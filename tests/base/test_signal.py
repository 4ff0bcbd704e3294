"""The signal that is armed again: nothing that is set is missed, and nothing is heard twice."""

from __future__ import annotations

import anyio
import pytest

from ondol.base.signal import Signal

pytestmark = pytest.mark.anyio


async def test_a_loop_hears_each_change_once() -> None:
    """What comes while it works is another round, however often it comes."""
    signal, rounds = Signal(), 0

    async def loop() -> None:
        nonlocal rounds
        while True:
            await signal.wait()
            signal.clear()
            rounds += 1
            if rounds == 2:
                signal.set()

    async with anyio.create_task_group() as tasks:
        signal.set()
        tasks.start_soon(loop)
        await anyio.wait_all_tasks_blocked()
        assert (rounds, signal.is_set) == (1, False)
        signal.set()
        signal.set()
        await anyio.wait_all_tasks_blocked()
        assert rounds == 3
        tasks.cancel_scope.cancel()


async def test_all_who_took_the_next_are_woken() -> None:
    """By the first time it is set after they took it, and not by one before."""
    signal = Signal()
    signal.set()
    first, second = signal.next, signal.next
    assert not first.is_set()
    signal.set()
    assert first.is_set()
    assert second.is_set()
    assert not signal.next.is_set()
