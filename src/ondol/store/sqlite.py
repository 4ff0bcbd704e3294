"""The edge to SQLite: one append-only table in one file, opened by one process at a time.

The only module that names `sqlite3`. Its errors leave here as errors of the project: a full disk is
`Unavailable` (nothing of that commit is kept, and writing works again once there is space), a file
that is damaged or lost is `Damaged`, one in use by another process a `HostError` with its remedy.

A file that was in use once is known by its lock file, which then says so: found empty or missing, it was
lost, and nothing is begun in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.base.reserve import Reserve
from ondol.store.records import Row

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL,
    name TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS compacted (bucket TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
"""
_ROWS: Final = "SELECT revision, bucket, name, deleted, value FROM log ORDER BY revision"
_FORMAT: Final = 1
_HIGH_WATER: Final = ""
"""The row of `compacted` that keeps the highest revision, should its own row be purged."""
_ROWS_PER_STATEMENT: Final = 500
_RESERVE_BYTES: Final = 4 * 1024 * 1024
_UNKNOWN_MAX: Final = 1 << 40
_USED: Final = b"in use\n"
"""What the lock file says once there is a database to lose."""
_LOG_BYTES_MAX: Final = 8 * 1024 * 1024
"""What is kept of SQLite's write-ahead log once its content is in the file."""
_FREE_PAGES_KEPT: Final = 256
_FREE_PAGES_STEP: Final = 1024
"""A turn of the writer: some 4 MB, which takes milliseconds."""

Check = Callable[[bytes], bool]
"""Whether a value can be what its owner once wrote."""


class DiskFull(errors.Unavailable):
    """There is no space for a commit; nothing of it is kept."""


class Database:
    """One open log file, or a private one in memory when `path` is None.

    Beside it lies a file of some megabytes that is given up when the disk is full: by the space of it things
    can be deleted, which takes a little space too. Whoever commits asks for it (`give_up_reserve`), and lets
    nothing else use that space (`take_reserve`).

    After construction it may be used from one other thread, never from two at once.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._reserve = (
            Reserve(path.with_name(path.name + ".reserve"), _RESERVE_BYTES) if path is not None else None
        )
        self._shrunk = False
        self._lock = _exclusive(path) if path is not None else None
        try:
            self._connection = self._open()
            self._mark()
        except BaseException:
            self._unlock()
            raise
        if path is None:  # nothing of it outlives its owner, who need not close it
            weakref.finalize(self, self._connection.close)

    def take_reserve(self) -> bool:
        """Whether the reserve is there, if need be again."""
        return self._reserve is None or self._reserve.take()

    def give_up_reserve(self) -> bool:
        """Make room for what makes room; False if there is nothing to give up."""
        return self._reserve is not None and self._reserve.give_up()

    def _mark(self) -> None:
        """From now on there is something to lose."""
        if self._lock is not None and not os.pread(self._lock, len(_USED), 0):
            with contextlib.suppress(OSError):  # a full disk, say; the next opening says it
                os.pwrite(self._lock, _USED, 0)

    def _open(self) -> sqlite3.Connection:
        with self._translated():
            connection = sqlite3.connect(
                self._path or ":memory:", isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Open the file, or make it; one that was made before is only read, which a full disk allows."""
        # Alone with the file, SQLite keeps its index of the log in memory, not in a file that needs space.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, _FORMAT):
            raise errors.HostError(
                f"{self._path} was written by a newer version (format {found})",
                remedy="use the version of ondol that wrote it, or another data directory",
            )
        if found == 0:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES_MAX}")
        if found == 0:
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version={_FORMAT}")

    def rows(self, check: Check | None = None) -> Iterator[Row]:
        """Every row of the log, oldest first; `Damaged` names the first that is not whole."""
        last = 0
        try:
            for revision, bucket, name, deleted, value in self._connection.execute(_ROWS):
                if check is not None and not check(value):
                    raise self._damaged(f"row {revision} ({bucket}, {name}) is not what was written")
                last = revision
                yield Row(revision, bucket, name, bool(deleted), value)
        except sqlite3.DatabaseError as error:
            where = f"behind row {last}" if last else "from its first row on"
            raise self._damaged(f"{error} {where}{self._pages()}") from error

    def _pages(self) -> str:
        """The first thing SQLite's own examination has to say, which names a page."""
        with contextlib.suppress(sqlite3.Error):
            (said,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            return f" ({str(said).splitlines()[-1]})" if said != "ok" else ""
        return ""

    def _damaged(self, what: str) -> errors.Damaged:
        return errors.Damaged(f"the API's data at {self._path} is damaged: {what}; the file is left as it is")

    def copy(self, target: Path) -> None:
        """Write all there is at this moment into a new file."""
        with self._translated():
            self._connection.execute("VACUUM INTO ?", (str(target),))

    def compacted(self) -> tuple[dict[str, int], int]:
        """How far each bucket's history was purged, and the highest revision at that time."""
        with self._translated():
            found = dict(self._connection.execute("SELECT bucket, revision FROM compacted").fetchall())
        high_water = found.pop(_HIGH_WATER, 0)
        return found, high_water

    def commit(self, rows: Sequence[Row]) -> None:
        """Append all the rows or none; they are on disk when this returns."""
        with self._translated():
            if len(rows) <= _ROWS_PER_STATEMENT:
                self._insert(rows)  # a statement is its own transaction
                return
            with self._transaction():
                for start in range(0, len(rows), _ROWS_PER_STATEMENT):
                    self._insert(rows[start : start + _ROWS_PER_STATEMENT])

    def _insert(self, rows: Sequence[Row]) -> None:
        # One statement for the batch: each step gives up the interpreter lock once.
        places = ",".join(["(?,?,?,?,?)"] * len(rows))
        values = [value for row in rows for value in row]
        self._connection.execute(f"INSERT INTO log VALUES {places}", values)  # noqa: S608 - only marks

    def purge(self, revisions: Sequence[int], compacted: Mapping[str, int], high_water: int) -> None:
        """Remove rows nobody needs, and remember how far history now reaches back."""
        reached = [*compacted.items(), (_HIGH_WATER, high_water)]
        with self._translated(), self._transaction():
            self._connection.executemany(
                "DELETE FROM log WHERE revision=?", ((revision,) for revision in revisions)
            )
            self._connection.executemany("INSERT OR REPLACE INTO compacted VALUES (?,?)", reached)

    def shrink(self) -> bool:
        """Give some of the free pages back to the disk; whether there are more to give.

        Some are left for the next rows. The file ends where its log is written back to it, so the last
        call does that.
        """
        with self._translated():
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free > _FREE_PAGES_KEPT:
                # A script, since the pragma frees one page a step and answers without a row to step for.
                step = min(free - _FREE_PAGES_KEPT, _FREE_PAGES_STEP)
                self._connection.executescript(f"PRAGMA incremental_vacuum({step})")
                self._shrunk = True
                return True
            if self._shrunk:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._shrunk = False
            return False

    def close(self) -> None:
        self._connection.close()
        self._unlock()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> errors.OndolError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_FULL"):
            return self.full()
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(error))
        return errors.Unavailable(f"the API's data at {self._path} cannot be written: {error}")

    def full(self) -> DiskFull:
        """What is said of a full disk.

        Without a time to retry after: clients wait it out many times over before they say why.
        """
        return DiskFull(
            f"the disk is full: no space left for the API's data at {self._path}; "
            "the change was not made; free some space"
        )

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _exclusive(path: Path) -> int:
    """The descriptor that holds this process's claim to the file; the kernel drops it if we die."""
    file = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_lost(path, file)
        # SQLite gives its journal files the mode of the database: secrets lie in all of them.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        lock = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise errors.HostError(
            f"the API's data at {path} cannot be opened: {error.strerror}",
            remedy=f"make sure that {path.parent} exists, has space and belongs to you",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise errors.HostError(
            f"{path} is in use by another process",
            remedy="stop the platform that runs on this data directory, or choose another one",
        ) from error
    return lock


def _refuse_lost(path: Path, lock: Path) -> None:
    """`Damaged` if there was a database, and what is there now is none or has nothing in it."""
    was_used = lock.exists() and lock.read_bytes() == _USED
    if was_used and (not path.exists() or not path.stat().st_size):
        state = "is empty" if path.exists() else "is gone"
        raise errors.Damaged(
            f"the API's data at {path} {state}, though there was some; nothing is begun in its place",
            remedy=f"to begin with nothing, remove {lock}",
        )


def salvage(path: Path, check: Check | None = None) -> Iterator[Row | str]:
    """Every row of a damaged file that can be read, and a sentence for each place that cannot.

    The file is only read, but SQLite may put its log in order: work on a copy.
    """
    if not path.exists() or not path.stat().st_size:
        yield f"{path} is empty"
        return
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        yield from _salvaged(connection, check)
    except sqlite3.DatabaseError as error:
        yield f"nothing can be read: {error}"
    finally:
        connection.close()


def _salvaged(connection: sqlite3.Connection, check: Check | None) -> Iterator[Row | str]:
    """In order; behind a place that cannot be read, row numbers are tried in growing steps."""
    last, step, limit = 0, 0, _highest(connection)
    while last + step <= limit:
        try:
            query = _ROWS.replace("ORDER BY", "WHERE revision > ? ORDER BY") + " LIMIT 1"
            columns = connection.execute(query, (last + step,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not step:
                yield f"behind row {last}: {error}"
            step = max(1, step * 2)
            continue
        if columns is None:
            return
        last, step = columns[0], 0
        row = Row(columns[0], columns[1], columns[2], bool(columns[3]), columns[4])
        is_whole = check is None or check(row.value)
        yield row if is_whole else f"row {last} ({row.bucket}, {row.name}) is not what was written"


def _highest(connection: sqlite3.Connection) -> int:
    """The last row's number, or as far as row numbers are tried when that cannot be read."""
    with contextlib.suppress(sqlite3.DatabaseError):
        (highest,) = connection.execute("SELECT max(revision) FROM log").fetchone()
        return int(highest or 0)
    return _UNKNOWN_MAX
