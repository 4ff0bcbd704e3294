"""Spans kept in SQLite, one file, written in the batches they arrive in.

A batch is in the file when `add` returns; it survives the end of the process, however it ends. A
file that cannot be read is moved aside, never deleted. What SQLite cannot do at the moment (a full
disk, say) is `Unavailable` to callers: an exporter keeps its spans and comes again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.base import database, errors, log
from ondol.observe.traces.spans import Row, Span

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS spans (
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT NOT NULL, service TEXT NOT NULL,
  name TEXT NOT NULL, kind TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
  error INTEGER NOT NULL, attributes BLOB NOT NULL, PRIMARY KEY (trace_id, span_id)
);
CREATE INDEX IF NOT EXISTS spans_by_service ON spans (service, start_ns);
CREATE INDEX IF NOT EXISTS spans_by_time ON spans (start_ns);
"""
# A service that calls nobody has no span of its own: who is called finds its traces. Added to older files.
_CALLED: Final = "ALTER TABLE spans ADD COLUMN called TEXT NOT NULL DEFAULT ''"
_BY_CALLED: Final = (
    "CREATE INDEX IF NOT EXISTS spans_by_called ON spans (called, start_ns) WHERE called <> ''"
)
_NAMES: Final = """
WITH RECURSIVE named(name) AS (
  SELECT min({column}) FROM spans WHERE {column} <> ''
  UNION ALL SELECT (SELECT min({column}) FROM spans WHERE {column} > named.name AND {column} <> '') FROM named
  WHERE named.name IS NOT NULL
)
SELECT name FROM named WHERE name IS NOT NULL
"""
_SERVICES: Final = f"""
SELECT name FROM ({_NAMES.format(column="service")}) UNION SELECT name FROM ({_NAMES.format(column="called")})
ORDER BY name
"""  # noqa: S608 - fixed words
_SCHEMA: Final = database.Schema((_TABLES,), versioned=False)
_OPTIONS: Final = database.Options(durable=False, cache_kib=4096)
_FORGOTTEN_AT_ONCE: Final = 5_000  # exports wait while spans are dropped, so that is done in small steps
_COLUMNS: Final = (
    "trace_id, span_id, parent_id, service, name, kind, start_ns, duration_ns, error, attributes"
)
_INSERT: Final = f"INSERT OR REPLACE INTO spans ({_COLUMNS}, called) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - fixed words

_CALLS: Final = """
SELECT child.service, child.called, parent.service, parent.called, count(*)
FROM spans child JOIN spans parent ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_id
WHERE child.start_ns BETWEEN ? AND ? GROUP BY 1, 2, 3, 4
"""
_HAS_ATTRIBUTE: Final = """
EXISTS (SELECT 1 FROM json_each(attributes) found WHERE found.key = ? AND
 CASE found.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(found.value AS TEXT) END = ?)
"""


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
        except errors.Damaged as error:
            aside = _move_aside(file)
            log.get("observe").error("traces_unreadable", moved_to=str(aside), error=database.reason(error))
            self._db = self._open()

    def _open(self) -> database.Connection:
        db = database.Connection(
            self._file, subject=f"the traces at {self._file}", schema=_SCHEMA, options=_OPTIONS
        )
        try:
            if "called" not in {column[1] for column in db.rows("PRAGMA table_info(spans)")}:
                db.execute(_CALLED)
            db.execute(_BY_CALLED)
            db.value("SELECT count(*) FROM spans")
        except errors.OndolError:
            db.close()
            raise
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Keep the spans; one that is known already (an exporter's retry) is kept once."""
        with self._transaction() as db:
            db.execute_many(_INSERT, rows)

    def trace(self, trace_id: str) -> list[Span]:
        """Every span of a trace, earliest first; none if it is unknown."""
        return self._spans("WHERE trace_id = ? ORDER BY start_ns, span_id", (trace_id.lower().zfill(32),))

    def search(self, query: Query) -> list[list[Span]]:
        """The newest traces that have a span as asked for, whole; of a service, also those that call it."""
        where, values = ["1 = 1"], []
        for condition, value in (
            ("(service = ?1 OR (called <> '' AND called = ?1))", query.service),
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
            clause, *bound = _attribute(key, value)
            where.append(clause)
            values += bound
        newest_first = self._rows(
            f"SELECT trace_id, max(start_ns) AS newest FROM spans WHERE {' AND '.join(where)} "  # noqa: S608 - fixed words, values are bound
            "GROUP BY trace_id ORDER BY newest DESC LIMIT ?",
            (*values, query.limit),
        )
        return [trace for row in newest_first if (trace := self.trace(row[0]))]

    def services(self) -> list[str]:
        """Every service that called or was called; one look into the indexes a service, not one a span."""
        return [row[0] for row in self._rows(_SERVICES)]

    def operations(self, service: str = "") -> list[tuple[str, str]]:
        """Names and kinds of the operations of one service, or of all."""
        clause, values = ("WHERE service = ?", (service,)) if service else ("", ())
        return [
            (row[0], row[1])
            for row in self._rows(f"SELECT DISTINCT name, kind FROM spans {clause} ORDER BY name", values)  # noqa: S608
        ]

    def calls(self, start_ns: int, end_ns: int) -> list[tuple[str, str, str, str, int]]:
        """Spans that started in the interval, counted by service and called service of both ends.

        Counted here, for a day's spans would not fit into memory.
        """
        counted = self._rows(_CALLS, (start_ns, end_ns))
        return [(child, called, parent, its, count) for child, called, parent, its, count in counted]

    def forget(self, *, before_ns: int, keep_spans: int, keep_bytes: int) -> int:
        """Drop what is too old or too much, oldest first; the number of spans dropped is returned."""
        count, size_bytes = self.usage()
        too_many = max(0, count - keep_spans, _share_above(count, size_bytes, keep_bytes))
        dropped = 0
        while step := self._forget_some(before_ns, min(too_many - dropped, _FORGOTTEN_AT_ONCE)):
            dropped += step
        if dropped:
            with self._lock, _explained():
                self._db.vacuum(self._db.free_pages)
                self._db.checkpoint()
        return dropped

    def usage(self) -> tuple[int, int]:
        """How many spans are kept, and how many bytes of the file they fill."""
        count = self._rows("SELECT count(*) FROM spans")[0][0]
        with self._lock, _explained():
            return count, self._db.used_bytes()

    def _forget_some(self, before_ns: int, surplus: int) -> int:
        """Drop one step of what is too old or, oldest first, of the surplus."""
        with self._transaction() as db:
            oldest = db.rows(
                "SELECT trace_id, span_id, start_ns FROM spans ORDER BY start_ns LIMIT ?",
                (_FORGOTTEN_AT_ONCE,),
            )
            dropped = [row[:2] for number, row in enumerate(oldest) if row[2] < before_ns or number < surplus]
            db.execute_many("DELETE FROM spans WHERE trace_id = ? AND span_id = ?", dropped)
        return len(dropped)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[database.Connection]:
        with self._lock, _explained(), self._db.transaction():
            yield self._db

    def _spans(self, tail: str, values: Sequence[Any]) -> list[Span]:
        return [_span(row) for row in self._rows(f"SELECT {_COLUMNS} FROM spans {tail}", values)]  # noqa: S608

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, _explained():
            return self._db.rows(statement, values)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever SQLite cannot do at the moment is `Unavailable`: who asks comes again."""
    try:
        yield
    except errors.OndolError as error:
        reason = database.reason(error)
        log.get("observe").error("traces_failed", error=reason)
        raise errors.Unavailable(f"traces cannot be read or written: {reason}", retry_after_s=1) from error


def _attribute(key: str, value: str) -> tuple[str, ...]:
    """The condition for an attribute, and its values; two of Jaeger's tags are columns of their own."""
    if key == "span.kind":
        return "kind = ?", value
    if key == "error" and value == "true":
        return f"(error OR {_HAS_ATTRIBUTE})", key, value
    return _HAS_ATTRIBUTE, key, value


def _move_aside(file: Path) -> Path:
    """Give a damaged file, with its log, a name of its own; earlier ones are kept too."""
    number = 0
    while (aside := file.with_suffix(f".damaged{number or ''}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return aside


def _share_above(count: int, size_bytes: int, keep_bytes: int) -> int:
    """How many spans of average size are above the limit."""
    return 0 if size_bytes <= keep_bytes else int(count * (1 - keep_bytes / size_bytes)) + 1


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
