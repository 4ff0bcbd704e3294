"""The autoscaler's arithmetic, against the rules it follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.serverless.autoscaler.decide import Decider, Scaling
from ondol.serverless.autoscaler.window import MaximumWindow, Window


def _steady(scaling: Scaling, value: float, *, ready: int, seconds: int = 60) -> int:
    decider = Decider(scaling)
    for second in range(seconds):
        decider.record(second, value)
    decision = decider.decide(seconds - 1, ready)
    assert decision is not None
    return decision.replicas


@pytest.mark.parametrize(
    ("concurrency", "target", "ready", "expected"),
    [
        (0.0, 100.0, 1, 0),
        (1.0, 100.0, 1, 1),
        (70.0, 100.0, 1, 1),
        (70.1, 100.0, 1, 2),
        (700.0, 100.0, 10, 10),
        (10.0, 1.0, 5, 15),
    ],
)
def test_replicas_follow_the_load(concurrency: float, target: float, ready: int, expected: int) -> None:
    """Replicas are the load divided by seventy percent of the target, rounded up."""
    assert _steady(Scaling(target=target), concurrency, ready=ready) == expected


def test_container_concurrency_caps_the_target() -> None:
    """A hard limit below the soft target is what counts."""
    assert Scaling(target=100, container_concurrency=10).target_value == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("window_s", "percent", "expected"),
    [(60, 10, 6), (6, 10, 1), (6, 1, 1), (25, 10, 3), (45, 10, 5), (35, 10, 4), (3600, 100, 3600)],
)
def test_panic_window_is_a_share_in_whole_seconds(window_s: int, percent: float, expected: int) -> None:
    """Rounded to the nearest second, halves up, and never less than one."""
    assert Scaling(window_s=window_s, panic_window_percent=percent).panic_window_s == expected


@pytest.mark.parametrize(
    ("threshold", "burst", "ready", "panics"),
    [
        (2.0, 40, 2, True),
        (2.0, 30, 2, False),
        (1.1, 30, 2, True),
        (2.0, 11, 0, True),
        (10.0, 90, 1, False),
        (10.0, 91, 1, True),
    ],
)
def test_panic_begins_at_its_threshold(threshold: float, burst: float, ready: int, panics: bool) -> None:
    """When the short window wants, in whole pods, so many times the ready ones, not a little less."""
    decider = Decider(Scaling(target=10, utilization=1.0, panic_threshold=threshold))
    decider.record(0.0, burst)
    decision = decider.decide(0.0, ready)
    assert decision is not None
    assert decision.panicking is panics


def test_no_samples_no_decision() -> None:
    """Without data nothing is decided."""
    assert Decider(Scaling()).decide(0.0, ready=3) is None


def test_scale_down_is_at_most_halving() -> None:
    """A load that falls but does not end takes away at most half of the replicas at a time."""
    assert _steady(Scaling(target=1), 0.1, ready=20) == 10


def test_burst_panics_and_does_not_shrink_until_the_window_has_passed() -> None:
    """A burst beyond twice the capacity scales by the short window and holds for a stable window."""
    decider = Decider(Scaling(target=10, window_s=60))
    for second in range(60):
        decider.record(second, 1.0)
    for second in range(60, 66):
        decider.record(second, 140.0)
    panic = decider.decide(65.0, ready=1)
    assert panic is not None
    assert panic.panicking
    assert panic.replicas == 20
    for second in range(66, 100):
        decider.record(second, 1.0)
    decision = decider.decide(99.0, ready=20)
    assert decision is not None
    assert decision.panicking
    assert decision.replicas == 20
    for second in range(100, 190):
        decider.record(second, 1.0)
    after = decider.decide(189.0, ready=20)
    assert after is not None
    assert not after.panicking
    assert after.replicas == 10


def test_bounds_hold_and_an_unreachable_revision_has_no_floor() -> None:
    """Minimum and maximum scale bound the decision; a revision no route points at may go to zero."""
    scaling = Scaling(target=1, min_scale=2, max_scale=3)
    assert _steady(scaling, 0.0, ready=2) == 2
    assert _steady(scaling, 50.0, ready=3) == 3
    decider = Decider(scaling)
    decider.record(0.0, 0.0)
    unreachable = decider.decide(0.0, 2, reachable=False)
    assert unreachable is not None
    assert unreachable.replicas == 0


def test_activation_scale_lifts_the_first_step() -> None:
    """Waking up starts with the asked number of replicas, and zero stays zero."""
    assert _steady(Scaling(target=10, activation_scale=4), 1.0, ready=0) == 4
    assert _steady(Scaling(target=10, activation_scale=4), 0.0, ready=0) == 0


def test_scale_down_delay_keeps_the_highest_recent_wish() -> None:
    """With a delay, a fall of the load is followed only after the delay."""
    decider = Decider(Scaling(target=1, utilization=1.0, window_s=6, scale_down_delay_s=30))
    for second in range(6):
        decider.record(second, 4.0)
    first = decider.decide(5.0, ready=4)
    for second in range(6, 30):
        decider.record(second, 0.0)
    later = decider.decide(29.0, ready=4)
    assert first is not None
    assert later is not None
    assert (first.replicas, later.replicas) == (4, 4)


@pytest.mark.parametrize(("burst", "expected"), [(0.0, 0.0), (-1.0, -1.0), (100.0, 150.0), (300.0, -50.0)])
def test_excess_burst_capacity(burst: float, expected: float) -> None:
    """What is left of the capacity after the burst it should take and the load it has."""
    decider = Decider(Scaling(target=100, burst_capacity=burst))
    decider.record(0.0, 50.0)
    decision = decider.decide(0.0, ready=3)
    assert decision is not None
    assert decision.excess_burst_capacity == expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(0, 50))
def test_never_negative_never_beyond_the_rate(samples: list[float], ready: int) -> None:
    """Whatever the samples, the desired number is a sane one."""
    decider = Decider(Scaling(target=1, max_scale_up_rate=10))
    for second, sample in enumerate(samples):
        decider.record(second, sample)
    decision = decider.decide(len(samples) - 1, ready)
    assert decision is not None
    assert 0 <= decision.replicas <= 10 * max(1, ready)


def test_window_counts_missing_seconds_as_zero() -> None:
    """Seconds without a value dilute the average once the window has begun."""
    window = Window(10)
    window.record(0.0, 10.0)
    assert window.average(0.5) == pytest.approx(10.0)
    assert window.average(4.0) == pytest.approx(2.0)
    assert window.average(20.0) is None


@pytest.mark.parametrize("length_s", [1, 2, 6])
@given(sampled_at=st.floats(0, 0.49), read_at=st.floats(0, 0.99))
def test_window_has_a_value_whenever_it_is_asked(length_s: int, sampled_at: float, read_at: float) -> None:
    """Two samples a second suffice for the shortest window, wherever in a second it is asked."""
    window = Window(length_s)
    samples = [sampled_at + number / 2 for number in range(40)]
    for second in range(1, 19):
        while samples and samples[0] <= second + read_at:
            window.record(samples.pop(0), 8.0)
        assert window.average(second + read_at) == pytest.approx(8.0)


def test_values_of_one_second_are_averaged() -> None:
    """Sampling more often than once a second does not inflate the average."""
    window = Window(5)
    for quarter in range(8):
        window.record(quarter / 4, 8.0)
    assert window.average(1.9) == pytest.approx(8.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 100)), min_size=1))
def test_maximum_window_is_the_maximum(steps: list[tuple[float, int]]) -> None:
    """The delayed value is exactly the largest of the last seconds."""
    window, now, seen = MaximumWindow(7.0), 0.0, []
    for step, value in steps:
        now += step
        seen.append((now, value))
        assert window.record(now, value) == max(v for at, v in seen if at >= now - 7.0)
