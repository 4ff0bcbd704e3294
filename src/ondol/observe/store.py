"""Edge: spans kept in SQLite, one file, written in the batches they arrive in.

A batch is on disk when `add` returns; it survives the end of the process, however it ends. A file
that cannot be read is moved aside, never deleted.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.base import log
from ondol.observe.spans import Span

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS spans (
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT NOT NULL, service TEXT NOT NULL,
  name TEXT NOT NULL, kind TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
  error INTEGER NOT NULL, attributes BLOB NOT NULL, PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spans_by_service ON spans (service, start_ns);
CREATE INDEX IF NOT EXISTS spans_by_time ON spans (start_ns);
"""
_PRAGMAS: Final = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA cache_size = -4096; PRAGMA busy_timeout = 5000;
"""
_COLUMNS: Final = (
    "trace_id, span_id, parent_id, service, name, kind, start_ns, duration_ns, error, attributes"
)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; an empty or zero field does not narrow. Times in nanoseconds."""

    service: str = ""
    operation: str = ""
    start_ns: int = 0
    end_ns: int = 0
    duration_min_ns: int = 0
    duration_max_ns: int = 0
    attributes: Mapping[str, str] = {}
    limit: int = 20


class SpanStore:
    """One connection behind a lock: callers come from worker threads, one at a time."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = threading.Lock()
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            aside = file.with_suffix(".damaged")
            file.replace(aside)
            log.get("observe").error("traces_unreadable", moved_to=str(aside), error=str(error))
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        try:
            db.executescript(_PRAGMAS + _SCHEMA)
            db.execute("SELECT count(*) FROM spans").fetchone()
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, spans: Iterable[Span]) -> int:
        """Keep the spans; one that is known already (an exporter's retry) is kept once."""
        rows = [
            (
                s.trace_id,
                s.span_id,
                s.parent_id,
                s.service,
                s.name,
                s.kind,
                s.start_ns,
                s.duration_ns,
                int(s.error),
                msgspec.json.encode(s.attributes),
            )
            for s in spans
        ]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO spans VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        return len(rows)

    def trace(self, trace_id: str) -> list[Span]:
        """Every span of a trace, earliest first; none if it is unknown."""
        return self._spans("WHERE trace_id = ? ORDER BY start_ns, span_id", (trace_id.lower().zfill(32),))

    def search(self, query: Query) -> list[list[Span]]:
        """The newest traces that have a span as asked for, whole."""
        where, values = ["1 = 1"], []
        for condition, value in (
            ("service = ?", query.service),
            ("name = ?", query.operation),
            ("start_ns >= ?", query.start_ns),
            ("start_ns <= ?", query.end_ns),
            ("duration_ns >= ?", query.duration_min_ns),
            ("duration_ns <= ?", query.duration_max_ns),
        ):
            if value:
                where.append(condition)
                values.append(value)
        for key, value in query.attributes.items():
            where.append("CAST(json_extract(attributes, ?) AS TEXT) = ?")
            values += [f'$."{key}"', value]
        found = self._rows(
            f"SELECT trace_id, max(start_ns) AS newest FROM spans WHERE {' AND '.join(where)} "  # noqa: S608 - fixed words, values are bound
            "GROUP BY trace_id ORDER BY newest DESC LIMIT ?",
            (*values, query.limit),
        )
        return [self.trace(row[0]) for row in found]

    def services(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT DISTINCT service FROM spans ORDER BY service")]

    def operations(self, service: str = "") -> list[tuple[str, str]]:
        """Names and kinds of the operations of one service, or of all."""
        clause, values = ("WHERE service = ?", (service,)) if service else ("", ())
        return [
            (row[0], row[1])
            for row in self._rows(f"SELECT DISTINCT name, kind FROM spans {clause} ORDER BY name", values)  # noqa: S608
        ]

    def between(self, start_ns: int, end_ns: int) -> list[Span]:
        """Every span that started in the interval (for the graph of services)."""
        return self._spans("WHERE start_ns BETWEEN ? AND ?", (start_ns, end_ns))

    def forget(self, *, before_ns: int, keep_spans: int) -> int:
        """Drop what is too old or too much, oldest first; the number of spans dropped is returned."""
        with self._lock:
            surplus = self._db.execute("SELECT count(*) FROM spans").fetchone()[0] - keep_spans
            if surplus > 0:
                row = self._db.execute(
                    "SELECT start_ns FROM spans ORDER BY start_ns LIMIT 1 OFFSET ?", (surplus,)
                ).fetchone()
                before_ns = max(before_ns, row[0] if row else before_ns)
            dropped = self._db.execute("DELETE FROM spans WHERE start_ns < ?", (before_ns,)).rowcount
            if dropped:
                self._db.execute("PRAGMA incremental_vacuum")
        return dropped

    def _spans(self, tail: str, values: Sequence[Any]) -> list[Span]:
        return [_span(row) for row in self._rows(f"SELECT {_COLUMNS} FROM spans {tail}", values)]  # noqa: S608

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()


def _span(row: tuple[Any, ...]) -> Span:
    return Span(
        trace_id=row[0],
        span_id=row[1],
        parent_id=row[2],
        service=row[3],
        name=row[4],
        kind=row[5],
        start_ns=row[6],
        duration_ns=row[7],
        error=bool(row[8]),
        attributes=msgspec.json.decode(row[9]),
    )
