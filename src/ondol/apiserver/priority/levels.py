"""Priority levels: how many requests of each are under way at once, and what becomes of one more.

A level has seats by its shares of all. It takes more while others leave idle what they lend
(`lendablePercent`), up to what it may borrow. A lender takes its own seats at any time: then more than all
are taken, until those that were borrowed are given back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver.priority.queues import Queues, Waiter
from ondol.base import errors
from ondol.base.clock import Clock


class Seat(Protocol):
    """What a request has until it is over."""

    def leave(self) -> None: ...


class Level:
    """One level. It is the seat of those who found one free: there is nothing to remember of them."""

    def __init__(self, levels: Levels, clock: Clock) -> None:
        self._levels = levels
        self._clock = clock
        self.header = b""
        self.is_exempt = False
        self.seats = self.lendable = self.limit = 0
        self.taken = 0
        self.queues: Queues | None = None
        self.rejected = 0

    def become(self, obj: Object, seats: int) -> None:
        """What its object says now; who waits goes on waiting, by the new rules."""
        spec = objects.spec(obj)
        self.header = objects.uid(obj).encode()
        self.is_exempt = spec.get("type") == "Exempt"
        limited = spec.get("limited") or spec.get("exempt") or {}
        self.seats = seats
        self.lendable = round(seats * (limited.get("lendablePercent") or 0) / 100)
        borrowed = limited.get("borrowingLimitPercent")
        self.limit = self._levels.total if borrowed is None else seats + round(seats * borrowed / 100)
        self._become_queues((limited.get("limitResponse") or {}).get("queuing"))
        self.fill()

    def _become_queues(self, queuing: Mapping[str, Any] | None) -> None:
        shape = (queuing["queues"], queuing["handSize"], queuing["queueLengthLimit"]) if queuing else None
        if self.queues is not None and self.queues.waiting:
            return  # until they have gone; the next change of any object looks again
        if (self.queues.shape if self.queues is not None else None) != shape:
            self.queues = Queues(*shape) if shape is not None else None

    @property
    def idle(self) -> int:
        """How many of its seats others may have now."""
        return max(0, min(self.lendable, self.seats - self.taken))

    @property
    def has_room(self) -> bool:
        taken = self.taken
        if self.is_exempt or taken < self.seats:
            return True
        return taken < self.limit and self._levels.has_idle()

    def take(self) -> bool:
        """Take a seat if there is one, and nobody waits who came earlier."""
        if (self.queues is not None and self.queues.waiting) or not self.has_room:
            return False
        self.taken += 1
        return True

    async def wait(self, flow: str, limit_s: float) -> Seat:
        """Wait for a seat as long as it may take; `TooManyRequests` if there will be none."""
        waiter = self.queues.join(flow) if self.queues is not None else None
        if waiter is None or self.queues is None:
            raise self._refused()
        try:
            with self._clock.move_on_after(limit_s):
                await waiter.ready.wait()
        except BaseException:
            if waiter.is_seated:
                _Queued(self, self.queues, waiter).leave()
            else:
                self.queues.leave(waiter)
            raise
        if not waiter.is_seated:
            self.queues.leave(waiter)
            raise self._refused()
        return _Queued(self, self.queues, waiter)

    def leave(self) -> None:
        self.taken -= 1
        self.fill()
        self._levels.released(self)

    def fill(self) -> None:
        """Give the seats that are free to those who wait."""
        while self.queues is not None and self.queues.waiting and self.has_room:
            self.queues.next(self._clock.monotonic())
            self.taken += 1

    def _refused(self) -> errors.TooManyRequests:
        self.rejected += 1
        return errors.TooManyRequests("Too many requests, please try again later.", retry_after_s=1)


class _Queued:
    """The seat of somebody who waited for it."""

    __slots__ = ("_level", "_queues", "_waiter")

    def __init__(self, level: Level, queues: Queues, waiter: Waiter) -> None:
        self._level = level
        self._queues = queues
        self._waiter = waiter

    def leave(self) -> None:
        self._queues.over(self._waiter, self._level._clock.monotonic())  # noqa: SLF001 - the level's own seat
        self._level.leave()


class Levels:
    """All levels, which share one number of seats."""

    def __init__(self, total: int, clock: Clock) -> None:
        self.total = total
        self._clock = clock
        self.by_name: dict[str, Level] = {}

    def update(self, documents: Mapping[str, Object]) -> None:
        """The levels there are now. One that is gone is left to those who are in it."""
        shares = {name: _shares(obj) for name, obj in documents.items()}
        all_shares = sum(shares.values()) or 1
        for name in self.by_name.keys() - documents.keys():
            del self.by_name[name]
        for name, obj in documents.items():
            level = self.by_name.get(name)
            if level is None:
                level = self.by_name[name] = Level(self, self._clock)
            level.become(obj, math.ceil(self.total * shares[name] / all_shares))

    def has_idle(self) -> bool:
        """Whether what levels lend is more than what others have borrowed."""
        levels = self.by_name.values()
        borrowed = sum(max(0, level.taken - level.seats) for level in levels if not level.is_exempt)
        return sum(level.idle for level in levels) > borrowed

    def released(self, level: Level) -> None:
        """A level has a seat to lend again, perhaps."""
        if level.idle:
            for other in self.by_name.values():
                if other is not level and other.queues is not None and other.queues.waiting:
                    other.fill()


def _shares(obj: Object) -> int:
    spec = objects.spec(obj)
    limited = spec.get("limited") or spec.get("exempt") or {}
    return int(limited.get("nominalConcurrencyShares") or 0)
