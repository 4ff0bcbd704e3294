"""What a cold start spends its time on: the steps of a revision's first pod, and their spans. Pure.

Times are nanoseconds since the Unix epoch. A request that joins a start under way has the rest of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.contracts import mesh, tracing
from ondol.contracts.tracing import Parent

DECISION, SCALE, SCHEDULING, SANDBOX, MESH, CONTAINER, READINESS = (
    "decision",
    "scale patch",
    "scheduling",
    "sandbox",
    "mesh",
    "container start",
    "readiness",
)
HAND_OVER: Final = "hand-over"
STEPS: Final = (DECISION, SCALE, SCHEDULING, SANDBOX, MESH, CONTAINER, READINESS)
"""In their order; each is the time that ends with its mark."""
COLD_START: Final = "cold start"
HOLD: Final = "hold"
SERVICE: Final = "activator"
_INTERNAL: Final = 1
_DETAILED_MAX: Final = 32
"""So many requests of one start have its steps in their traces; what they all waited for is the same."""


def parent(traceparent: str) -> Parent | None:
    """The span that a request came with; None if there is none, or its trace is not recorded."""
    above = tracing.parent(traceparent)
    return above if above is not None and above.is_sampled else None


@dataclass(slots=True)
class Start:
    """One start of a revision: when each of its steps was over, and how many requests were told of it."""

    marks: dict[str, int] = field(default_factory=dict)
    detailed: int = 0


class Starts:
    """The starts under way, by revision."""

    def __init__(self) -> None:
        self._starts: dict[Key, Start] = {}

    def begin(self, revision: Key) -> Start:
        """A request waits, and no pod is there: the start that it waits for."""
        return self._starts.setdefault(revision, Start())

    def mark(self, revision: Key, step: str, now_ns: int) -> None:
        """A step is over; only its first time counts, and only while somebody waits."""
        if (start := self._starts.get(revision)) is not None:
            start.marks.setdefault(step, now_ns)

    def observe(self, revision: Key, pod: Object, now_ns: int) -> None:
        """Mark what a pod shows to be over."""
        if revision in self._starts:
            for step in passed(pod):
                self.mark(revision, step, now_ns)

    def end(self, revision: Key) -> None:
        """Nobody waits any more: the next start begins anew."""
        self._starts.pop(revision, None)


def passed(pod: Mapping[str, Any]) -> Iterator[str]:
    """The steps that are over for a pod."""
    if objects.is_deleting(pod):
        return
    if objects.spec(pod).get("nodeName"):
        yield SCHEDULING
    if conditions.is_true(pod, mesh.SANDBOX_READY):
        yield SANDBOX
    if conditions.is_true(pod, mesh.POD_PROGRAMMED):
        yield MESH
    statuses = objects.status(pod).get("containerStatuses") or ()
    if statuses and all("running" in (each.get("state") or {}) for each in statuses):
        yield CONTAINER
    if conditions.is_true(pod, "Ready"):
        yield READINESS


def segments(marks: Mapping[str, int], arrived_ns: int, placed_ns: int) -> list[tuple[str, int, int]]:
    """The steps as spans of time that follow one another, from a request's arrival to its hand-over."""
    listed, begin_ns = [], arrived_ns
    for step in STEPS:
        end_ns = min(marks.get(step, 0), placed_ns)
        if end_ns > begin_ns:
            listed.append((step, begin_ns, end_ns))
            begin_ns = end_ns
    return [*listed, (HAND_OVER, begin_ns, placed_ns)]


@dataclass(frozen=True, slots=True)
class Wait:
    """A request that was held, from its arrival until a pod had it; `start` if there was none at first."""

    revision: Key
    parent: Parent
    arrived_ns: int
    placed_ns: int
    start: Start | None = None


def spans(wait: Wait, rng: random.Random) -> list[Object]:
    """The spans of a held request, as OTLP writes them."""
    name = COLD_START if wait.start is not None else HOLD
    own = _span(wait.parent, name, wait.arrived_ns, wait.placed_ns, rng)
    own["attributes"] = [
        tracing.attribute("knative.revision", wait.revision.name),
        tracing.attribute("k8s.namespace.name", wait.revision.namespace),
    ]
    if wait.start is None or wait.start.detailed >= _DETAILED_MAX:
        return [own]
    wait.start.detailed += 1
    within = Parent(wait.parent.trace_id, own["spanId"])
    steps = segments(wait.start.marks, wait.arrived_ns, wait.placed_ns)
    return [own, *(_span(within, step, begin_ns, end_ns, rng) for step, begin_ns, end_ns in steps)]


def _span(within: Parent, name: str, begin_ns: int, end_ns: int, rng: random.Random) -> Object:
    own = f"{rng.getrandbits(64) or 1:016x}"
    return tracing.span(within, own, name, kind=_INTERNAL, start_ns=begin_ns, end_ns=end_ns)
