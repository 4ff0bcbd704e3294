"""PingSources and timers: what sends by the clock. Each remembers when its next event is due."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base.clock import Clock
from ondol.contracts import eventing
from ondol.eventing.exchange import Target
from ondol.eventing.sources import adapters, pings, schedules
from ondol.eventing.sources.outbox import Outbox
from ondol.eventing.sources.schedules import Timetable, Unusable

_LOOK_S: Final = 300.0
"""The clock is looked at again after so long at most: it may be set meanwhile."""
_MILLISECOND_S: Final = 0.001
_PERIOD_MIN_S: Final = 0.01
PERIOD_MS: Final = 1000


@dataclass(slots=True)
class _Ping:
    """A source as it was looked at, and when it sends next; None for never."""

    generation: tuple[str, int]
    timetable: Timetable
    due: float | None


class Pings:
    """The feed of PingSources. What was due while the process was away is not sent later."""

    def __init__(self, outbox: Outbox, clock: Clock, rng: random.Random) -> None:
        self._outbox = outbox
        self._clock = clock
        self._rng = rng
        self._pings: dict[Key, _Ping] = {}

    async def serve(self, source: Object, target: Target) -> float | None:
        now, key = self._clock.now(), objects.key(source)
        ping = self._pings.get(key)
        if ping is None or ping.generation != _generation(source):
            timetable = _timetable(source)
            ping = _Ping(_generation(source), timetable, timetable.following(now))
            self._pings[key] = ping
        if ping.due is not None and ping.due <= now:
            event = pings.ping(source, id=adapters.event_id(self._rng), now=now)
            self._outbox.post(adapters.source_of(eventing.PING_SOURCE, source), event, target)
            ping.due = ping.timetable.following(now)
        return None if ping.due is None else min(ping.due - now, _LOOK_S)

    def stop(self, key: Key) -> None:
        self._pings.pop(key, None)


@dataclass(slots=True)
class _Timer:
    """A timer as it was looked at: when it sends next, in monotonic time, and how often it has."""

    generation: tuple[str, int]
    due: float
    sent: int = 0


class Timers:
    """The feed of IntegrationSources, of which the timer is served."""

    def __init__(self, outbox: Outbox, clock: Clock, rng: random.Random) -> None:
        self._outbox = outbox
        self._clock = clock
        self._rng = rng
        self._timers: dict[Key, _Timer] = {}

    async def serve(self, source: Object, target: Target) -> float | None:
        now, key = self._clock.monotonic(), objects.key(source)
        period_s = period(objects.spec(source).get("timer") or {})
        timer = self._timers.get(key)
        if timer is None or timer.generation != _generation(source):
            timer = self._timers[key] = _Timer(_generation(source), now + period_s)
        count_max = int((objects.spec(source).get("timer") or {}).get("repeatCount") or 0)
        if timer.due <= now and not 0 < count_max <= timer.sent:
            event = pings.tick(source, id=adapters.event_id(self._rng), now=self._clock.now())
            self._outbox.post(adapters.source_of(eventing.INTEGRATION_SOURCE, source), event, target)
            timer.sent += 1
            timer.due = max(timer.due + period_s, now)
        return None if 0 < count_max <= timer.sent else timer.due - now

    def stop(self, key: Key) -> None:
        self._timers.pop(key, None)


def period(timer: Mapping[str, Any]) -> float:
    """Seconds between two events of a timer, and no fewer than it can be kept up with."""
    return max(_PERIOD_MIN_S, int(timer.get("period") or PERIOD_MS) * _MILLISECOND_S)


def _generation(source: Object) -> tuple[str, int]:
    return objects.uid(source), objects.generation(source)


def _timetable(source: Object) -> Timetable:
    try:
        return schedules.of_spec(objects.spec(source))
    except Unusable as error:
        raise ValueError(f"spec.{error.field}: {error}") from error
