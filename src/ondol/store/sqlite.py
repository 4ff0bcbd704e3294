"""The log in SQLite: one append-only table in one file, opened by one process at a time.

A file that is damaged or lost is `Damaged`, one in use by another process a `HostError` with its remedy;
other errors are those of `ondol.base.database`.

A file that was in use once is known by its lock file, which then says so: when it is empty or missing, it was
lost, and nothing is begun in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ondol.base import database, errors
from ondol.base.database import DiskFull
from ondol.base.reserve import Reserve
from ondol.store.records import Row

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL,
    name TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS compacted (bucket TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
"""
_SCHEMA: Final = database.Schema((_TABLES,))
_ROWS: Final = "SELECT revision, bucket, name, deleted, value FROM log ORDER BY revision"
_HIGH_WATER: Final = ""
"""The row of `compacted` that keeps the highest revision, should its own row be purged."""
_ROWS_PER_STATEMENT: Final = 500
_RESERVE_BYTES: Final = 4 * 1024 * 1024
_UNKNOWN_MAX: Final = 1 << 40
_USED: Final = b"in use\n"
"""The lock file's content once there is a database to lose."""
_OPTIONS: Final = database.Options(durable=True, log_bytes_max=8 * 1024 * 1024)
_FREE_PAGES_MIN: Final = 256
_FREE_PAGES_STEP: Final = 1024
"""A turn of the writer: some 4 MB, which takes milliseconds."""

Check = Callable[[bytes], bool]
"""Whether a value can be what its owner once wrote."""


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
            self._connection = database.Connection(
                path, subject=_subject(path), schema=_SCHEMA, options=_OPTIONS
            )
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
        """Record in the lock file that there is a database to lose."""
        if self._lock is not None and not os.pread(self._lock, len(_USED), 0):
            with contextlib.suppress(OSError):  # such as a full disk; the next opening writes it
                os.pwrite(self._lock, _USED, 0)

    def rows(self, check: Check | None = None) -> Iterator[Row]:
        """Every row of the log, oldest first; `Damaged` names the first that is not whole."""
        last = 0
        try:
            for columns in self._connection.stream(_ROWS):
                row = _row(columns)
                if check is not None and not check(row.value):
                    break
                last = row.revision
                yield row
            else:
                return
        except errors.OndolError as error:
            position = f"behind row {last}" if last else "from its first row on"
            page = f" ({fault})" if (fault := self._connection.examine()) else ""
            raise self._connection.damaged(f"{database.reason(error)} {position}{page}") from error
        raise self._connection.damaged(
            f"row {row.revision} ({row.bucket}, {row.name}) is not what was written"
        )

    def copy(self, target: Path) -> None:
        """Write all there is at this moment into a new file."""
        self._connection.copy(target)

    def compacted(self) -> tuple[dict[str, int], int]:
        """How far each bucket's history was purged, and the highest revision at that time."""
        rows = self._connection.rows("SELECT bucket, revision FROM compacted")
        revisions: dict[str, int] = dict(rows)
        high_water = revisions.pop(_HIGH_WATER, 0)
        return revisions, high_water

    def commit(self, rows: Sequence[Row]) -> None:
        """Append all the rows or none; they are on disk when this returns."""
        if len(rows) <= _ROWS_PER_STATEMENT:
            self._insert(rows)  # a statement is its own transaction
            return
        with self._connection.transaction():
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
        with self._connection.transaction():
            self._connection.execute_many(
                "DELETE FROM log WHERE revision=?", ((revision,) for revision in revisions)
            )
            self._connection.execute_many("INSERT OR REPLACE INTO compacted VALUES (?,?)", reached)

    def shrink(self) -> bool:
        """Give some of the free pages back to the disk; whether there are more to give.

        Some are left for the next rows. The file ends where its log is written back to it, so the last
        call does that.
        """
        free = self._connection.free_pages
        if free > _FREE_PAGES_MIN:
            self._connection.vacuum(min(free - _FREE_PAGES_MIN, _FREE_PAGES_STEP))
            self._shrunk = True
            return True
        if self._shrunk:
            self._connection.checkpoint()
            self._shrunk = False
        return False

    def close(self) -> None:
        self._connection.close()
        self._unlock()

    def full(self) -> DiskFull:
        """What is answered when neither the disk nor the reserve has space."""
        return self._connection.full()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def require_readable(path: Path) -> None:
    """`HostError` if a newer version has written the file and this must not open it; it may be in use."""
    if (stamp := database.stamp_of(path)) is not None:
        database.require_readable(str(path), stamp, _SCHEMA)


def _subject(path: Path | None) -> str:
    return f"the API's data at {path}"


def _row(columns: tuple[Any, ...]) -> Row:
    revision, bucket, name, deleted, value = columns
    return Row(revision, bucket, name, bool(deleted), value)


def _exclusive(path: Path) -> int:
    """The descriptor that holds this process's claim to the file; the kernel drops it if we die."""
    file = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_lost(path, file)
        # SQLite gives its journal files the mode of the database: all of them contain secrets.
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
    """`Damaged` if there was a database, and the file is now none or an empty one."""
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
    try:
        connection = database.Connection(path, subject=_subject(path))
    except errors.OndolError as error:
        yield f"nothing can be read: {database.reason(error)}"
        return
    try:
        yield from _salvaged(connection, check)
    finally:
        connection.close()


def _salvaged(connection: database.Connection, check: Check | None) -> Iterator[Row | str]:
    """In order; behind a place that cannot be read, row numbers are tried in growing steps."""
    last, step, limit = 0, 0, _highest(connection)
    query = _ROWS.replace("ORDER BY", "WHERE revision > ? ORDER BY") + " LIMIT 1"
    while last + step <= limit:
        try:
            rows = connection.rows(query, (last + step,))
        except errors.OndolError as error:
            if not step:
                yield f"behind row {last}: {database.reason(error)}"
            step = max(1, step * 2)
            continue
        if not rows:
            return
        row = _row(rows[0])
        last, step = row.revision, 0
        is_whole = check is None or check(row.value)
        yield row if is_whole else f"row {last} ({row.bucket}, {row.name}) is not what was written"


def _highest(connection: database.Connection) -> int:
    """The last row's number, or as far as row numbers are tried when that cannot be read."""
    with contextlib.suppress(errors.OndolError):
        return int(connection.value("SELECT max(revision) FROM log") or 0)
    return _UNKNOWN_MAX
