"""The queue of a revision: its ready pods, the load of each, and the requests that wait for one.

Synchronous and free of I/O: `try_acquire` decides at once; a caller that must wait gets a ticket
whose event is set when its turn has come (knative/serving `pkg/activator/net/throttler.go`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio


class Endpoint(NamedTuple):
    """Where a pod answers."""

    host: str
    port: int


class QueueFull(Exception):
    """So many requests wait already that one more is refused."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue; `endpoint` is set together with `called`."""

    called: anyio.Event = field(default_factory=anyio.Event)
    endpoint: Endpoint | None = None


class Throttler:
    """Hands out endpoints: at most `concurrency` requests a pod (0 is no limit), first come first served."""

    def __init__(
        self, *, concurrency: int, queue_max: int = 10_000, rng: random.Random | None = None
    ) -> None:
        self.concurrency = concurrency
        self._queue_max = queue_max
        self._rng = rng or random.Random()  # noqa: S311 - load balancing, not secrets
        self._in_flight: dict[Endpoint, int] = {}
        self._ready: list[Endpoint] = []
        self._waiting: deque[Ticket] = deque()

    @property
    def demand(self) -> int:
        """Requests held plus requests in flight through here."""
        return len(self._waiting) + self.in_flight

    @property
    def in_flight(self) -> int:
        """Requests at a pod."""
        return sum(self._in_flight.values())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def ready(self) -> tuple[Endpoint, ...]:
        return tuple(self._ready)

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Replace the ready pods; those that wait are called as far as there is room."""
        self._ready = sorted(set(endpoints))
        self._call_waiting()

    def try_acquire(self) -> Endpoint | Ticket:
        """An endpoint at once, or a ticket to wait with; `QueueFull` when too many wait."""
        if not self._waiting and (chosen := self._choose()) is not None:
            return self._take(chosen)
        if len(self._waiting) >= self._queue_max:
            raise QueueFull
        ticket = Ticket()
        self._waiting.append(ticket)
        return ticket

    def release(self, endpoint: Endpoint) -> None:
        """Give back an endpoint that was acquired; the next in the queue may have it."""
        remaining = self._in_flight[endpoint] - 1
        if remaining:
            self._in_flight[endpoint] = remaining
        else:
            del self._in_flight[endpoint]
        self._call_waiting()

    def cancel(self, ticket: Ticket) -> None:
        """Leave the queue; an endpoint that was already assigned is given back."""
        if ticket.endpoint is not None:
            self.release(ticket.endpoint)
        elif ticket in self._waiting:
            self._waiting.remove(ticket)

    def _call_waiting(self) -> None:
        while self._waiting and (chosen := self._choose()) is not None:
            ticket = self._waiting.popleft()
            ticket.endpoint = self._take(chosen)
            ticket.called.set()

    def _take(self, endpoint: Endpoint) -> Endpoint:
        self._in_flight[endpoint] = self._in_flight.get(endpoint, 0) + 1
        return endpoint

    def _choose(self) -> Endpoint | None:
        if self.concurrency == 0:
            if len(self._ready) < 2:
                return self._ready[0] if self._ready else None
            return min(self._rng.sample(self._ready, 2), key=lambda e: self._in_flight.get(e, 0))
        free = [e for e in self._ready if self._in_flight.get(e, 0) < self.concurrency]
        return min(free, key=lambda e: self._in_flight.get(e, 0)) if free else None
