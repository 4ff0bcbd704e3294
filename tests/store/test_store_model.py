"""The store against a model: whatever is written, read and compacted, a dict of dicts agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ondol import store
from ondol.base import errors
from ondol.store.log import RevisionConflict
from ondol.store.records import ABSENT

T = TypeVar("T")
_BUCKETS = st.sampled_from(["pods", "leases"])
_NAMES = st.sampled_from(["a/x", "a/y", "b/x", "b/long-name", "c/é"])
_VALUES = st.binary(max_size=8)


class StoreModel(RuleBasedStateMachine):
    """Runs the same operations on the store and on a plain list of everything that happened."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = store.open_memory(store.Retention(events=6, buckets={"leases": 3}))
        self.current: dict[str, dict[str, tuple[int, bytes]]] = {"pods": {}, "leases": {}}
        self.history: list[tuple[int, str, str, bytes | None]] = []
        self.snapshots: dict[int, dict[str, dict[str, tuple[int, bytes]]]] = {}
        self.watches: dict[str, tuple[store.log.Watch, int]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.store.close()
        self.runner.close()

    def _remember(self) -> None:
        self.snapshots[self.store.revision] = {b: dict(records) for b, records in self.current.items()}

    @rule(bucket=_BUCKETS, name=_NAMES, value=_VALUES)
    def put(self, bucket: str, name: str, value: bytes) -> None:
        """A write gets the next revision, and its value is made from that revision."""
        before = self.store.revision
        record = self.run(self.store.append(bucket, name, lambda r: b"%d:%b" % (r, value)))
        assert record.revision > before
        assert record.value == b"%d:%b" % (record.revision, value)
        self.current[bucket][name] = (record.revision, record.value)
        self.history.append((record.revision, bucket, name, record.value))
        self._remember()

    @rule(bucket=_BUCKETS, name=_NAMES, offset=st.integers(-1, 1))
    def put_expecting(self, bucket: str, name: str, offset: int) -> None:
        """A write with an expectation happens exactly when it holds, and says what is there if not."""
        stored = self.current[bucket].get(name)
        expected = max((stored[0] if stored else ABSENT) + offset, 0)
        write = self.store.append(bucket, name, lambda _: b"cas", expected=expected)
        if expected == (stored[0] if stored else ABSENT):
            record = self.run(write)
            self.current[bucket][name] = (record.revision, b"cas")
            self.history.append((record.revision, bucket, name, b"cas"))
            self._remember()
        else:
            with pytest.raises(RevisionConflict) as caught:
                self.run(write)
            current = caught.value.current
            assert ((current.revision, current.value) if current else None) == stored

    @rule(bucket=_BUCKETS, name=_NAMES)
    def delete(self, bucket: str, name: str) -> None:
        """What is deleted is gone; what is not there cannot be deleted."""
        write = self.store.append(bucket, name, lambda _: b"last", delete=True)
        if name in self.current[bucket]:
            record = self.run(write)
            del self.current[bucket][name]
            self.history.append((record.revision, bucket, name, None))
            self._remember()
        else:
            with pytest.raises(RevisionConflict):
                self.run(write)

    @rule(bucket=_BUCKETS, prefix=st.sampled_from(["", "a/", "b/", "z/"]), limit=st.integers(0, 3))
    def pages(self, bucket: str, prefix: str, limit: int) -> None:
        """Pages put together are the bucket in order of name, and say how much is left."""
        expected = sorted(name for name in self.current[bucket] if name.startswith(prefix))
        seen: list[str] = []
        while True:
            page = self.store.page(bucket, prefix, after=seen[-1] if seen else "", limit=limit)
            seen += [record.name for record in page.records]
            assert page.remaining == len(expected) - len(seen)
            if not page.remaining:
                break
        assert seen == expected

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data(), bucket=_BUCKETS)
    def page_in_the_past(self, data: st.DataObject, bucket: str) -> None:
        """A list at an earlier revision shows that moment, or says that it is forgotten."""
        revision = data.draw(st.sampled_from(sorted(self.snapshots)))
        try:
            page = self.store.page(bucket, revision=revision)
        except errors.Expired:
            assert revision < self.store.revision
            return
        records = {record.name: (record.revision, record.value) for record in page.records}
        assert records == self.snapshots[revision][bucket]

    @precondition(lambda self: self.snapshots)
    @rule(
        data=st.data(),
        bucket=_BUCKETS,
        prefix=st.sampled_from(["", "a/", "b/", "z/"]),
        limit=st.integers(1, 3),
    )
    def pages_in_the_past(self, data: st.DataObject, bucket: str, prefix: str, limit: int) -> None:
        """Pages of an earlier revision put together are that moment, and say how much is left."""
        revision = data.draw(st.sampled_from(sorted(self.snapshots)))
        names = sorted(name for name in self.snapshots[revision][bucket] if name.startswith(prefix))
        seen: list[str] = []
        while True:
            after = seen[-1] if seen else ""
            try:
                page = self.store.page(bucket, prefix, after=after, limit=limit, revision=revision)
            except errors.Expired:
                return  # page_in_the_past says when that may be
            seen += [record.name for record in page.records]
            assert page.remaining == len(names) - len(seen)
            if not page.remaining:
                break
        assert seen == names

    @rule(bucket=_BUCKETS)
    def start_watch(self, bucket: str) -> None:
        """A watch from now on sees nothing at first."""
        watch = self.store.watch(bucket, after=self.store.revision)
        assert watch.take() == []
        self.watches[bucket] = (watch, self.store.revision)

    @rule(bucket=_BUCKETS, limit=st.integers(0, 2))
    def read_watch(self, bucket: str, limit: int) -> None:
        """A watch tells every change after its revision once and in order, or that it is too late.

        However many are taken at a time.
        """
        if bucket not in self.watches:
            return
        watch, after = self.watches[bucket]
        missed = [h for h in self.history if h[1] == bucket and h[0] > after]
        try:
            events = [event for taken in iter(lambda: watch.take(limit), []) for event in taken]
        except errors.Expired:
            # never while the history could still hold it all
            assert len(missed) > 2 or missed[0][0] <= self.store.compacted
            del self.watches[bucket]
            return
        changes = [(e.revision, bucket, e.record.name, None if e.deleted else e.record.value) for e in events]
        assert changes == missed
        self.watches[bucket] = (watch, self.store.revision)

    @rule()
    def compact(self) -> None:
        """Compaction changes nothing that is there now."""
        self.run(self.store.compact(self.store.revision))

    @rule()
    def reload(self) -> None:
        """What lies in the log is enough to bring everything back at the same revision."""
        again = store.Store(self.store._database, self.store._writer, store.Retention())
        for bucket, expected in self.current.items():
            records = {r.name: (r.revision, r.value) for r in again.page(bucket).records}
            assert records == expected
        assert again.revision == self.store.revision

    @invariant()
    def reads_agree(self) -> None:
        for bucket, expected in self.current.items():
            for name, (revision, value) in expected.items():
                assert self.store.get(bucket, name) == store.Record(name, revision, value)
            assert self.store.count(bucket) == len(expected)


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
