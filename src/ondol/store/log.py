"""The store itself: current records and recent history in memory, the log behind a writer.

Reads are plain function calls on the state as of the last commit. A write is checked, gets its
revision, is committed by the writer, becomes visible to reads and watches, and is acknowledged, in
this order. Revisions are handed out in the order of the checks and the writer commits in that order,
so when a revision is visible, all earlier ones are.

A name has at most one write under way. The next one of that name waits for it before its own check, so
that `expected` is compared with a committed record, never with one that may yet fail; writes of other
names go on, into the same commit (`writer`).

>>> import anyio
>>> def state(text):
...     return lambda revision: text
>>> async def story():
...     log = open_memory()
...     first = await log.append("pods", "a", state(b"pending"), expected=ABSENT)
...     watch = log.watch("pods", after=first.revision)
...     await log.append("pods", "a", state(b"running"), expected=first.revision)
...     try:
...         await log.append("pods", "a", state(b"failed"), expected=first.revision)
...     except RevisionConflict as conflict:
...         print("conflict with", conflict.current.value)
...     print("watched:", [event.record.value for event in watch.take()])
...     print("then:", log.page("pods", revision=first.revision).records[0].value)
...     await log.compact(log.revision)
...     try:
...         log.watch("pods", after=first.revision)
...     except errors.Expired as expired:
...         print(expired)
...     print("now:", log.get("pods", "a").value)
...     log.close()
>>> anyio.run(story)
conflict with b'running'
watched: [b'running']
then: b'pending'
The resourceVersion for the provided watch is too old.
now: b'running'
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.lowlevel

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.store import writer
from ondol.store.bucket import Bucket
from ondol.store.commits import CommitMetrics, MeasuredDatabase
from ondol.store.records import ABSENT, UNCHECKED, Event, Page, Record, Retention, Row
from ondol.store.sqlite import Check, Database

_FIRST_REVISION: Final = 1  # 0 means "any" to the API
_PURGE_ROWS: Final = 2_000
_CROWD: Final = 16
"""Watches up to which each change is announced as it comes."""
_WAKE_S: Final = 60e-6
"""What waking one more watch may take, twice over: so at least half of the time is left for the rest."""
_REST_MAX_S: Final = 0.02

T = TypeVar("T")


class RevisionConflict(errors.OndolError):
    """The record is not at the expected revision; `current` is the one that is, None if there is none."""

    def __init__(self, current: Record | None) -> None:
        super().__init__("the record changed")
        self.current = current


class RevisionCompacted(errors.Expired):
    """A list was requested at a revision whose history is forgotten."""


class Store:
    """Buckets of records over one log.

    All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        database: Database,
        committer: writer.Writer,
        retention: Retention,
        check: Check | None = None,
    ) -> None:
        self._database = database
        self._writer = committer
        self._retention = retention
        self._buckets: dict[str, Bucket] = {}
        self._pending: dict[tuple[str, str], anyio.Event] = {}
        self._advanced = Signal()
        self._rest: Callable[[Bucket, float], None] | None = None
        """Lets a bucket rest for some seconds, and then announces the changes that came meanwhile."""
        self.compacted = 0
        """Lists at an earlier revision than this are refused."""
        self.revision = _FIRST_REVISION
        """The last revision that reads can see."""
        self._load(check)
        self._assigned = self.revision

    def _load(self, check: Check | None) -> None:
        reached, high_water = self._database.compacted()
        for name, revision in reached.items():
            self._bucket(name).compacted = revision
        for row in self._database.rows(check):
            bucket = self._bucket(row.bucket)
            bucket.replay(Record(row.name, row.revision, row.value), deleted=row.deleted)
            self.revision = row.revision
        for bucket in self._buckets.values():
            bucket.put_in_order()
        for name, revision in reached.items():
            self._bucket(name).compact(revision)
        self.revision = max(self.revision, high_water, _FIRST_REVISION)
        self.compacted = max(reached.values(), default=0)

    def get(self, bucket: str, name: str) -> Record | None:
        contents = self._buckets.get(bucket)
        return contents.records.get(name) if contents is not None else None

    def page(
        self,
        bucket: str,
        prefix: str = "",
        *,
        after: str = "",
        limit: int = 0,
        revision: int | None = None,
    ) -> Page:
        """Records whose names begin with `prefix`, in order, from behind `after`.

        With a revision, as they were then; `RevisionCompacted` if that is too long ago.
        """
        contents = self._bucket(bucket)
        if revision is not None and revision < self.revision:
            if revision < max(contents.compacted, self.compacted):
                raise RevisionCompacted("The resourceVersion for the provided list is too old.")
            return contents.page_at(prefix, after, limit, revision)
        records = contents.page(prefix, after, limit)
        cut_off = limit and len(records) == limit
        remaining = contents.count(prefix, records[-1].name) if cut_off else 0
        return Page(records, self.revision, remaining)

    def buckets(self) -> list[str]:
        """Every bucket that holds a record."""
        return [name for name, bucket in self._buckets.items() if bucket.records]

    def count(self, bucket: str, prefix: str = "") -> int:
        return self._bucket(bucket).count(prefix)

    async def append(
        self,
        bucket: str,
        name: str,
        value: Callable[[int], bytes],
        *,
        expected: int = UNCHECKED,
        delete: bool = False,
        urgent: bool = False,
    ) -> Record:
        """Write one record, or its deletion, and return it once it is on disk.

        `value` makes the bytes from the record's revision. `expected` is the revision the record must
        have now (`ABSENT`: there must be none); otherwise `RevisionConflict`, and nothing is written. A
        deletion, and an `urgent` write that leads to one, is made on a full disk too, for a while.
        """
        place = (bucket, name)
        while (writing := self._pending.get(place)) is not None:
            await writing.wait()
        current = self.get(bucket, name)
        if expected not in (UNCHECKED, current.revision if current is not None else ABSENT):
            raise RevisionConflict(current)
        if delete and current is None:
            raise RevisionConflict(None)
        self._assigned += 1
        record = Record(name, self._assigned, value(self._assigned))
        return await self._commit(bucket, record, delete=delete, urgent=urgent or delete)

    async def _commit(self, bucket: str, record: Record, *, delete: bool, urgent: bool) -> Record:
        place = (bucket, record.name)
        finished = self._pending[place] = anyio.Event()
        failure: errors.OndolError | None = None

        def done(error: errors.OndolError | None) -> None:
            nonlocal failure
            failure = error
            del self._pending[place]
            if error is None:
                self._apply(bucket, record, deleted=delete)
            finished.set()

        row = Row(record.revision, bucket, record.name, delete, record.value)
        self._writer.submit(writer.Append(row, done, urgent=urgent))
        await finished.wait()
        if failure is not None:
            raise failure
        return record

    def _apply(self, bucket: str, record: Record, *, deleted: bool) -> None:
        contents = self._bucket(bucket)
        contents.apply(record, deleted=deleted)
        self.revision = record.revision
        self._announce(contents)
        self._advanced.set()

    def _announce(self, bucket: Bucket) -> None:
        if bucket.resting:
            bucket.due = True
            return
        woken = bucket.announce()
        if self._rest is not None and woken > _CROWD:
            bucket.resting = True
            self._rest(bucket, min(woken * _WAKE_S, _REST_MAX_S))

    async def pace_forever(self, clock: Clock) -> None:
        """Announce changes to many watches less often: they come together, a few milliseconds later.

        To wake a hundred watches takes longer than to commit the next write. Without this, every change is
        announced at once.
        """

        async def rest(bucket: Bucket, seconds: float) -> None:
            await clock.sleep(seconds)
            bucket.resting = False
            if bucket.due:
                bucket.due = False
                self._announce(bucket)

        async with anyio.create_task_group() as group:

            def start(bucket: Bucket, seconds: float) -> None:
                group.start_soon(rest, bucket, seconds)

            self._rest = start
            try:
                await anyio.sleep_forever()
            finally:
                self._rest = None
                for bucket in self._buckets.values():
                    bucket.resting = bucket.due = False
                    bucket.announce()

    async def reached(self, revision: int) -> None:
        """Wait until a revision is visible to reads."""
        while self.revision < revision:
            await self._advanced.next.wait()

    def watch(self, bucket: str, prefix: str = "", *, after: int) -> Watch:
        """Follow the changes after a revision; `Expired` at once if some of them are forgotten."""
        watch = Watch(self, self._bucket(bucket), prefix, after)
        watch.check()
        return watch

    async def compact(self, revision: int) -> None:
        """Forget what happened up to a revision, and purge the rows nobody needs from the log.

        The current records stay, whatever their revision. What goes is the past: the event of each
        change up to `revision`, and so the rows that only those events needed (a record's former state, a
        deletion). Lists at, and watches after, an earlier revision are refused from then on.
        """
        for bucket in self._buckets.values():
            bucket.compact(revision)
        self.compacted = max(self.compacted, revision)
        await self.purge()

    async def purge(self) -> None:
        """Remove from the log the rows that history has already forgotten, and give their space back.

        Some rows at a time, each step a job of the writer's, so that writes are committed in between. How far
        history reaches is written in the same transaction: after a crash the store refuses what it
        refused before. So is the highest revision, whose own row may be among those removed.
        """
        dead = [number for bucket in self._buckets.values() for number in bucket.dead]
        if not dead:
            return
        reached = {b.name: b.compacted for b in self._buckets.values() if b.compacted}
        for bucket in self._buckets.values():
            bucket.dead.clear()
        high_water = self.revision
        try:
            while dead:
                rows = dead[-_PURGE_ROWS:]
                await self._work(functools.partial(self._database.purge, rows, reached, high_water))
                del dead[-_PURGE_ROWS:]
        finally:
            if dead:  # another try at the next compaction
                self._bucket(next(iter(reached))).dead.extend(dead)
        await self._shrink()

    async def _shrink(self) -> None:
        while await self._work(self._database.shrink):
            pass

    async def _work(self, run: Callable[[], T]) -> T:
        """What the writer's thread returns from doing something in its turn."""
        finished = anyio.Event()
        result: list[T] = []
        failure: errors.OndolError | None = None

        def done(error: errors.OndolError | None) -> None:
            nonlocal failure
            failure = error
            finished.set()

        self._writer.submit(writer.Work(lambda: result.append(run()), done))
        await finished.wait()
        if failure is not None:
            raise failure
        return result[0]

    async def copy(self, target: Path) -> None:
        """Write everything as of now into a new file of the same form; writes wait meanwhile."""
        await self._work(functools.partial(self._database.copy, target))

    async def compact_forever(self, clock: Clock, interval_s: float) -> None:
        """At each interval, forget the changes up to the one before: none younger than `interval_s`."""
        while True:
            seen = self.revision
            for _ in range(5):
                await clock.sleep(interval_s / 5)
                if sum(len(bucket.dead) for bucket in self._buckets.values()) > _PURGE_ROWS:
                    await self.purge()
            await self.compact(seen)

    def bound(self, bucket: str, events: int) -> None:
        """Keep at most so many events of a bucket whose objects are rewritten all the time."""
        self._bucket(bucket).events_max = events

    def wake(self, bucket: str) -> None:
        """End the waits of a bucket's watches though nothing changed, so that their readers look around."""
        self._announce(self._bucket(bucket))

    def close(self) -> None:
        """Finish the writes under way and let go of the file."""
        self._writer.close()

    def _bucket(self, name: str) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            events_max = self._retention.events_of(name)
            bucket = self._buckets[name] = Bucket(name, events_max, self._retention.size_bytes)
        return bucket


class Watch:
    """A cursor over the changes to one bucket.

    `revision` is how far it has read: every change up to it was taken, or is of another prefix or bucket.
    So a watch that ends can be opened again after its `revision`, and misses and repeats nothing.
    """

    def __init__(self, store: Store, bucket: Bucket, prefix: str, after: int) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self.revision = after
        """Every change up to here has been taken."""
        self._waiter: anyio.Event | None = None
        self._woken = False

    def check(self) -> None:
        if self.revision < self._bucket.compacted:
            self._bucket.events_after(self.revision, 1)

    def take(self, limit: int = 0) -> list[Event]:
        """The next changes, oldest first, and none only if there are no more; all without a `limit`.

        `Expired` if some of them are already forgotten: changes are kept as long as the bucket's history
        reaches, not for a reader that takes some at a time.
        """
        while self.revision < self._store.revision:
            events = self._bucket.events_after(self.revision, limit)
            cut_off = limit and len(events) == limit
            self.revision = events[-1].revision if cut_off else self._store.revision
            if chosen := [event for event in events if event.record.name.startswith(self._prefix)]:
                return chosen
        return []

    async def changed(self) -> None:
        """Wait until the bucket changes again, or `wake` is called."""
        if self._woken:
            self._woken = False
            return
        self._waiter = anyio.Event()
        self._bucket.waiting.add(self._waiter)
        try:
            await self._waiter.wait()
        finally:
            self._bucket.waiting.discard(self._waiter)
            self._waiter = None
            self._woken = False

    def wake(self) -> None:
        """End the current or the next `changed`."""
        self._woken = True
        if self._waiter is not None:
            self._waiter.set()


def open_file(
    path: Path,
    retention: Retention | None = None,
    *,
    check: Check | None = None,
    metrics: CommitMetrics | None = None,
) -> Store:
    """The store in a file; `HostError` if the file is damaged or another process has it.

    `check` tests whether a value can be what was written; the first that cannot is named in the error.
    `metrics` counts the commits.
    """
    database = Database(path) if metrics is None else MeasuredDatabase(path, metrics)
    try:
        database.take_reserve()
        return Store(database, writer.Threaded(database), retention or Retention(), check)
    except BaseException:
        database.close()
        raise


def open_memory(retention: Retention | None = None) -> Store:
    """A store in memory, gone with the process; it commits in the caller's thread."""
    database = Database(None)
    return Store(database, writer.Inline(database), retention or Retention())
