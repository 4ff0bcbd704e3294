"""What webhooks cost and decide, under the names of Kubernetes' API server."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from ondol.base import metrics
from ondol.base.clock import Clock
from ondol.base.metrics import Family, Histogram

_LABELS: Final = ("name", "operation", "type")


class Call:
    """One call, for as long as it lasts."""

    __slots__ = ("error", "is_ignored", "rejected")

    def __init__(self) -> None:
        self.rejected = False
        self.is_ignored = False
        self.error = ""

    def answered(self, *, allowed: bool) -> None:
        self.rejected, self.error = not allowed, "no_error"

    def failed(self, *, is_ignored: bool) -> None:
        self.rejected, self.is_ignored = not is_ignored, is_ignored
        self.error = "calling_webhook_error"


class Metrics:
    """Calls by webhook, operation and type (`admit` or `validating`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latencies: dict[tuple[str, ...], Histogram] = defaultdict(Histogram)
        self._rejections: Counter[tuple[str, ...]] = Counter()
        self._passed_over: Counter[tuple[str, ...]] = Counter()

    @contextmanager
    def call(self, name: str, operation: str, kind: str) -> Iterator[Call]:
        begun, call = self._clock.monotonic(), Call()
        try:
            yield call
        finally:
            seconds = self._clock.monotonic() - begun
            self._latencies[name, operation, kind, str(call.rejected).lower()].observe(seconds)
            if call.rejected:
                self._rejections[name, operation, kind, call.error] += 1
            if call.is_ignored:
                self._passed_over[name, kind] += 1

    def collect(self) -> Iterable[Family]:
        yield metrics.histogram(
            "apiserver_admission_webhook_admission_duration_seconds",
            "How long calls of webhooks took.",
            self._latencies,
            (*_LABELS, "rejected"),
        )
        yield metrics.counter(
            "apiserver_admission_webhook_rejection_count",
            "Writes that webhooks refused, or that their failure refused.",
            dict(self._rejections),
            (*_LABELS, "error_type"),
        )
        yield metrics.counter(
            "apiserver_admission_webhook_fail_open_count",
            "Failures of webhooks that were passed over.",
            dict(self._passed_over),
            ("name", "type"),
        )
