"""Metrics in the shapes of Prometheus (prometheus-client), written out when somebody asks for them.

What happens is counted in plain numbers where it happens, which costs a few nanoseconds and no lock; a
`Collector` makes families of them for a `Page`, the exposition of one process. For example::

    commits = Histogram(COMMIT_S)                     # where it happens
    commits.observe(0.004)

    def collect() -> Iterable[Family]:                # when somebody asks
        yield histogram("store_commit_duration_seconds", "Seconds a commit took.", {(): commits})

    Page(collect).text()
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias, TypeVar

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as _RegistryCollector

Family: TypeAlias = Metric
"""One metric of a page: its name, kind, explanation and samples."""
Collector: TypeAlias = Callable[[], Iterable[Family]]
LabelValues: TypeAlias = tuple[str, ...]
_Values = TypeVar("_Values", bound=LabelValues)

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Bounds for what somebody waits for."""
WORK_S: Final = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0)
"""Bounds for work in the background, which may be tiny; client-go's, for its work queues."""


class Histogram:
    """How many of the observed values lie in each bucket, and their sum; for one thread.

    `bounds` are the buckets' upper ends, rising; a value equal to one is in its bucket.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float] = REQUEST_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Upper ends, the last of them `+Inf`, each with the number of values up to there."""
        ends = [*map(str, self._bounds), "+Inf"]
        return [(end, float(count)) for end, count in zip(ends, accumulate(self._counts), strict=True)]


def counter(
    name: str, documentation: str, samples: Mapping[_Values, float], labels: Sequence[str] = ()
) -> Family:
    """What only grows; `samples` are by the values of `labels`. The name ends in `_total`."""
    return _filled(CounterMetricFamily(name, documentation, labels=labels), samples)


def unsuffixed(
    name: str, documentation: str, samples: Mapping[_Values, float], labels: Sequence[str] = ()
) -> Family:
    """What only grows, under the name of another project that does not end in `_total`.

    The text format would add that to a counter's name, so it has no word for the kind (`untyped`).
    """
    family = Metric(name, documentation, "unknown")
    for values, value in samples.items():
        family.add_sample(name, dict(zip(labels, values, strict=True)), value)
    return family


def gauge(
    name: str, documentation: str, samples: Mapping[_Values, float], labels: Sequence[str] = ()
) -> Family:
    """What may grow and shrink; `samples` are by the values of `labels`."""
    return _filled(GaugeMetricFamily(name, documentation, labels=labels), samples)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, samples: Mapping[_Values, float]) -> Family:
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def histogram(
    name: str, documentation: str, samples: Mapping[_Values, Histogram], labels: Sequence[str] = ()
) -> Family:
    """How values are spread; `samples` are by the values of `labels`."""
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for values, observed in samples.items():
        family.add_metric(values, observed.buckets(), observed.sum)
    return family


class Page:
    """The metrics of one process: those of its collectors, and what every process has.

    That is processor time, memory, descriptors, and what Python's garbage collector did.
    """

    def __init__(self, *collectors: Collector) -> None:
        self._registry = CollectorRegistry()
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self._registry)
        for collector in collectors:
            self.add(collector)

    def add(self, collector: Collector) -> None:
        self._registry.register(_Collected(collector))

    def text(self) -> bytes:
        """The page in Prometheus' text format, whose media type is `CONTENT_TYPE`."""
        return text(self._registry.collect())


def text(families: Iterable[Family]) -> bytes:
    """Families in Prometheus' text format."""
    return generate_latest(_Collected(lambda: families))


class _Collected(_RegistryCollector):
    """A collector as prometheus-client calls it."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Family]:
        yield from self._collector()
