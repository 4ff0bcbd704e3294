"""Spans kept in SQLite, one file, written in the batches they arrive in.

A batch is in the file when `add` returns; it survives the end of the process, however it ends. A
file that cannot be read is moved aside, never deleted. What SQLite cannot do at the moment (a full
disk, say) is `Unavailable` to callers: an exporter keeps its spans and comes again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ondol.base import database, errors, log
from ondol.observe.traces.search import CALLS, OF_TRACE, PAGE_SPANS, Pages, Query
from ondol.observe.traces.spans import NO_DETAILS, Details, Row, Span
from ondol.observe.traces.turns import Turns

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS spans (
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT NOT NULL, service TEXT NOT NULL,
  name TEXT NOT NULL, kind TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
  error INTEGER NOT NULL, attributes BLOB NOT NULL, PRIMARY KEY (trace_id, span_id)
);
CREATE INDEX IF NOT EXISTS spans_by_service ON spans (service, start_ns);
CREATE INDEX IF NOT EXISTS spans_by_time ON spans (start_ns);
"""
# Added to older files: who is called, for a service that calls nobody has no span of its own to be found by.
_ADDED: Final = {
    "called": "ALTER TABLE spans ADD COLUMN called TEXT NOT NULL DEFAULT ''",
    "details": "ALTER TABLE spans ADD COLUMN details BLOB NOT NULL DEFAULT ''",
}
_BY_CALLED: Final = (
    "CREATE INDEX IF NOT EXISTS spans_by_called ON spans (called, start_ns) WHERE called <> ''"
)
# Names outlive their spans; a service that is only ever called has one operation without a kind.
_OPERATIONS: Final = """
CREATE TABLE operations (
  service TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, seen_ns INTEGER NOT NULL,
  PRIMARY KEY (service, name, kind)
);
CREATE INDEX operations_by_time ON operations (seen_ns);
INSERT OR IGNORE INTO operations SELECT service, name, kind, max(start_ns) FROM spans GROUP BY 1, 2, 3;
INSERT OR IGNORE INTO operations SELECT called, '', '', max(start_ns) FROM spans
 WHERE called <> '' GROUP BY 1;
"""
_HAS_OPERATIONS: Final = "SELECT count(*) FROM sqlite_master WHERE name = 'operations'"
_NAME: Final = (
    "INSERT INTO operations VALUES (?,?,?,?) "
    "ON CONFLICT DO UPDATE SET seen_ns = max(seen_ns, excluded.seen_ns)"
)
_SEEN_AGAIN_NS: Final = 3600 * 10**9
"""A name that comes with every export is written once an hour."""
_SEEN_MAX: Final = 20_000
"""So many names are remembered as written; and kept in the file, the newest."""
_NAMES_KEPT_NS: Final = 6 * 24 * 3600 * 10**9
"""How much longer than spans their names are kept."""
_FORGET_NAMES: Final = "DELETE FROM operations WHERE rowid IN (SELECT rowid FROM operations {which} LIMIT ?)"
_ROW_MAX: Final = 2**63 - 1
_DETAILS: Final = msgspec.json.Decoder(Details)
_SCHEMA: Final = database.Schema((_TABLES,), versioned=False)
_OPTIONS: Final = database.Options(durable=False, cache_kib=4096)
_FORGOTTEN_AT_ONCE: Final = 5_000  # exports wait while spans are dropped, so that is done in small steps
ANSWER_SPANS_MAX: Final = 50_000
"""Spans that one answer has: of a trace that has more some are left out, of a search the oldest traces."""
_INSERT: Final = (
    "INSERT OR REPLACE INTO spans (trace_id, span_id, parent_id, service, name, kind, start_ns, duration_ns,"
    " error, attributes, called, details) VALUES {rows}"
)
_ROW: Final = "(?,?,?,?,?,?,?,?,?,?,?,?)"
_AT_ONCE: Final = (64, 8, 1)
"""So many rows are written by one call: Python's lock is given up and asked for at each."""
_SPANS: Final = msgspec.json.Decoder(list[tuple[str, str, str, str, str, str, int, int, int, str, str]])
_CALLS: Final = msgspec.json.Decoder(list[tuple[str, str, str, str, int]])


class SpanStore:
    """One connection that callers, from worker threads, take in turns; none of them has it for long."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = Turns()
        self._seen: dict[tuple[str, str, str], int] = {}
        """Names that are in the file, and the time that is there with them."""
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
            columns = {column[1] for column in db.rows("PRAGMA table_info(spans)")}
            for column, statement in _ADDED.items():
                if column not in columns:
                    db.execute(statement)
            db.execute(_BY_CALLED)
            if not db.value(_HAS_OPERATIONS):
                with db.transaction():
                    for statement in filter(str.strip, _OPERATIONS.split(";")):
                        db.execute(statement)
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
        batch = list(rows)
        with self._transaction() as db:
            _insert(db, batch)
            names = self._unseen(batch)
            db.execute_many(_NAME, [(*name, seen_ns) for name, seen_ns in names.items()])
        if len(self._seen) + len(names) > _SEEN_MAX:
            self._seen.clear()
        self._seen.update(names)

    def _unseen(self, batch: Sequence[Row]) -> dict[tuple[str, str, str], int]:
        """The names that are not in the file yet, or with a time of long ago."""
        names: dict[tuple[str, str, str], int] = {}
        for row in batch:
            seen_ns = row.start_ns
            for name in ((row.service, row.name, row.kind), (row.called, "", "")):
                written_ns = max(self._seen.get(name, -_SEEN_AGAIN_NS), names.get(name, -_SEEN_AGAIN_NS))
                if name[0] and seen_ns >= written_ns + _SEEN_AGAIN_NS:
                    names[name] = seen_ns
        return names

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace, earliest first; none if it is unknown.

        `ANSWER_SPANS_MAX` are all that there are: more would not fit into memory.
        """
        spans: list[Span] = []
        while len(spans) < ANSWER_SPANS_MAX:
            after = spans[-1].span_id if spans else ""
            ((text,),) = self._rows(OF_TRACE, (trace_id.lower().zfill(32), after))
            page = _SPANS.decode(text)
            spans += map(_span, page)
            if len(page) < PAGE_SPANS:
                break
        return sorted(spans, key=lambda span: (span.start_ns, span.span_id))

    def search(self, query: Query) -> list[list[Span]]:
        """The newest traces that have a span as asked for, whole; of a service, also those that call it."""
        return [trace for trace in self.traces(self._matching(query)).values() if trace]

    def traces(self, trace_ids: Iterable[str]) -> dict[str, list[Span]]:
        """The spans of each of the traces, whole; the last traces are left out where there are too many."""
        traces: dict[str, list[Span]] = {}
        count = 0
        for trace_id in trace_ids:
            trace = self.trace(trace_id)
            count += len(trace)
            if traces and count > ANSWER_SPANS_MAX:
                break
            traces[trace_id] = trace
        return traces

    def _matching(self, query: Query) -> Iterable[str]:
        """Up to the limit traces with a span as asked for, each once, newest first."""
        pages = Pages(query)
        cursor = pages.start
        traces: dict[str, None] = {}
        while len(traces) < query.limit:
            ((count, start_ns, row, matching),) = self._rows(pages.statement, pages.values(cursor))
            traces |= dict.fromkeys(msgspec.json.decode(matching))
            if count < PAGE_SPANS:
                break
            cursor = start_ns, row
        return itertools.islice(traces, query.limit)

    def services(self) -> list[str]:
        """Every service that called or was called, of late or not."""
        return [row[0] for row in self._rows("SELECT DISTINCT service FROM operations ORDER BY service")]

    def operations(self, service: str = "", kind: str = "") -> list[tuple[str, str]]:
        """Names and kinds of the operations of one service, or of all; of one kind, or of all."""
        rows = self._rows(
            "SELECT DISTINCT name, kind FROM operations WHERE kind <> '' AND ?1 IN ('', service) "
            "AND ?2 IN ('', kind) ORDER BY name, kind",
            (service, kind),
        )
        return [(name, its) for name, its in rows]

    def calls(self, start_ns: int, end_ns: int) -> list[tuple[str, str, str, str, int]]:
        """Spans that started in the interval, counted by service and called service of both ends.

        Counted on the way, for a day's spans would not fit into memory.
        """
        counted: Counter[tuple[str, str, str, str]] = Counter()
        cursor: tuple[int | None, int | None] = (start_ns - 1, _ROW_MAX)
        while cursor[0] is not None:
            ((start, row, counts),) = self._rows(CALLS, (*cursor, end_ns))
            cursor = start, row
            for child, called, parent, called_by_it, count in _CALLS.decode(counts):
                counted[child, called, parent, called_by_it] += count
        return [(*pair, count) for pair, count in sorted(counted.items())]

    def forget(self, *, before_ns: int, keep_spans: int, keep_bytes: int) -> int:
        """Drop what is too old or too much, oldest first; the number of spans dropped is returned."""
        count, size_bytes = self.usage()
        too_many = max(0, count - keep_spans, _share_above(count, size_bytes, keep_bytes))
        dropped = 0
        while step := self._forget_some(before_ns, min(too_many - dropped, _FORGOTTEN_AT_ONCE)):
            dropped += step
        self._forget_names(before_ns - _NAMES_KEPT_NS)
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

    def _forget_names(self, before_ns: int) -> None:
        """Drop names that were not seen for long, and the oldest of too many."""
        count = self._rows("SELECT count(*) FROM operations")[0][0]
        for number in range(0, max(1, count - _SEEN_MAX), _FORGOTTEN_AT_ONCE):
            surplus = min(max(0, count - _SEEN_MAX - number), _FORGOTTEN_AT_ONCE)
            with self._transaction() as db:
                db.execute(_FORGET_NAMES.format(which="WHERE seen_ns < ?"), (before_ns, _FORGOTTEN_AT_ONCE))
                db.execute(_FORGET_NAMES.format(which="ORDER BY seen_ns"), (surplus,))
                self._seen.clear()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[database.Connection]:
        with self._lock, _explained(), self._db.transaction():
            yield self._db

    def _rows(self, statement: str, values: database.Values = ()) -> list[tuple[Any, ...]]:
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


def _insert(db: database.Connection, rows: Sequence[Row]) -> None:
    at = 0
    for count in _AT_ONCE:
        statement = _INSERT.format(rows=",".join([_ROW] * count))
        while at + count <= len(rows):
            db.execute(statement, list(itertools.chain.from_iterable(rows[at : at + count])))
            at += count


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
        details=_DETAILS.decode(row[10]) if row[10] else NO_DETAILS,
    )
