"""The file of the audit log: bounded before it, in batches into it, rotated, and never in a request's way."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from ondol.apiserver.audit.records import Record
from ondol.base import errors, log, metrics
from ondol.base.clock import Clock
from ondol.base.metrics import Family
from ondol.base.signal import Signal

_RECORDS_MAX: Final = 10_000
_BYTES_MAX: Final = 32 * 1024 * 1024
_BATCH: Final = 400
_GATHER_S: Final = 0.2
_DAY_S: Final = 86_400.0
_STAMP: Final = "%Y-%m-%dT%H-%M-%S.%f"
_STAMPED: Final = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}"


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is full, and how many and how old former ones may be; 0 is no bound."""

    size_bytes: int = 100 * 1024 * 1024
    backups: int = 10
    age_days: int = 0


class LogFile:
    """Takes records at once; what does not fit before the file, or cannot be written, is counted and told."""

    def __init__(self, path: Path, rotation: Rotation, clock: Clock) -> None:
        self._path = path
        self._rotation = rotation
        self._clock = clock
        self._waiting: deque[Record] = deque()
        self._waiting_bytes = 0
        self._arrived = Signal()
        self._written = self._dropped = 0
        self._is_failing = False

    def add(self, record: Record) -> None:
        size_bytes = record.size_bytes
        if len(self._waiting) >= _RECORDS_MAX or self._waiting_bytes + size_bytes > _BYTES_MAX:
            self._drop(1, "more requests than can be written")
            return
        self._waiting.append(record)
        self._waiting_bytes += size_bytes
        self._arrived.set()

    async def run(self) -> None:
        """Write what arrives, for ever; at the end, what is left."""
        try:
            while True:
                await self._arrived.wait()
                await self._clock.sleep(_GATHER_S)
                self._arrived.clear()
                await self.flush()
        finally:
            with anyio.CancelScope(shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Write all that waits."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._waiting_bytes -= sum(record.size_bytes for record in batch)
            try:
                await anyio.to_thread.run_sync(self._write, batch)
            except OSError as error:
                self._drop(len(batch), errors.why(error))
            else:
                self._written += len(batch)
                if self._is_failing:
                    log.get("audit").info("audit_log_recovered", dropped=self._dropped)
                self._is_failing = False

    def _drop(self, count: int, why: str) -> None:
        self._dropped += count
        if not self._is_failing:  # once, until something is written again
            log.get("audit").error("audit_log_not_written", file=str(self._path), error=why)
        self._is_failing = True

    def collect(self) -> Iterable[Family]:
        yield metrics.counter("apiserver_audit_event_total", "Audit events written.", {(): self._written}, ())
        yield metrics.counter(
            "apiserver_audit_requests_rejected_total", "Audit events dropped.", {(): self._dropped}, ()
        )

    def _write(self, batch: Sequence[Record]) -> None:
        """In a thread: lines are made here, too."""
        content = b"".join(record.line() for record in batch)
        size_bytes = self._path.stat().st_size if self._path.exists() else 0
        limit = self._rotation.size_bytes
        if limit and size_bytes and size_bytes + len(content) > limit:
            self._rotate()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _append(descriptor, content)
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        now = self._clock.now()
        stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime(_STAMP)[:-3]
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        former = sorted(filter(self._is_former, self._path.parent.iterdir()), reverse=True)
        backups, age_s = self._rotation.backups, self._rotation.age_days * _DAY_S
        for place, path in enumerate(former):
            if (backups and place >= backups) or (age_s and path.stat().st_mtime < now - age_s):
                path.unlink(missing_ok=True)

    def _is_former(self, path: Path) -> bool:
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        return re.fullmatch(f"{stem}-{_STAMPED}{suffix}", path.name) is not None


def _append(descriptor: int, content: bytes) -> None:
    """All or nothing, so that on a full disk no line stands there in half."""
    before = os.fstat(descriptor).st_size
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
