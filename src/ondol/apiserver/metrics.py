"""The content of `/metrics`: requests by verb, resource and code, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from ondol.apiserver.exchange import Request
from ondol.base import metrics
from ondol.base.metrics import Collector, Family, Histogram

_LABELS: Final = ("verb", "group", "resource")


class _Cell:
    """Requests of one verb, resource and code; their latencies go with those of the other codes."""

    __slots__ = ("count", "latency")

    def __init__(self, latency: Histogram) -> None:
        self.count = 0
        self.latency = latency


class Metrics:
    """Counts and latencies of requests. A request costs one look-up: it is on every request's path."""

    def __init__(self, collectors: Iterable[Collector] = ()) -> None:
        """`collectors` have what other parts of the server count; they stand on the same page."""
        self._collectors = list(collectors)
        self._cells: dict[tuple[str, str, str, int], _Cell] = {}
        self._latencies: dict[tuple[str, str, str], Histogram] = defaultdict(Histogram)

    def add(self, collector: Collector) -> None:
        """Have one more part of the server on the page."""
        self._collectors.append(collector)

    def observe(self, request: Request, status: int, seconds: float) -> None:
        info = request.info
        # Paths are unbounded, resources are not: a path counts under one name.
        key = (info.verb, info.group, info.resource or "", status)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell(self._latencies[key[:3]])
        cell.count += 1
        cell.latency.observe(seconds)

    def collect(self) -> Iterable[Family]:
        counts = {
            (verb.upper(), group, resource, str(code)): cell.count
            for (verb, group, resource, code), cell in self._cells.items()
        }
        # How long a watch lasts says nothing.
        latencies = {(key[0].upper(), *key[1:]): h for key, h in self._latencies.items() if key[0] != "watch"}
        yield metrics.counter("apiserver_request_total", "Requests answered.", counts, (*_LABELS, "code"))
        yield metrics.histogram(
            "apiserver_request_duration_seconds",
            "How long requests took that were no watches.",
            latencies,
            _LABELS,
        )
        for collect in self._collectors:
            yield from collect()
