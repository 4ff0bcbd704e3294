"""What `/metrics` shows: requests by verb, resource and code, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from ondol.apiserver.exchange import Request
from ondol.base import metrics
from ondol.base.metrics import Family, Histogram

_LABELS: Final = ("verb", "group", "resource")


class Metrics:
    """Counts and latencies of requests."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], int] = defaultdict(int)
        self._latencies: dict[tuple[str, str, str], Histogram] = defaultdict(Histogram)
        self._codes: dict[int, str] = {}

    def observe(self, request: Request, status: int, seconds: float) -> None:
        info = request.info
        verb = info.verb.upper()
        # Paths are unbounded, resources are not: a path counts under one name.
        labels = (verb, info.group, info.resource or "")
        code = self._codes.get(status) or self._codes.setdefault(status, str(status))
        self._counts[*labels, code] += 1
        if verb != "WATCH":
            self._latencies[labels].observe(seconds)

    def collect(self) -> Iterable[Family]:
        yield metrics.counter(
            "apiserver_request_total", "Requests answered.", self._counts, (*_LABELS, "code")
        )
        yield metrics.histogram(
            "apiserver_request_duration_seconds",
            "How long requests took that were no watches.",
            self._latencies,
            _LABELS,
        )
