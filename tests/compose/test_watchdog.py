"""Verdicts on silent parts, by numbers alone."""

from __future__ import annotations

import pytest

from ondol.compose.watchdog import Verdict, Watch


@pytest.mark.parametrize(
    ("silent_s", "worked_s", "verdict"),
    [
        (29.9, 0.0, Verdict.ALIVE),
        (29.9, 29.9, Verdict.ALIVE),
        (30.0, 0.0, Verdict.HANGS),
        (30.0, 15.0, Verdict.HANGS),
        (30.0, 15.1, Verdict.BUSY),
    ],
)
def test_silence_is_judged_by_the_work_in_it(silent_s: float, worked_s: float, verdict: Verdict) -> None:
    """Within the limit all is well; beyond it a part hangs unless it has worked for most of the time."""
    watch = Watch(30.0)
    watch.heard(100.0)
    watch.listened(silent_s)
    assert watch.verdict(100.0 + worked_s) is verdict
    assert watch.is_due == (verdict is not Verdict.ALIVE)


def test_work_gets_more_time_once() -> None:
    """Four times the limit in all, however hard it works; what it worked is counted from its last report."""
    watch = Watch(30.0)
    watch.listened(30.0)
    assert watch.verdict(30.0) is Verdict.BUSY
    watch.extend()
    watch.listened(89.9)
    assert watch.verdict(119.9) is Verdict.ALIVE
    watch.listened(0.1)
    assert watch.verdict(120.0) is Verdict.HANGS
    watch.heard(120.0)
    assert (watch.silent_s, watch.limit_s) == (0.0, 30.0)
    watch.listened(30.0)
    assert watch.verdict(120.0) is Verdict.HANGS
    assert watch.verdict(150.0) is Verdict.BUSY


def test_a_limit_is_listened_to_in_steps() -> None:
    """Never longer than a quarter of it at once, nor beyond it; an engine is asked six times in it."""
    watch = Watch(12.0)
    waits = []
    while not watch.is_due:
        waits.append(watch.wait_s())
        watch.listened(min(waits[-1], 2.5))
    assert waits == [3.0, 3.0, 3.0, 3.0, 2.0]
    assert watch.probe_interval_s == 2.0
    watch.extend()
    assert watch.probe_interval_s == 8.0
