"""How long a failed pod is left before it is deleted and made anew: longer each time, node by node.

A node that refuses a pod would refuse the next one too, as fast as both can. Remembered is what the deleted
pods no longer tell; after a restart it begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base.backoff import Backoff
from ondol.controllers.workloads.daemonset.plan import Plan, View

_WAITS: Final = Backoff(initial_s=1.0, maximum_s=900.0)
_FORGOTTEN_S: Final = 2 * _WAITS.maximum_s


class _Place(NamedTuple):
    uid: str
    node: str


@dataclass(slots=True)
class _Failures:
    generation: int
    count: int
    last: float


class Failures:
    """Of all DaemonSets; a changed template begins anew."""

    def __init__(self) -> None:
        self._failures: dict[_Place, _Failures] = {}

    def waits(self, view: View) -> dict[str, float]:
        """Seconds by node, for those where a failed pod is not deleted yet."""
        waits = {}
        for node in view.pods:
            failures = self._of(view.daemon_set, node, view.now)
            if failures is not None:
                waits[node] = failures.last + _WAITS.delay_s(failures.count) - view.now
        return {node: wait_s for node, wait_s in waits.items() if wait_s > 0}

    def note(self, view: View, plan: Plan) -> None:
        """The plan deletes failed pods."""
        for node, pod in plan.ended:
            if objects.status(pod).get("phase") == "Failed":
                before = self._of(view.daemon_set, node, view.now)
                generation = objects.generation(view.daemon_set)
                count = before.count + 1 if before else 1
                place = _Place(objects.uid(view.daemon_set), node)
                self._failures[place] = _Failures(generation, count, view.now)

    def forget(self, uid: str) -> None:
        """The DaemonSet is gone."""
        self._failures = {place: each for place, each in self._failures.items() if place.uid != uid}

    def _of(self, daemon_set: Object, node: str, now: float) -> _Failures | None:
        failures = self._failures.get(_Place(objects.uid(daemon_set), node))
        if failures is None or failures.generation != objects.generation(daemon_set):
            return None
        return failures if now - failures.last <= _FORGOTTEN_S else None
