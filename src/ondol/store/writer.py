"""The thread that commits: each time all writes that gathered since its last commit (group commit).

The event loop hands over jobs and is called back, in order, when each group is on disk. `Inline`
does the same on the spot, for tests and simulation, where a thread would break the replay.

Nobody waits for a group to fill: it is what came while the disk was busy with the group before. Say a
commit takes 1 ms. A lone write is committed at once, in 1 ms. Of a hundred that come together, the
thread takes the first, and perhaps some more, and the other 99 gather meanwhile: they are the second
group, and all hundred are on disk after 2 ms, by two syncs of the disk instead of a hundred. A group is
one transaction: it is on disk whole or not at all, and all its writes fail alike (but see `_settle` for a
full disk).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio.from_thread
import anyio.lowlevel

from ondol.base import errors
from ondol.base.database import DiskFull
from ondol.store.records import Row
from ondol.store.sqlite import Database

_GROUP_MAX = 500

Done = Callable[[errors.OndolError | None], None]
"""Called on the event loop with what went wrong, or None once the job is on disk."""


class Append:
    """One row to append; an `urgent` one makes room, and may use the reserve on a full disk."""

    __slots__ = ("done", "row", "token", "urgent")

    def __init__(self, row: Row, done: Done, *, urgent: bool = False) -> None:
        self.row = row
        self.done = done
        self.urgent = urgent
        self.token = anyio.lowlevel.current_token()


class Work:
    """Anything else that writes, in its turn."""

    __slots__ = ("done", "run", "token")
    urgent = True

    def __init__(self, run: Callable[[], None], done: Done) -> None:
        self.run = run
        self.done = done
        self.token = anyio.lowlevel.current_token()


class Writer(Protocol):
    """Commits jobs in the order they are submitted."""

    def submit(self, job: Append | Work) -> None: ...

    def close(self) -> None: ...


class Inline:
    """Commits at once, in the caller's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, job: Append | Work) -> None:
        job.done(_attempt(self._database, [job]))

    def close(self) -> None:
        self._database.close()


class Threaded:
    """Commits in a thread of its own, many jobs at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reserve_is_spent = False
        self._jobs: queue.SimpleQueue[Append | Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Append | Work) -> None:
        if self._thread is None:  # as late as this, so that a process may still fork after opening
            # A daemon: what is not acknowledged may be lost, and must not keep the process alive.
            self._thread = threading.Thread(target=self._run, name="ondol-store", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Finish what was submitted, then let go of the file."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        self._database.close()

    def _run(self) -> None:
        """Take a job, and with an append all appends that stand directly behind it; `_settle` them; again.

        Other work runs alone, at its place in the order: what ends a group is `waiting` for the next turn.
        """
        waiting: Append | Work | None = None
        while True:
            job = waiting if waiting is not None else self._jobs.get()
            waiting = None
            if job is None:
                return
            group: list[Append | Work] = [job]
            stop = False
            while isinstance(job, Append) and len(group) < _GROUP_MAX:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if isinstance(following, Append):
                    group.append(following)
                    continue
                waiting, stop = following, following is None
                break
            self._settle(group)
            if stop:
                return

    def _settle(self, group: list[Append | Work]) -> None:
        """Commit a group and report to each of its jobs.

        On a full disk the reserve file is given up once there are urgent jobs (which make room), and they are
        tried again in its space; the others are refused, until there is space enough to take the reserve
        again. Not before: whatever else fills the disk would take the space first.
        """
        if self._reserve_is_spent and self._database.take_reserve():
            self._reserve_is_spent = False
        if not self._reserve_is_spent:
            error = _attempt(self._database, group)
            is_needed = isinstance(error, DiskFull) and any(job.urgent for job in group)
            if not is_needed or not self._database.give_up_reserve():
                _report(group, error)
                return
            self._reserve_is_spent = True
        urgent = [job for job in group if job.urgent]
        _report([job for job in group if not job.urgent], self._database.full())
        _report(urgent, _attempt(self._database, urgent))


def _attempt(database: Database, group: Sequence[Append | Work]) -> errors.OndolError | None:
    try:
        for job in group:
            if isinstance(job, Work):
                job.run()
        if rows := [job.row for job in group if isinstance(job, Append)]:
            database.commit(rows)
    except errors.OndolError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the thread must outlive any job; the caller is told
        return errors.Internal(f"the change could not be written: {error!r}")
    return None


def _report(group: Sequence[Append | Work], error: errors.OndolError | None) -> None:
    if not group:
        return
    try:
        anyio.from_thread.run_sync(_call_back, group, error, token=group[0].token)
    except anyio.RunFinishedError:
        return  # the event loop ended meanwhile, and with it whoever waited


def _call_back(group: Sequence[Append | Work], error: errors.OndolError | None) -> None:
    for job in group:
        job.done(error)
