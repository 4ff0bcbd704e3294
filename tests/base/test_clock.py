"""Clocks: a time that moves by hand, and the wire forms of time."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.base import clock

pytestmark = pytest.mark.anyio


async def test_sleepers_wake_in_order_as_time_passes_them() -> None:
    """Each sees the time it asked for, and one that sleeps again is woken within the same advance."""
    manual = clock.ManualClock(start=100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            await manual.sleep(pause)
            woken.append((name, manual.now()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "late", 5.0)
        tasks.start_soon(sleeper, "twice", 1.0, 2.0)
        await anyio.wait_all_tasks_blocked()
        await manual.advance(4.0)
        assert woken == [("twice", 101.0), ("twice", 103.0)]
        await manual.advance(1.0)
    assert woken[-1] == ("late", 105.0)
    assert manual.monotonic() == 5.0


async def test_a_sleep_of_nothing_does_not_wait_for_the_clock() -> None:
    """Zero and negative waits return at once."""
    manual = clock.ManualClock()
    await manual.sleep(0)
    await manual.sleep(-1)
    assert manual.monotonic() == 0.0


@pytest.mark.parametrize("make", [clock.ManualClock, clock.SystemClock])
async def test_a_limit_ends_what_takes_longer(make: Callable[[], clock.Clock]) -> None:
    """One kind goes on behind the block, the other raises; a block that ends in time feels neither."""
    timekeeper = make()
    reached: list[str] = []

    async def work() -> None:
        with timekeeper.move_on_after(0.02):
            await anyio.sleep_forever()
        reached.append("behind")
        with pytest.raises(TimeoutError), timekeeper.fail_after(0.02):
            await anyio.sleep_forever()
        with timekeeper.fail_after(0.02) as scope:
            reached.append("within")
        assert not scope.cancelled_caught

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        if isinstance(timekeeper, clock.ManualClock):
            assert reached == []
            await timekeeper.advance(0.05)
    assert reached == ["behind", "within"]


async def test_a_limit_of_nothing_ends_the_block_at_its_first_wait() -> None:
    """As with the loop's own limits: what does not wait is done."""
    manual = clock.ManualClock()
    done = False
    with manual.move_on_after(0):
        done = True
        await anyio.sleep_forever()
    assert done


async def test_the_systems_clock_sleeps_at_least_as_long_as_asked() -> None:
    """Monotonic time is what a sleep is measured in."""
    system = clock.SystemClock()
    before = system.monotonic()
    await system.sleep(0.01)
    assert system.monotonic() - before >= 0.01


@given(st.floats(0, 4_000_000_000))
def test_times_survive_their_wire_form(timestamp: float) -> None:
    """Whole seconds for `Time`, microseconds for `MicroTime`."""
    assert clock.parse_rfc3339(clock.rfc3339(timestamp)) == int(timestamp)
    assert abs(clock.parse_rfc3339(clock.rfc3339_micro(timestamp)) - timestamp) < 2e-6


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14T22:13:20", "2023-13-01T00:00:00Z"])
def test_a_time_without_zone_or_sense_is_refused(text: str) -> None:
    """A local time would mean another moment on another machine."""
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the standard library's own
        clock.parse_rfc3339(text)


def test_offsets_are_understood() -> None:
    """Other zones name the same moment."""
    assert clock.parse_rfc3339("2023-11-14T23:13:20+01:00") == clock.parse_rfc3339("2023-11-14T22:13:20Z")
