"""Waiting in commands without an event loop: the one place where compose and cli read the machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_POLL_S: Final = 0.02

sleep: Final = time.sleep
now: Final = time.time
"""Seconds since the Unix epoch."""


class Stopwatch:
    """Seconds since it was made, of the monotonic clock unless another is passed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began


class Deadline:
    """A time so many seconds from now."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock() + seconds

    @property
    def left_s(self) -> float:
        """Seconds until then; 0 once it has passed."""
        return max(0.0, self._at - self._clock())

    @property
    def has_passed(self) -> bool:
        return self._clock() > self._at


def until(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    poll_s: float = _POLL_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether the condition came true in time; it is asked at least once, and again every `poll_s`."""
    deadline = Deadline(timeout_s, clock)
    while not condition():
        if deadline.has_passed:
            return False
        pause(poll_s)
    return True
