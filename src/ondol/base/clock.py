"""Time as a parameter: nothing reads the time except through a `Clock` it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Protocol, TypeAlias

import anyio
import anyio.lowlevel

from ondol.base.timestamps import parse_rfc3339, rfc3339, rfc3339_micro

__all__ = ["Clock", "ManualClock", "SystemClock", "parse_rfc3339", "rfc3339", "rfc3339_micro"]


Limited: TypeAlias = "AbstractContextManager[anyio.CancelScope, bool]"
"""A block that may be left before its end: so a type checker knows that what stands behind it is reached."""
_Timer: TypeAlias = tuple[float, Callable[[], object]]


class Clock(Protocol):
    """Wall time, monotonic time, sleep, and limits on how long a block may take.

    `now` is seconds since the Unix epoch and may jump; `monotonic` only ever grows and is for
    measuring; `sleep` waits at least `seconds` of monotonic time. `move_on_after` cancels what is in the
    block once `seconds` have passed (`math.inf`: never) and goes on behind it; `fail_after` then raises
    `TimeoutError`.
    """

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def move_on_after(self, seconds: float) -> Limited: ...

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def move_on_after(self, seconds: float) -> Limited:
        return anyio.move_on_after(seconds)

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.fail_after(seconds)


class ManualClock:
    """A clock that moves only when `advance` is called; sleepers wake as it passes them."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._epoch = start
        self._elapsed = 0.0
        self._timers: list[_Timer] = []

    def now(self) -> float:
        return self._epoch + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        timer = self._start(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            self._stop(timer)

    def move_on_after(self, seconds: float) -> Limited:
        return _ManualLimit(seconds, self._start, self._stop)

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        with self.move_on_after(seconds) as scope:
            yield scope
        if scope.cancelled_caught:
            raise TimeoutError

    def _start(self, seconds: float, ring: Callable[[], object]) -> _Timer:
        """Have `ring` called when so much time has passed, unless the timer is stopped by then."""
        timer = (self._elapsed + seconds, ring)
        if seconds <= 0:
            ring()
        else:
            self._timers.append(timer)
        return timer

    def _stop(self, timer: _Timer) -> None:
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


class _ManualLimit:
    """A block that a `ManualClock` cancels. A generator could not declare that it swallows that."""

    def __init__(
        self,
        seconds: float,
        start: Callable[[float, Callable[[], object]], _Timer],
        stop: Callable[[_Timer], None],
    ) -> None:
        self._seconds = seconds
        self._start = start
        self._stop = stop
        self._scope = anyio.CancelScope()

    def __enter__(self) -> anyio.CancelScope:
        scope = self._scope.__enter__()
        self._timer = self._start(self._seconds, scope.cancel)
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._stop(self._timer)
        return self._scope.__exit__(kind, error, trace)
