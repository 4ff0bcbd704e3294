"""How long a failed pod is left before it is deleted and made anew: longer each time, place by place.

A node that refuses a pod would refuse the next one too, as fast as both can. A place is where the next pod
would be: a node for DaemonSets, a name for StatefulSets. Remembered is what the deleted pods no longer tell;
after a restart it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base.backoff import Backoff

_WAITS: Final = Backoff(initial_s=1.0, maximum_s=900.0)
_FORGOTTEN_S: Final = 2 * _WAITS.maximum_s


class _Place(NamedTuple):
    uid: str
    name: str


@dataclass(slots=True)
class _Failures:
    generation: int
    count: int
    last: float


class Replacements:
    """Of all workloads of a kind; a changed one, and one that was quiet for half an hour, begin anew."""

    def __init__(self) -> None:
        self._failures: dict[_Place, _Failures] = {}

    def waits(self, workload: Object, places: Iterable[str], now: float) -> dict[str, float]:
        """Seconds by place, for those where a failed pod is not replaced yet."""
        waits = {}
        for name in places:
            failures = self._of(workload, name, now)
            if failures is not None:
                waits[name] = failures.last + _WAITS.delay_s(failures.count) - now
        return {name: wait_s for name, wait_s in waits.items() if wait_s > 0}

    def note(self, workload: Object, places: Iterable[str], now: float) -> None:
        """Failed pods of these places are replaced now."""
        for name in places:
            before = self._of(workload, name, now)
            count = before.count + 1 if before else 1
            place = _Place(objects.uid(workload), name)
            self._failures[place] = _Failures(objects.generation(workload), count, now)

    def forget(self, uid: str) -> None:
        """The workload is gone."""
        self._failures = {place: each for place, each in self._failures.items() if place.uid != uid}

    def _of(self, workload: Object, name: str, now: float) -> _Failures | None:
        failures = self._failures.get(_Place(objects.uid(workload), name))
        if failures is None or failures.generation != objects.generation(workload):
            return None
        return failures if now - failures.last <= _FORGOTTEN_S else None
