"""What the activator counts of each revision, and the families made of it.

Names and labels are those of Knative's activator where it has one: `activator_request_count`,
`activator_request_concurrency`, `activator_request_latencies` (milliseconds). Requests whose client left
before an answer began are in none of the first and the last. A connection to a pod is what a probe is
in Knative: a pod that takes none is not up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ondol.api.objects import Key
from ondol.base import metrics
from ondol.base.clock import Clock
from ondol.base.metrics import Family, Histogram, LabelValues

_LABELS: Final = ("namespace_name", "revision_name")
_LATENCY_MS: Final = tuple(round(1000 * bound, 1) for bound in metrics.REQUEST_S)


@dataclass(slots=True)
class Exchange:
    """One request on its way; `code` is the answer's, 0 while there is none."""

    code: int = 0


@dataclass(slots=True)
class Counts:
    """Of one revision, since its port was opened."""

    answers: dict[int, int] = field(default_factory=dict)
    """Requests by the code of their answer, the pod's or the activator's own."""
    latency_ms: dict[int, Histogram] = field(default_factory=dict)
    """From a request's arrival to the end of its answer, by code."""
    waited: Histogram = field(default_factory=Histogram)
    """Seconds until a request had a connection to a pod."""
    cold: Histogram = field(default_factory=Histogram)
    """Likewise, of those alone that came when no pod was ready."""
    opened: int = 0
    failed: int = 0
    """Connections to pods."""

    @contextmanager
    def request(self, clock: Clock) -> Iterator[Exchange]:
        """Count what the block answers."""
        arrived_s, exchange = clock.monotonic(), Exchange()
        try:
            yield exchange
        finally:
            if exchange.code:
                self._count(exchange.code, (clock.monotonic() - arrived_s) * 1000)

    def _count(self, code: int, took_ms: float) -> None:
        self.answers[code] = self.answers.get(code, 0) + 1
        if code not in self.latency_ms:
            self.latency_ms[code] = Histogram(_LATENCY_MS)
        self.latency_ms[code].observe(took_ms)


@dataclass(frozen=True, slots=True)
class Load:
    """What goes on for a revision now, and what was counted."""

    queued: int
    in_flight: int
    counts: Counts


def families(loads: Mapping[Key, Load]) -> Iterator[Family]:
    """By revision."""
    by_revision = {(key.namespace, key.name): load for key, load in loads.items()}
    yield from _requests({revision: load.counts for revision, load in by_revision.items()})
    yield metrics.gauge(
        "activator_request_concurrency",
        "Requests that are held or in flight.",
        {revision: load.queued + load.in_flight for revision, load in by_revision.items()},
        _LABELS,
    )
    yield metrics.gauge(
        "ondol_activator_queue_depth",
        "Requests held because no pod is free.",
        {revision: load.queued for revision, load in by_revision.items()},
        _LABELS,
    )
    yield metrics.gauge(
        "ondol_activator_in_flight",
        "Requests at a pod.",
        {revision: load.in_flight for revision, load in by_revision.items()},
        _LABELS,
    )
    yield metrics.histogram(
        "ondol_activator_wait_duration_seconds",
        "How long requests waited for a connection to a pod.",
        {revision: load.counts.waited for revision, load in by_revision.items()},
        _LABELS,
    )
    yield metrics.histogram(
        "ondol_activator_cold_start_duration_seconds",
        "How long requests waited that came when no pod was ready.",
        {revision: load.counts.cold for revision, load in by_revision.items()},
        _LABELS,
    )
    connections: dict[LabelValues, float] = {}
    for revision, load in by_revision.items():
        connections[*revision, "opened"] = load.counts.opened
        connections[*revision, "failed"] = load.counts.failed
    yield metrics.counter(
        "ondol_activator_pod_connections_total", "Connections to pods.", connections, (*_LABELS, "result")
    )


def _requests(counts: Mapping[tuple[str, str], Counts]) -> Iterator[Family]:
    answers: dict[LabelValues, float] = {}
    latencies: dict[LabelValues, Histogram] = {}
    for revision, each in counts.items():
        for code, number in each.answers.items():
            values = (*revision, str(code), f"{code // 100}xx")
            answers[values] = number
            latencies[values] = each.latency_ms[code]
    labels = (*_LABELS, "response_code", "response_code_class")
    yield metrics.unsuffixed("activator_request_count", "Requests answered.", answers, labels)
    yield metrics.histogram(
        "activator_request_latencies",
        "Milliseconds from a request's arrival to the end of its answer.",
        latencies,
        labels,
    )
