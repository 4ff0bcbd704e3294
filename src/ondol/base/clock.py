"""Time as a parameter: nothing reads the time except through a `Clock` it was given."""

from __future__ import annotations

import time
from typing import Protocol

import anyio
import anyio.lowlevel

from ondol.base.timestamps import parse_rfc3339, rfc3339, rfc3339_micro

__all__ = ["Clock", "ManualClock", "SystemClock", "parse_rfc3339", "rfc3339", "rfc3339_micro"]


class Clock(Protocol):
    """Wall time, monotonic time and sleep.

    `now` is seconds since the Unix epoch and may jump; `monotonic` only ever grows and is for
    measuring; `sleep` waits at least `seconds` of monotonic time.
    """

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class ManualClock:
    """A clock that moves only when `advance` is called; sleepers wake as it passes them."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._epoch = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, anyio.Event]] = []

    def now(self) -> float:
        return self._epoch + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        self._sleepers.append((self._elapsed + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking each sleeper in order and letting it run before the next."""
        target = self._elapsed + seconds
        while due := [s for s in self._sleepers if s[0] <= target]:
            first = min(due, key=lambda s: s[0])
            self._sleepers.remove(first)
            self._elapsed = max(self._elapsed, first[0])
            first[1].set()
            await anyio.wait_all_tasks_blocked()
        self._elapsed = target
        await anyio.wait_all_tasks_blocked()
