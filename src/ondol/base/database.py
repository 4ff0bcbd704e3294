"""The one edge to SQLite: a file that one process has open, its schema, transactions, and errors.

The only module that names `sqlite3`. A connection is used by one thread at a time; its owner sees to that.

What SQLite cannot do leaves here as an error of the project, with SQLite's own words as its cause (`reason`):

====================================  ======================================================
a full disk                           `DiskFull`: nothing of the transaction is kept
a file that is not what was written   `errors.Damaged`
a file that another process has open  `errors.HostError`
anything else (an I/O error, say)     `errors.Unavailable`
====================================  ======================================================
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from ondol.base import errors

Values: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""What is bound to a statement's parameters, by place or by name."""

_MAGIC: Final = b"SQLite format 3\0"
_HEAD_BYTES: Final = 100
_VERSION_AT: Final = 60
_READER_AT: Final = 68
"""Offsets of `user_version` and `application_id` in the head of a file (SQLite's file format, 1.3)."""
_FULL: Final = ("SQLITE_FULL",)
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")


class DiskFull(errors.Unavailable):
    """There is no space for a transaction; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is opened.

    `durable` transactions are on the disk when they return; others survive the end of the process, not a
    power cut. `cache_kib` bounds SQLite's page cache, `log_bytes_max` what its write-ahead log keeps of the
    disk once its content is in the file; None leaves SQLite's own default.
    """

    durable: bool = True
    busy_timeout_s: float = 5.0
    cache_kib: int | None = None
    log_bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """How a file gets its tables: scripts, of which the n-th takes it from version n - 1 to version n.

    `oldest_reader` is the oldest version whose code reads and writes what the last script leaves, as it is;
    by default only this one's does. It stands in the file (`application_id`), so that code of that time opens
    a file that is newer than itself, after somebody has gone back to it, and refuses others in words.

    The version stands in the file (`user_version`), so one that is up to date is only read, which a full disk
    allows. One that is not `versioned` runs all its scripts at each opening; they write only what is missing.
    """

    steps: tuple[str, ...]
    versioned: bool = True
    oldest_reader: int = 0

    @property
    def version(self) -> int:
        return len(self.steps) if self.versioned else 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file says of its form; an `oldest_reader` of 0 is its own version."""

    version: int
    oldest_reader: int = 0


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file that may be in use, from its head; None if there is no whole database.

    What is still in a journal is not seen: who changes the form writes it back (`checkpoint`).
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC):
        return None
    return Stamp(*(int.from_bytes(head[at : at + 4], "big") for at in (_VERSION_AT, _READER_AT)))


def require_readable(subject: str, stamp: Stamp, schema: Schema) -> None:
    """`HostError` if code of this schema must not open a file of that stamp."""
    if stamp.version > schema.version and (stamp.oldest_reader or stamp.version) > schema.version:
        raise errors.HostError(
            f"{subject} was written by a newer version (format {stamp.version})",
            remedy="use the version of ondol that wrote it, or another data directory",
        )


class Connection:
    """One connection to the file at `path`, or to a private database in memory when that is None.

    `subject` is how messages name what the file keeps, path included ("the API's data at /x/store.db").
    A file that a newer version wrote is refused (`HostError`) unless that says that this one may read it.
    Without a schema the file is taken as it is.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        subject: str,
        schema: Schema | None = None,
        options: Options = Options(),
    ) -> None:
        self._path = path
        self._subject = subject
        with self._translated():
            self._db = sqlite3.connect(
                path or ":memory:",
                timeout=options.busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            with self._translated():
                self._open(schema, options)
        except BaseException:
            self._db.close()
            raise

    def _open(self, schema: Schema | None, options: Options) -> None:
        # Alone with the file, SQLite keeps its index of the log in memory, not in a file that needs space.
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        if schema is None:
            return
        version = self._version(schema)
        if self.value("PRAGMA journal_mode") != "wal":  # a new file; to set either again would write
            self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={'FULL' if options.durable else 'NORMAL'}")
        if options.cache_kib is not None:
            self._db.execute(f"PRAGMA cache_size=-{options.cache_kib}")
        if options.log_bytes_max is not None:
            self._db.execute(f"PRAGMA journal_size_limit={options.log_bytes_max}")
        for number, script in enumerate(schema.steps[version:], start=version + 1):
            mark = f"PRAGMA user_version={number};" if schema.versioned else ""
            if schema.versioned and schema.oldest_reader:
                mark += f"PRAGMA application_id={schema.oldest_reader};"
            self._db.executescript(f"BEGIN IMMEDIATE; {script}; {mark} COMMIT;")
        if version < schema.version:
            self.checkpoint()  # for who looks at the file's head alone

    def _version(self, schema: Schema) -> int:
        """How many of the schema's steps the file has behind it."""
        stamp = Stamp(int(self.value("PRAGMA user_version")), int(self.value("PRAGMA application_id")))
        require_readable(str(self._path), stamp, schema)
        return stamp.version

    def execute(self, statement: str, values: Values = ()) -> None:
        """Run one statement: a transaction of its own, unless one is open."""
        with self._translated():
            self._db.execute(statement, values)

    def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of the rows; belongs into a `transaction`."""
        with self._translated():
            self._db.executemany(statement, rows)

    def rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All that a query answers."""
        with self._translated():
            return self._db.execute(statement, values).fetchall()

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """What a query answers, row by row, for answers that would not fit into memory."""
        with self._translated():
            yield from self._db.execute(statement, values)

    def value(self, statement: str) -> Any:
        """The first column of the one row that a query answers."""
        with self._translated():
            return self._db.execute(statement).fetchone()[0]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block, or nothing if it ends by an error."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self.execute("ROLLBACK")
            raise

    @property
    def free_pages(self) -> int:
        """Pages of the file that hold nothing."""
        return int(self.value("PRAGMA freelist_count"))

    def used_bytes(self) -> int:
        """How much of the file holds something."""
        return int((self.value("PRAGMA page_count") - self.free_pages) * self.value("PRAGMA page_size"))

    def vacuum(self, pages: int) -> None:
        """Take so many free pages off the file's end; the file itself shrinks at the next `checkpoint`."""
        with self._translated():
            # A script, since the pragma frees one page a step and answers without a row to step for.
            self._db.executescript(f"PRAGMA incremental_vacuum({pages})")

    def checkpoint(self) -> None:
        """Write the whole log back into the file, and cut the log."""
        with self._translated():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def copy(self, target: Path) -> None:
        """Write all there is at this moment into a new file."""
        self.execute("VACUUM INTO ?", (str(target),))

    def examine(self) -> str:
        """The first fault that SQLite's own check of the file names, with its page; "" if it names none."""
        with contextlib.suppress(sqlite3.Error):
            report = str(self._db.execute("PRAGMA quick_check(1)").fetchone()[0])
            return report.splitlines()[-1] if report != "ok" else ""
        return ""

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> errors.OndolError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(_FULL):
            return self.full()
        if name.startswith(_DAMAGED):
            return self.damaged(str(error))
        if name.startswith(_BUSY):
            return errors.HostError(
                f"{self._subject} is in use by another process", remedy="stop the process that has it open"
            )
        return errors.Unavailable(f"{self._subject} cannot be read or written: {error}")

    def full(self) -> DiskFull:
        """What a full disk is answered with.

        Without a time to retry after: clients wait it out many times over before they say why.
        """
        return DiskFull(
            f"the disk is full: no space left for {self._subject}; the change was not made; free some space"
        )

    def damaged(self, detail: str) -> errors.Damaged:
        """A file that is not what was written, and where."""
        return errors.Damaged(f"{self._subject} is damaged: {detail}; the file is left as it is")


def reason(error: errors.OndolError) -> str:
    """SQLite's own words for an error of a `Connection`."""
    return str(error.__cause__ or error)
