"""Deadlines of requests: one timer for all of them, where a timer of the event loop each would cost more.

Almost every request ends long before its time is over, so what counts is what it costs to set a deadline
and to take it away: a cancel scope and an entry of a dictionary. `App` sets them; `run` is one of the
server's tasks.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import anyio

from ondol.base.clock import Clock
from ondol.base.signal import Signal


class Deadlines:
    """What is under way, and the time of `clock.monotonic` at which it is cancelled."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[anyio.CancelScope, float] = {}
        self._next = math.inf
        """When `run` looks again; no entry that has not been looked at is due before."""
        self._earlier = Signal()

    def fail_after(self, seconds: float) -> Deadline:
        """A block that raises `TimeoutError` if it takes longer; not sooner, and not much later."""
        return Deadline(self, self._clock.monotonic() + seconds)

    def set(self, scope: anyio.CancelScope, at: float) -> None:
        self._due[scope] = at
        if at < self._next:
            self._earlier.set()

    def remove(self, scope: anyio.CancelScope) -> None:
        del self._due[scope]

    async def run(self) -> None:
        """Cancel what is late, for ever.

        It wakes at the earliest deadline there was when it last looked, although that request has ended
        since: once in a request's time, not once a request.
        """
        while True:
            now = self._clock.monotonic()
            for scope, at in self._due.items():
                if at <= now:
                    scope.cancel()
            self._next = min((at for at in self._due.values() if at > now), default=math.inf)
            self._earlier.clear()
            with self._clock.move_on_after(self._next - now):
                await self._earlier.wait()


class Deadline:
    """A block that is cancelled at its deadline, and then raises `TimeoutError`."""

    __slots__ = ("_at", "_deadlines", "_scope")

    def __init__(self, deadlines: Deadlines, at: float) -> None:
        self._deadlines = deadlines
        self._at = at
        self._scope = anyio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._deadlines.set(self._scope, self._at)
        return self

    def postpone(self, seconds: float) -> None:
        self._at += seconds
        self._deadlines.set(self._scope, self._at)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self._scope)
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise TimeoutError from error
