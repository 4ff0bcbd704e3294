"""What the writer counts of its commits: how long each took and how many rows it had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ondol.base import metrics
from ondol.base.clock import Clock
from ondol.base.metrics import Family, Histogram
from ondol.store.records import Row
from ondol.store.sqlite import Database

_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class CommitMetrics:
    """Of one store since it was opened; its sizes are read when somebody asks."""

    def __init__(self, clock: Clock, file: Path) -> None:
        self.clock = clock
        self.seconds = Histogram()
        self.rows = Histogram(_ROWS)
        self._file = file

    def collect(self) -> Iterable[Family]:
        yield metrics.histogram(
            "ondol_store_commit_duration_seconds", "How long commits took, to the disk.", {(): self.seconds}
        )
        yield metrics.histogram("ondol_store_commit_rows", "How many rows a commit had.", {(): self.rows})
        size_bytes = sum(
            part.stat().st_size
            for part in (self._file, self._file.with_name(f"{self._file.name}-wal"))
            if part.exists()
        )
        yield metrics.gauge("apiserver_storage_size_bytes", "Bytes of the store's files.", {(): size_bytes})


class MeasuredDatabase(Database):
    """A database whose commits are counted, in the thread that makes them."""

    def __init__(self, path: Path, metrics: CommitMetrics) -> None:
        super().__init__(path)
        self._metrics = metrics

    def commit(self, rows: Sequence[Row]) -> None:
        began = self._metrics.clock.monotonic()
        super().commit(rows)
        self._metrics.seconds.observe(self._metrics.clock.monotonic() - began)
        self._metrics.rows.observe(len(rows))
