"""The partitions of one member of a Kafka group: their records delivered, and how far they are.

In order, one at a time of each partition; or many at once, of which the offset that is committed is still the
one before which all are done.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.kafka.port import Consumer
from ondol.eventing.kafka.records import Partition, Record

_AT_ONCE: Final = 64
"""Records of a partition that are delivered at once, where order does not matter."""
_RECORDS_MAX: Final = 128
_BYTES_MAX: Final = 4 << 20
"""When a partition is paused until half of its records are delivered."""
_PARTING_S: Final = 5.0
"""How long what is being delivered may take when partitions go elsewhere, where the rest comes again."""


@dataclass(slots=True)
class _Entry:
    """A record, and whether it is done."""

    record: Record
    is_done: bool = False


@dataclass(slots=True)
class _Lane:
    """The records of one partition; `position` is the offset before which all are done."""

    entries: deque[_Entry] = field(default_factory=deque)
    waiting: deque[_Entry] = field(default_factory=deque)
    scopes: set[anyio.CancelScope] = field(default_factory=set)
    size_bytes: int = 0
    position: int | None = None
    committed: int | None = None
    is_paused: bool = False
    idle: Signal = field(default_factory=Signal)

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= _RECORDS_MAX or self.size_bytes >= _BYTES_MAX

    @property
    def has_room(self) -> bool:
        return len(self.entries) <= _RECORDS_MAX // 2 and self.size_bytes <= _BYTES_MAX // 2

    def settle(self, entry: _Entry) -> bool:
        """Whether the position is another now."""
        entry.is_done = True
        before = self.position
        while self.entries and self.entries[0].is_done:
            done = self.entries.popleft().record
            self.size_bytes -= done.size_bytes
            self.position = done.offset + 1
        return self.position != before


class Shares:
    """Implements `port.Share`. `deliver` returns once somebody has what is in a record."""

    def __init__(
        self,
        deliver: Callable[[Record], Awaitable[None]],
        clock: Clock,
        tasks: TaskGroup,
        *,
        is_ordered: bool,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._tasks = tasks
        self._at_once = 1 if is_ordered else _AT_ONCE
        self._lanes: dict[Partition, _Lane] = {}
        self._consumer: Consumer | None = None
        self.progressed = Signal()
        """Set when there is something to commit."""
        self.assignments = 0
        """How often partitions were handed out."""

    @property
    def partitions(self) -> list[Partition]:
        return sorted(self._lanes)

    def use(self, consumer: Consumer) -> None:
        """Commit and pause by this one."""
        self._consumer = consumer

    def assigned(self, partitions: Collection[Partition]) -> None:
        self.assignments += 1
        self._lanes = {partition: _Lane() for partition in partitions}

    async def revoked(self) -> None:
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            lane.waiting.clear()
        with self._clock.move_on_after(_PARTING_S):
            for lane in lanes.values():
                while lane.scopes:
                    lane.idle.clear()
                    await lane.idle.wait()
        with contextlib.suppress(errors.ApiError):  # whoever has them next delivers again what was done
            await self._commit(lanes)
        for lane in lanes.values():
            for scope in lane.scopes:
                scope.cancel()

    def add(self, records: Iterable[Record]) -> None:
        """Deliver these; a partition that has many of them is paused."""
        for record in records:
            lane = self._lanes.get(record.partition)
            if lane is None:
                continue  # the partition went elsewhere meanwhile
            entry = _Entry(record)
            lane.entries.append(entry)
            lane.waiting.append(entry)
            lane.size_bytes += record.size_bytes
            if lane.is_full and not lane.is_paused and self._consumer is not None:
                lane.is_paused = True
                self._consumer.pause(record.partition)
            if len(lane.scopes) < self._at_once:
                scope = anyio.CancelScope()
                lane.scopes.add(scope)
                self._tasks.start_soon(self._work_off, record.partition, lane, scope)

    async def commit(self) -> None:
        """Tell the group how far its partitions are; `Unavailable` if it cannot be told now."""
        await self._commit(self._lanes)

    async def _commit(self, lanes: dict[Partition, _Lane]) -> None:
        offsets = {
            partition: lane.position
            for partition, lane in lanes.items()
            if lane.position is not None and lane.position != lane.committed
        }
        if not offsets or self._consumer is None:
            return
        await self._consumer.commit(offsets)
        for partition, offset in offsets.items():
            lanes[partition].committed = offset

    async def _work_off(self, partition: Partition, lane: _Lane, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while lane.waiting:
                    entry = lane.waiting.popleft()
                    await self._deliver(entry.record)
                    self._settle(partition, lane, entry)
        finally:
            lane.scopes.discard(scope)
            lane.idle.set()

    def _settle(self, partition: Partition, lane: _Lane, entry: _Entry) -> None:
        if lane.settle(entry):
            self.progressed.set()
        is_ours = self._lanes.get(partition) is lane
        if is_ours and lane.is_paused and lane.has_room and self._consumer is not None:
            lane.is_paused = False
            self._consumer.resume(partition)


def text(partitions: Sequence[Partition]) -> str:
    """Partitions for people: `orders: 0, 1; payments: 2`."""
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    return "; ".join(f"{topic}: {', '.join(map(str, numbers))}" for topic, numbers in topics.items())
