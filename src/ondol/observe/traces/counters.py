"""Metrics of traces: what came in, what was refused, what is kept."""

from __future__ import annotations

from collections.abc import Iterable

import anyio.to_thread

from ondol.base import metrics
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.store import SpanStore


class Counters:
    """`refresh` reads the store, on a worker thread; `collect` makes families of the last values."""

    def __init__(self, store: SpanStore, exports: Exports) -> None:
        self._store = store
        self._counts = exports.counts
        self._spans = 0
        self._store_bytes = 0

    async def refresh(self) -> None:
        self._spans, self._store_bytes = await anyio.to_thread.run_sync(self._store.usage)

    def collect(self) -> Iterable[metrics.Family]:
        counts = self._counts
        for name, documentation, count in (
            ("spans_received", "Spans taken in.", counts.spans_received),
            ("spans_refused", "Spans with ids or times that cannot be.", counts.spans_refused),
            ("exports", "Exports taken in.", counts.exports),
            (
                "exports_refused",
                "Exports refused because there were too many at once.",
                counts.exports_refused,
            ),
        ):
            yield metrics.counter(f"ondol_observe_{name}_total", documentation, {(): count})
        yield metrics.gauge("ondol_observe_spans", "Spans kept.", {(): self._spans})
        yield metrics.gauge(
            "ondol_observe_store_bytes", "Bytes that the kept spans fill.", {(): self._store_bytes}
        )
