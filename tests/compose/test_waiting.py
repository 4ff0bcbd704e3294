"""Waits of commands, on a clock that the test moves."""

from __future__ import annotations

from ondol.compose import waiting


class _Clock:
    """Moves as it is slept on."""

    def __init__(self) -> None:
        self.time = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


def test_a_condition_is_asked_until_it_holds() -> None:
    """At once if it holds already, without a pause; as often as needed otherwise."""
    clock = _Clock()
    assert waiting.until(lambda: True, timeout_s=0.0, clock=clock.monotonic, pause=clock.sleep)
    assert clock.pauses == []
    answers = iter([False, False, True])
    assert waiting.until(
        lambda: next(answers), timeout_s=10.0, poll_s=0.5, clock=clock.monotonic, pause=clock.sleep
    )
    assert clock.pauses == [0.5, 0.5]


def test_a_condition_that_never_holds_is_given_up() -> None:
    """Not before the time is over."""
    clock = _Clock()
    assert not waiting.until(
        lambda: False, timeout_s=2.0, poll_s=0.5, clock=clock.monotonic, pause=clock.sleep
    )
    assert 102.0 <= clock.time <= 103.0


def test_a_deadline_counts_down_to_nothing() -> None:
    """What is left is never negative; it has passed once more than its time is over."""
    clock = _Clock()
    deadline, watch = waiting.Deadline(3.0, clock.monotonic), waiting.Stopwatch(clock.monotonic)
    assert (deadline.left_s, deadline.has_passed, watch.elapsed_s) == (3.0, False, 0.0)
    clock.sleep(3.0)
    assert (deadline.left_s, deadline.has_passed) == (0.0, False)
    clock.sleep(1.0)
    assert (deadline.left_s, deadline.has_passed, watch.elapsed_s) == (0.0, True, 4.0)
