"""One bucket in memory: its current records in order of name, and its recent history.

A watch is a cursor into the history: nothing is queued per watcher, so a slow one costs nothing,
delays nobody, and expires when the history it still needed is forgotten.
"""

from __future__ import annotations

import bisect
import operator
from typing import Final

import anyio

from ondol.base import errors
from ondol.store.records import Event, Page, Record

_NAME: Final = operator.attrgetter("name")
TOO_OLD = "The resourceVersion for the provided watch is too old."


class Bucket:
    """Records by name, and the events since `compacted`."""

    def __init__(self, name: str, events_max: int, size_bytes_max: int) -> None:
        self.name = name
        self.records: dict[str, Record] = {}
        self.compacted = 0
        """No event at or before this revision is remembered."""
        self.dead: list[int] = []
        """Rows of the log that neither the present nor the remembered past needs."""
        self._names: list[str] = []
        self._ordered: list[Record] = []
        """The records in the order of `_names`, so that a page is a slice."""
        self._events: list[Event] = []
        self._revisions: list[int] = []
        self._size_bytes = 0
        self.events_max = events_max
        self._size_bytes_max = size_bytes_max
        self.waiting: set[anyio.Event] = set()
        """Set, and emptied, when a change is announced."""
        self.resting = False
        """Whether changes are announced together a moment later, because many were woken just now."""
        self.due = False
        """Whether there is something to announce then."""

    def apply(self, record: Record, *, deleted: bool) -> None:
        """Take over one committed row."""
        previous = self.records.get(record.name)
        place = bisect.bisect_left(self._names, record.name)
        if not deleted:
            self.records[record.name] = record
            if previous is None:
                self._names.insert(place, record.name)
                self._ordered.insert(place, record)
            else:
                self._ordered[place] = record
        elif previous is not None:
            del self.records[record.name], self._names[place], self._ordered[place]
        self._remember(Event(record, previous, deleted))

    def replay(self, record: Record, *, deleted: bool) -> None:
        """Take over one row at the start of the process; `put_in_order` once it was the last."""
        previous = self.records.pop(record.name, None)
        if not deleted:
            self.records[record.name] = record
        self._remember(Event(record, previous, deleted))

    def put_in_order(self) -> None:
        """Sort all at once, which takes a fraction of what it takes one by one."""
        self._names = sorted(self.records)
        self._ordered = [self.records[name] for name in self._names]

    def announce(self) -> int:
        """Wake all that wait for a change; returns how many they were."""
        woken = len(self.waiting)
        for waiter in self.waiting:
            waiter.set()
        self.waiting.clear()
        return woken

    def page(self, prefix: str, after: str, limit: int) -> list[Record]:
        start, end = self._range(prefix, after)
        return self._ordered[start : min(end, start + limit) if limit else end]

    def count(self, prefix: str, after: str = "") -> int:
        """How many names begin with `prefix` and come after `after`."""
        start, end = self._range(prefix, after)
        return max(0, end - start)

    def page_at(self, prefix: str, after: str, limit: int, revision: int) -> Page:
        """The same as it was at an earlier revision, by undoing the events since.

        As many records of today as the page has and as were changed since are enough: what is left of them
        without the changed ones still fills the page, so none that lies behind them can belong to it.
        """
        past = self._past(prefix, after, revision)
        start, end = self._range(prefix, after)
        stop = min(end, start + limit + len(past)) if limit else end
        records = [record for record in self._ordered[start:stop] if record.name not in past]
        records += sorted(record for record in past.values() if record is not None)
        records.sort(key=_NAME)  # two sorted runs: merged, not sorted anew
        page = records[:limit] if limit else records
        grown = sum((name in self.records) - (record is not None) for name, record in past.items())
        return Page(page, revision, max(0, end - start) - grown - len(page))

    def _past(self, prefix: str, after: str, revision: int) -> dict[str, Record | None]:
        """What the names of a page that changed since a revision were then; None where there was nothing."""
        past: dict[str, Record | None] = {}
        for event in reversed(self._events[bisect.bisect_right(self._revisions, revision) :]):
            name = event.record.name
            if name > after and name.startswith(prefix):
                past[name] = event.previous
        return past

    def events_after(self, revision: int, limit: int) -> list[Event]:
        """The first events (0: all) behind `revision`, oldest first; `Expired` if some are forgotten."""
        if revision < self.compacted:
            raise errors.Expired(TOO_OLD)
        start = bisect.bisect_right(self._revisions, revision)
        return self._events[start : start + limit] if limit else self._events[start:]

    def compact(self, revision: int) -> None:
        """Forget the events up to a revision."""
        self._trim(bisect.bisect_right(self._revisions, revision))

    def _range(self, prefix: str, after: str) -> tuple[int, int]:
        """The slice of `_names` that begin with `prefix` and come after `after`."""
        names = self._names
        start = bisect.bisect_right(names, after) if after else bisect.bisect_left(names, prefix)
        # U+10FFFF sorts after every character a name may hold.
        return start, bisect.bisect_left(names, prefix + "\U0010ffff") if prefix else len(names)

    def _remember(self, event: Event) -> None:
        self._events.append(event)
        self._revisions.append(event.revision)
        self._size_bytes += len(event.record.value)
        if len(self._events) > self.events_max or self._size_bytes > self._size_bytes_max:
            # A quarter at a time, so that the cost of trimming is spread over many appends.
            self._trim(max(1, len(self._events) // 4))

    def _trim(self, count: int) -> None:
        if not count:
            return
        for event in self._events[:count]:
            self._size_bytes -= len(event.record.value)
            if event.previous is not None:
                self.dead.append(event.previous.revision)
            if event.deleted:
                self.dead.append(event.revision)
        self.compacted = self._revisions[count - 1]
        del self._events[:count]
        del self._revisions[:count]
