"""Time as a parameter: nothing reads the time except through a `Clock` it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import anyio
import anyio.lowlevel

from ondol.base.timestamps import parse_rfc3339, rfc3339, rfc3339_micro

__all__ = ["Clock", "ManualClock", "SystemClock", "parse_rfc3339", "rfc3339", "rfc3339_micro"]


class Clock(Protocol):
    """Wall time, monotonic time, sleep, and limits on how long a block may take.

    `now` is seconds since the Unix epoch and may jump; `monotonic` only ever grows and is for
    measuring; `sleep` waits at least `seconds` of monotonic time. `move_on_after` cancels what is in the
    block once `seconds` have passed and goes on behind it; `fail_after` then raises `TimeoutError`.
    """

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]: ...

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.move_on_after(seconds)

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.fail_after(seconds)


class ManualClock:
    """A clock that moves only when `advance` is called; sleepers wake as it passes them."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._epoch = start
        self._elapsed = 0.0
        self._timers: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return self._epoch + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        with self._timer(seconds, woken.set):
            await woken.wait()

    @contextmanager
    def move_on_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        with anyio.CancelScope() as scope, self._timer(seconds, scope.cancel):
            yield scope

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        with self.move_on_after(seconds) as scope:
            yield scope
        if scope.cancelled_caught:
            raise TimeoutError

    @contextmanager
    def _timer(self, seconds: float, ring: Callable[[], object]) -> Iterator[None]:
        """Have `ring` called when so much time has passed, unless the block has ended by then."""
        timer = (self._elapsed + seconds, ring)
        if seconds <= 0:
            ring()
        else:
            self._timers.append(timer)
        try:
            yield
        finally:
            self._timers = [each for each in self._timers if each is not timer]

    async def advance(self, seconds: float) -> None:
        """Move time forward, ringing each timer in order and letting what it wakes run before the next."""
        target = self._elapsed + seconds
        while due := [timer for timer in self._timers if timer[0] <= target]:
            first = min(due, key=lambda timer: timer[0])
            self._timers.remove(first)
            self._elapsed = max(self._elapsed, first[0])
            first[1]()
            await anyio.wait_all_tasks_blocked()
        self._elapsed = target
        await anyio.wait_all_tasks_blocked()
