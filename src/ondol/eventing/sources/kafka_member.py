"""One member of the group of a KafkaSource: it connects, reads and delivers, and connects again."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.eventing.kafka import records, settings
from ondol.eventing.kafka.port import Cluster, Consumer, Rebalancing, Subscription
from ondol.eventing.kafka.records import Partition, Record
from ondol.eventing.sources import overrides
from ondol.eventing.sources.couriers import Courier
from ondol.eventing.sources.partitions import Shares

_AGAIN: Final = Backoff(initial_s=0.5, maximum_s=30.0, jitter=0.2)
_MEND_S: Final = 30.0
"""When to look again at what only a person can mend."""
_SILENCE_S: Final = 10.0
"""After so long without a record it is looked whether the cluster is there."""
_COMMIT_S: Final = 0.2
"""Between two commits, at least."""
_PARTING_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What members of all groups use."""

    client: Client
    clock: Clock
    rng: random.Random
    cluster: Cluster


class Member:
    """`source` says what the source is now; `changed` is called when something that stands here changes."""

    def __init__(
        self,
        around: Surroundings,
        courier: Courier,
        source: Callable[[], Object],
        changed: Callable[[], None],
    ) -> None:
        self._client = around.client
        self._clock = around.clock
        self._rng = around.rng
        self._cluster = around.cluster
        self._courier = courier
        self._source = source
        self._changed = changed
        self._log = log.get("kafka")
        self.trouble = ""
        """Why it does not read, in words."""
        self.is_connected = False
        self.has_begun = False
        """Whether the group knows where the reading of each partition begins."""
        self.partitions: list[Partition] = []

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                await self._session()
            except settings.Unusable as error:
                self._note(str(error), is_connected=False)
                await self._clock.sleep(_MEND_S)
            except errors.ApiError as error:
                failures = 1 if self.is_connected else failures + 1
                self._log.warning("kafka_connection_lost", source=self._name, reason=error.message)
                self._note(error.message, is_connected=False)
                await self._clock.sleep(_AGAIN.delay_s(failures, self._rng))
            except Exception as error:  # noqa: BLE001 - as in a reconcile: a bug must not end the readers of others
                failures += 1
                self._log.error("kafka_reader_failed", source=self._name, error=str(error), exc_info=error)
                self._note(f"{type(error).__name__}: {error}", is_connected=False)
                await self._clock.sleep(_AGAIN.delay_s(failures, self._rng))

    @property
    def _name(self) -> str:
        return str(objects.key(self._source()))

    def _note(self, trouble: str, *, is_connected: bool, partitions: list[Partition] | None = None) -> None:
        """Keep what is so now, and tell if it was not so before."""
        before = (self.trouble, self.is_connected, self.has_begun, self.partitions)
        self.trouble, self.is_connected = trouble, is_connected
        self.partitions = partitions or []
        self.has_begun = self.has_begun or is_connected
        if before != (self.trouble, self.is_connected, self.has_begun, self.partitions):
            self._changed()

    async def _session(self) -> None:
        """Read until something fails, which is raised."""
        source = self._source()
        spec = objects.spec(source)
        connection = await settings.of_source(source, self._client)
        subscription = Subscription(
            str(spec.get("consumerGroup")),
            tuple(map(str, spec.get("topics") or ())),
            "earliest" if spec.get("initialOffset") == "earliest" else "latest",
        )
        failure: errors.ApiError | None = None
        async with anyio.create_task_group() as tasks:
            is_ordered = spec.get("ordering") != "unordered"
            shares = Shares(self._deliver, self._clock, tasks, is_ordered=is_ordered)
            try:
                async with self._cluster.consume(connection, subscription, shares) as consumer:
                    shares.use(consumer)
                    tasks.start_soon(self._commit, shares)
                    await self._read(consumer, shares)
            except errors.ApiError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _read(self, consumer: Consumer, shares: Shares) -> None:
        try:
            await consumer.check()
            begun, heard_s = 0, self._clock.monotonic()
            while True:
                if shares.assignments != begun:
                    begun = await self._begin(consumer, shares, begun)
                fetched = await consumer.poll()
                shares.add(fetched)
                now_s = self._clock.monotonic()
                if fetched:
                    heard_s = now_s
                elif now_s - heard_s >= _SILENCE_S:
                    await self._look(consumer, shares)
                    heard_s = self._clock.monotonic()
        finally:
            with (
                anyio.CancelScope(shield=True),
                self._clock.move_on_after(_PARTING_S),
                contextlib.suppress(errors.ApiError),
            ):
                await shares.commit()

    async def _begin(self, consumer: Consumer, shares: Shares, begun: int) -> int:
        """Begin to read what was handed out: the number of that assignment; `begun` if it ended meanwhile."""
        assignment = shares.assignments
        try:
            await consumer.begin(shares.partitions)
        except Rebalancing:
            return begun
        self._note("", is_connected=True, partitions=shares.partitions)
        return assignment

    async def _look(self, consumer: Consumer, shares: Shares) -> None:
        """Whether the cluster is there: a client that finds nobody goes on trying, and says nothing."""
        trouble = ""
        try:
            await consumer.check()
        except errors.ApiError as error:
            trouble = error.message
        self._note(trouble, is_connected=True, partitions=shares.partitions)

    async def _commit(self, shares: Shares) -> None:
        while True:
            await shares.progressed.wait()
            shares.progressed.clear()
            try:
                await shares.commit()
            except errors.ApiError:
                shares.progressed.set()
            await self._clock.sleep(_COMMIT_S)

    async def _deliver(self, record: Record) -> None:
        source = self._source()
        event = overrides.applied(records.decode(record, source), objects.spec(source))
        await self._courier.deliver(event)
