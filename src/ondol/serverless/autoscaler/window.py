"""A sliding window of one-second buckets, averaged over the seconds it has really seen."""

from __future__ import annotations

import math
from collections import deque


class Window:
    """Averages of a quantity over the last `length_s` whole seconds.

    Several values recorded in one second are averaged to that second's value; a second with no
    value counts as zero once the window has begun and the second is over. Time is given by the
    caller (monotonic seconds).
    """

    def __init__(self, length_s: int) -> None:
        if length_s < 1:
            raise ValueError("a window is at least one second long")
        self._length_s = length_s
        self._buckets: deque[tuple[int, float, int]] = deque()  # second, sum, count
        self._first_s: int | None = None

    def record(self, now_s: float, value: float) -> None:
        second = math.floor(now_s)
        if self._first_s is None:
            self._first_s = second
        if self._buckets and self._buckets[-1][0] == second:
            _, total, count = self._buckets[-1]
            self._buckets[-1] = (second, total + value, count + 1)
        else:
            self._buckets.append((second, value, 1))
        self._forget(second)

    def average(self, now_s: float) -> float | None:
        """The mean over the window, or None while nothing was ever recorded or all of it is too old."""
        second = math.floor(now_s)
        if self._buckets and self._buckets[-1][0] == second - 1:
            second -= 1  # the present second has no value yet, and is not over either
        self._forget(second)
        if self._first_s is None or not self._buckets:
            return None
        seen_s = min(self._length_s, second - self._first_s + 1)
        return sum(total / count for _, total, count in self._buckets) / max(seen_s, 1)

    def _forget(self, second: int) -> None:
        while self._buckets and self._buckets[0][0] <= second - self._length_s:
            self._buckets.popleft()
        if not self._buckets:
            self._first_s = None


class MaximumWindow:
    """The largest value of the last `length_s` seconds: what delays a scale-down."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._falling: deque[tuple[float, int]] = deque()

    def record(self, now_s: float, value: int) -> int:
        """Take in a value and return the maximum of the window."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now_s, value))
        while self._falling[0][0] < now_s - self._length_s:
            self._falling.popleft()
        return self._falling[0][1]
