"""Sends the events of sources: those of one source in their order, again after a failure, for a while.

A source has no journal of its own: what cannot be sent for about five minutes is given up, counted and told,
as is what comes while too much waits. A sink that must not miss anything is a Broker or a Channel.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ondol.api.objects import Key, Resource
from ondol.base import log, metrics
from ondol.base.clock import Clock
from ondol.base.metrics import Family
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import outcome, policy
from ondol.eventing.exchange import Sender, Target
from ondol.eventing.sources import attempts

_WAITING_MAX: Final = 1000
"""Events of one source that wait for their turn."""
POLICY: Final = policy.of(policy.SOURCE_DEFAULT)
_JITTER: Final = 0.1
_ASKED_MAX_S: Final = 60.0
"""At most so long a Retry-After is heeded."""


Source = tuple[Resource, Key]
"""Whose events they are."""


@dataclass(slots=True)
class Counts:
    """What became of events."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    dead_lettered: int = 0


@dataclass(slots=True)
class _Line:
    """The events of one source that wait; `is_served` while somebody sends them."""

    waiting: deque[tuple[Event, Target]] = field(default_factory=deque)
    is_served: bool = False


class Outbox:
    """One for a process; `run` must be running for anything to be sent."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        rng: random.Random,
        *,
        lost: Callable[[Source, str], None] = lambda _source, _reason: None,
    ) -> None:
        """`lost` is called with the source and the reason for each event that is given up."""
        self._sender = sender
        self._clock = clock
        self._rng = rng
        self._lost = lost
        self._lines: dict[Source, _Line] = {}
        self._tasks: TaskGroup | None = None
        self._log = log.get("outbox")
        self.counts: dict[Resource, Counts] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for source, line in list(self._lines.items()):
                self._serve(source, line)
            await self._clock.sleep(math.inf)

    def post(self, source: Source, event: Event, target: Target) -> None:
        """Send this after what the source posted before; given up at once if too much waits."""
        line = self._lines.setdefault(source, _Line())
        if len(line.waiting) >= _WAITING_MAX:
            self.count(source[0]).dropped += 1
            self._lost(source, f"more than {_WAITING_MAX} events wait to be sent to {target.url}")
            return
        line.waiting.append((event, target))
        self._serve(source, line)

    def forget(self, source: Source) -> None:
        """The source is gone, and what of its events waits with it."""
        self._lines.pop(source, None)

    def waiting(self, source: Source) -> int:
        """How many events of a source have not begun to be sent."""
        line = self._lines.get(source)
        return 0 if line is None else len(line.waiting)

    def metrics(self) -> Iterator[Family]:
        """Counters by kind of source: a collector for a page of metrics."""
        samples = {
            (resource.kind, outcome): float(count)
            for resource, counts in self.counts.items()
            for outcome, count in dataclasses.asdict(counts).items()
        }
        text = "Events of sources, by what became of them."
        yield metrics.counter("ondol_source_events_total", text, samples, ("kind", "outcome"))

    def count(self, resource: Resource) -> Counts:
        """The counters of a kind, also of one that sends by itself."""
        return self.counts.setdefault(resource, Counts())

    def _serve(self, source: Source, line: _Line) -> None:
        if self._tasks is not None and not line.is_served and line.waiting:
            line.is_served = True
            self._tasks.start_soon(self._work_off, source, line)

    async def _work_off(self, source: Source, line: _Line) -> None:
        try:
            while line.waiting and self._lines.get(source) is line:
                event, target = line.waiting.popleft()
                await self._deliver(source, line, event, target)
        finally:
            line.is_served = False

    async def _deliver(self, source: Source, line: _Line, event: Event, target: Target) -> None:
        for failures in itertools.count(1):
            answer, reason = await attempts.attempt(self._sender, event, target)
            if answer.is_accepted:
                self.count(source[0]).sent += 1
                return
            is_refused = attempts.is_refused(answer)
            if is_refused or failures > POLICY.retries:
                break
            asked_s = outcome.retry_after_s(answer.status, answer.headers, self._clock.now()) or 0.0
            pause_s = max(policy.pause_s(POLICY, failures), min(asked_s, _ASKED_MAX_S))
            await self._clock.sleep(pause_s * (1.0 + _JITTER * self._rng.random()))
            if self._lines.get(source) is not line:
                return
        self.count(source[0]).failed += 1
        self._log.warning("event_lost", source=str(source[1]), kind=source[0].kind, reason=reason)
        self._lost(source, reason)
