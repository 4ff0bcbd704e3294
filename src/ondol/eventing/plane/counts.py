"""What the data plane counts, and the families made of it.

Names and labels are Knative's where it has them: `event_count` and `event_dispatch_latencies` (milliseconds)
by broker or channel, trigger or subscription, and the class of the answer's code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ondol.base import metrics
from ondol.base.metrics import Family, Histogram
from ondol.base.signal import Signal
from ondol.eventing.plane.routes import Source

_LATENCY_MS: Final = tuple(round(1000 * bound, 1) for bound in metrics.REQUEST_S)
_SOURCE: Final = ("namespace_name", "kind", "name", "parent_name")
_CODED: Final = (*_SOURCE, "response_code", "response_code_class")
_INGRESS: Final = ("namespace_name", "kind", "name", "response_code", "response_code_class")


def code_class(code: int) -> str:
    """`2xx` for 204; `none` where there was no answer."""
    return f"{code // 100}xx" if code else "none"


@dataclass(slots=True)
class Deliveries:
    """Of one consumer, since the process began."""

    codes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    latency_ms: Histogram = field(default_factory=lambda: Histogram(_LATENCY_MS))
    age_s: Histogram = field(default_factory=Histogram)
    """From when an event was kept until it was delivered."""
    retried: int = 0
    dead_lettered: int = 0
    kept_dead: int = 0
    expired: int = 0
    """Replies that had gone round too often."""

    def answered(self, code: int, took_ms: float) -> None:
        self.codes[code] += 1
        self.latency_ms.observe(took_ms)


@dataclass(slots=True)
class Arrivals:
    """Of one broker or channel."""

    codes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    latency_ms: Histogram = field(default_factory=lambda: Histogram(_LATENCY_MS))
    dropped_letters: int = 0

    def answered(self, code: int, took_ms: float) -> None:
        self.codes[code] += 1
        self.latency_ms.observe(took_ms)


@dataclass(slots=True)
class Depth:
    """How far a consumer is behind, when it was last asked for."""

    waiting: int = 0
    pending: int = 0
    redelivered: int = 0


class Counts:
    """Everything that is counted; a collector for a `metrics.Page` is `collect`."""

    def __init__(self) -> None:
        self._deliveries: dict[Source, Deliveries] = {}
        self._arrivals: dict[tuple[str, str, str], Arrivals] = {}
        self.depths: dict[Source, Depth] = {}
        self.asked = Signal()
        """Set when somebody looks: what is asked of others is as new as the look before."""

    def deliveries(self, source: Source) -> Deliveries:
        return self._deliveries.setdefault(source, Deliveries())

    def arrivals(self, namespace: str, kind: str, name: str) -> Arrivals:
        return self._arrivals.setdefault((namespace, kind, name), Arrivals())

    def forget(self, source: Source) -> None:
        """It is gone, and so are its series."""
        self._deliveries.pop(source, None)
        self.depths.pop(source, None)

    def forget_arrivals(self, namespace: str, kind: str, name: str) -> None:
        self._arrivals.pop((namespace, kind, name), None)

    def collect(self) -> Iterator[Family]:
        self.asked.set()
        yield from self._of_arrivals()
        yield from self._of_deliveries()
        yield from self._of_depths()

    def _of_arrivals(self) -> Iterator[Family]:
        counts = {
            (*key, str(code), code_class(code)): float(count)
            for key, arrivals in self._arrivals.items()
            for code, count in arrivals.codes.items()
        }
        yield metrics.unsuffixed(
            "event_ingress_count", "Requests with events, by their answer.", counts, _INGRESS
        )
        latencies = {key: arrivals.latency_ms for key, arrivals in self._arrivals.items()}
        yield metrics.histogram(
            "event_ingress_latencies",
            "Milliseconds from a request with an event until it was kept.",
            latencies,
            _INGRESS[:3],
        )
        dropped = {key: float(arrivals.dropped_letters) for key, arrivals in self._arrivals.items()}
        yield metrics.counter(
            "event_dropped_dead_letters_total", "Dead letters there was no room for.", dropped, _INGRESS[:3]
        )

    def _of_deliveries(self) -> Iterator[Family]:
        labelled = {_labels(source): each for source, each in self._deliveries.items()}
        counts = {
            (*labels, str(code), code_class(code)): float(count)
            for labels, each in labelled.items()
            for code, count in each.codes.items()
        }
        yield metrics.unsuffixed(
            "event_count", "Attempts to deliver an event, by their answer.", counts, _CODED
        )
        yield metrics.histogram(
            "event_dispatch_latencies",
            "Milliseconds an attempt took.",
            {labels: each.latency_ms for labels, each in labelled.items()},
            _SOURCE,
        )
        yield metrics.histogram(
            "event_delivery_age_seconds",
            "Seconds from when an event was kept until it was delivered.",
            {labels: each.age_s for labels, each in labelled.items()},
            _SOURCE,
        )
        for name, explanation, values in (
            ("event_retries_total", "Attempts that failed and are made again.", "retried"),
            ("event_dead_letters_total", "Events given to a dead letter sink.", "dead_lettered"),
            ("event_kept_dead_letters_total", "Events kept as dead letters.", "kept_dead"),
            ("event_expired_replies_total", "Replies that had gone round too often.", "expired"),
        ):
            samples = {labels: float(getattr(each, values)) for labels, each in labelled.items()}
            yield metrics.counter(name, explanation, samples, _SOURCE)

    def _of_depths(self) -> Iterator[Family]:
        waiting = {_labels(source): float(depth.waiting) for source, depth in self.depths.items()}
        pending = {_labels(source): float(depth.pending) for source, depth in self.depths.items()}
        yield metrics.gauge(
            "event_consumer_lag", "Kept events that were not delivered yet.", waiting, _SOURCE
        )
        yield metrics.gauge("event_consumer_pending", "Events under way, or put off.", pending, _SOURCE)
        again = {_labels(source): float(depth.redelivered) for source, depth in self.depths.items()}
        yield metrics.gauge(
            "event_consumer_redelivered", "Of those, delivered more than once.", again, _SOURCE
        )


def _labels(source: Source) -> tuple[str, str, str, str]:
    return source.namespace, source.kind, source.name, source.parent
