"""A Kafka cluster that is played: topics, groups and their rebalances, on whichever clock a story has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.kafka.port import Connection, Rebalancing, Share, Subscription
from ondol.eventing.kafka.records import Headers, Partition, Record

_POLL_S = 1.0
_FETCH_S = 0.01
_AT_ONCE = 10


class PlayedKafka:
    """Implements `port.Cluster`. `is_down` has nobody answer; `connections` are those that were made."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.logs: dict[Partition, list[Record]] = {}
        self.committed: dict[tuple[str, Partition], int] = {}
        self.members: dict[str, list[_Member]] = {}
        self.connections: list[Connection] = []
        self.copies = 0
        """How many replicas were asked for last."""
        self.is_down = False
        self.slowness_s = 0.0
        """How long it takes until there is a producer."""
        self.producers = 0
        """Those that are open."""
        self.changed = Signal()
        self._locks: dict[str, anyio.Lock] = {}

    def create(self, topic: str, partitions: int = 1) -> None:
        for number in range(partitions):
            self.logs.setdefault(Partition(topic, number), [])

    def write(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        number: int = 0,
    ) -> Record:
        """Append a record; offsets have gaps, as those of compacted topics do."""
        partition = Partition(topic, number)
        log = self.logs[partition]
        milliseconds = int(self.clock.now() * 1000)
        record = Record(partition, self.end(partition) + len(log) % 3, milliseconds, key, value, headers)
        log.append(record)
        self.changed.set()
        return record

    def end(self, partition: Partition) -> int:
        """The offset behind the last record."""
        log = self.logs[partition]
        return log[-1].offset + 1 if log else 0

    def require_up(self) -> None:
        if self.is_down:
            raise errors.Unavailable("Kafka: kafka.example:9092: nobody is there")

    @asynccontextmanager
    async def consume(
        self, connection: Connection, subscription: Subscription, share: Share
    ) -> AsyncIterator[_Member]:
        self.require_up()
        self.connections.append(connection)
        member, group = _Member(self, subscription, share), subscription.group
        await self._rebalance(group, joining=member)
        try:
            yield member
        finally:
            with anyio.CancelScope(shield=True):
                await self._rebalance(group, leaving=member)

    async def _rebalance(
        self, group: str, *, joining: _Member | None = None, leaving: _Member | None = None
    ) -> None:
        async with self._locks.setdefault(group, anyio.Lock()):
            before = self.members.setdefault(group, [])
            for member in before:
                if member is not leaving:
                    await member.share.revoked()
                member.positions.clear()
                member.assignments += 1
            members = [each for each in before if each is not leaving] + ([joining] if joining else [])
            self.members[group] = members
            for number, member in enumerate(members):
                topics = member.subscription.topics
                listed = sorted(each for each in self.logs if each.topic in topics)
                member.paused = set(listed)
                member.share.assigned(listed[number :: len(members)])

    @asynccontextmanager
    async def produce(self, connection: Connection) -> AsyncIterator[_Writer]:
        self.require_up()
        self.connections.append(connection)
        await self.clock.sleep(self.slowness_s)
        self.producers += 1
        try:
            yield _Writer(self)
        finally:
            self.producers -= 1

    async def create_topic(self, connection: Connection, topic: str, partitions: int, replicas: int) -> None:
        self.require_up()
        self.connections.append(connection)
        self.copies = replicas
        self.create(topic, partitions)


class _Member:
    """Implements `port.Consumer`."""

    def __init__(self, kafka: PlayedKafka, subscription: Subscription, share: Share) -> None:
        self._kafka = kafka
        self.subscription = subscription
        self.share = share
        self.assignments = 0
        self.positions: dict[Partition, int] = {}
        self.paused: set[Partition] = set()

    async def poll(self) -> Sequence[Record]:
        assignments, fetched = self.assignments, self._fetched()
        with self._kafka.clock.move_on_after(_POLL_S):
            while not fetched:
                await self._kafka.changed.next.wait()
                assignments, fetched = self.assignments, self._fetched()
        await self._kafka.clock.sleep(_FETCH_S)
        return fetched if assignments == self.assignments else ()

    def _fetched(self) -> Sequence[Record]:
        for partition, position in self.positions.items():
            log = self._kafka.logs[partition]
            fetched = [each for each in log if each.offset >= position][:_AT_ONCE]
            if fetched and partition not in self.paused and not self._kafka.is_down:
                self.positions[partition] = fetched[-1].offset + 1
                return fetched
        return ()

    async def begin(self, partitions: Collection[Partition]) -> None:
        self._kafka.require_up()
        assignments = self.assignments
        await self._kafka.clock.sleep(_FETCH_S)
        if assignments != self.assignments:
            raise Rebalancing("the partitions are being handed out anew")
        for partition in partitions:
            place = (self.subscription.group, partition)
            is_earliest = self.subscription.initial == "earliest"
            self._kafka.committed.setdefault(place, 0 if is_earliest else self._kafka.end(partition))
            self.positions[partition] = self._kafka.committed[place]
            self.resume(partition)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        self._kafka.require_up()
        for partition, offset in offsets.items():
            self._kafka.committed[self.subscription.group, partition] = offset

    async def check(self) -> None:
        self._kafka.require_up()
        topics = {partition.topic for partition in self._kafka.logs}
        missing = [topic for topic in self.subscription.topics if topic not in topics]
        if missing:
            raise errors.Unavailable(f"Kafka: there is no topic {', '.join(missing)}")

    def pause(self, partition: Partition) -> None:
        self.paused.add(partition)

    def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)
        self._kafka.changed.set()


class _Writer:
    """Implements `port.Producer`."""

    def __init__(self, kafka: PlayedKafka) -> None:
        self._kafka = kafka

    async def check(self, topic: str) -> None:
        self._kafka.require_up()
        if Partition(topic, 0) not in self._kafka.logs:
            raise errors.Unavailable(f"Kafka: there is no topic {topic}")

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self._kafka.require_up()
        self._kafka.write(topic, value, key=key, headers=headers)
