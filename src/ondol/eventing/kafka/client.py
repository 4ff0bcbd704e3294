"""Edge: Kafka by aiokafka. Imported once there is a KafkaSource or a KafkaSink; aiokafka is an extra.

Of asyncio, as aiokafka is: whoever awaits what is here runs in that event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final

import aiokafka
import aiokafka.client
import aiokafka.conn
import anyio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.eventing.kafka.port import Connection, Rebalancing, Share, Subscription, Tls
from ondol.eventing.kafka.records import Headers, Partition, Record

Dial = Callable[[str], Awaitable[str]]
"""The address that a host is reached at; `Unavailable` if it has none, or may not be reached from here."""

_POLL_MS: Final = 1000
_RECORDS_MAX: Final = 64
_FETCH_BYTES_MAX: Final = 4 << 20
"""What a broker sends at once: so much of each waits in memory, besides what is being delivered."""
_PARTITION_BYTES_MAX: Final = 1 << 20
_METADATA_MS: Final = 30_000
"""How soon new topics and partitions are seen."""
_REQUEST_MS: Final = 10_000
_JOIN_MS: Final = 30_000
"""How long members of a group are waited for when partitions are handed out anew."""
_SESSION_MS: Final = 30_000
_STOP_S: Final = 5.0
_CHECK_S: Final = 10.0
_REBALANCES: Final = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
_TROUBLES: Final = (KafkaError, OSError, TimeoutError, ValueError, AssertionError)

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
# It tells of each attempt to connect; what is wrong stands in the condition of the source or sink.


class Kafka:
    """Implements `port.Cluster`; one for a process, since aiokafka connects in one way for all."""

    def __init__(self, dial: Dial, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, str] = {}
        aiokafka.client.create_conn = _connecting(dial, self._failed)

    @asynccontextmanager
    async def consume(
        self, connection: Connection, subscription: Subscription, share: Share
    ) -> AsyncIterator[_Consumer]:
        """A member of the group; it leaves at the end."""
        with self._translated(connection):
            consumer = aiokafka.AIOKafkaConsumer(
                group_id=subscription.group,
                auto_offset_reset=subscription.initial,
                enable_auto_commit=False,
                fetch_max_bytes=_FETCH_BYTES_MAX,
                max_partition_fetch_bytes=_PARTITION_BYTES_MAX,
                session_timeout_ms=_SESSION_MS,
                heartbeat_interval_ms=_SESSION_MS // 10,
                rebalance_timeout_ms=_JOIN_MS,
                **{**_options(connection), "request_timeout_ms": _JOIN_MS + _REQUEST_MS},
            )
        translated = partial(self._translated, connection)
        member = _Consumer(consumer, subscription.topics, self._clock, translated)
        consumer.subscribe(list(subscription.topics), listener=_Listener(member, share))
        try:
            with self._translated(connection):
                await consumer.start()
            yield member
        finally:
            await self._close(consumer.stop)

    @asynccontextmanager
    async def produce(self, connection: Connection) -> AsyncIterator[_Producer]:
        with self._translated(connection):
            producer = aiokafka.AIOKafkaProducer(acks="all", enable_idempotence=True, **_options(connection))
        try:
            with self._translated(connection):
                await producer.start()
            yield _Producer(producer, partial(self._translated, connection))
        finally:
            await self._close(producer.stop)

    async def create_topic(self, connection: Connection, topic: str, partitions: int, replicas: int) -> None:
        """Make the topic unless it is there."""
        with self._translated(connection):
            admin = AIOKafkaAdminClient(**_options(connection))
            try:
                await admin.start()
                if topic not in await admin.list_topics():
                    await admin.create_topics([NewTopic(topic, partitions, replicas)])
            finally:
                await self._close(admin.close)

    async def _close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Leave the group and close connections, for a while; also in a task that is cancelled."""
        with anyio.CancelScope(shield=True), self._clock.move_on_after(_STOP_S), suppress(*_TROUBLES):
            await close()

    @contextmanager
    def _translated(self, connection: Connection) -> Iterator[None]:
        """What aiokafka raises, as errors of this house, with why each server cannot be reached."""
        try:
            yield
        except _REBALANCES as error:
            raise Rebalancing(f"the partitions are being handed out anew: {error}") from error
        except _TROUBLES as error:
            reasons = [self._failed[server] for server in connection.servers if server in self._failed]
            message = "; ".join(reasons) or str(error) or type(error).__name__
            raise errors.Unavailable(f"Kafka: {message}") from error


class _Consumer:
    """Implements `port.Consumer`."""

    def __init__(
        self, consumer: Any, topics: Sequence[str], clock: Clock, translated: Callable[[], Any]
    ) -> None:
        self._consumer = consumer
        self._topics = topics
        self._clock = clock
        self._translated = translated
        self.assignments = 0
        """How often partitions were taken away or handed out."""

    async def poll(self) -> Sequence[Record]:
        before = self.assignments
        with self._translated():
            fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
        if before != self.assignments:
            return ()  # they were fetched for an assignment that ended: what is still ours comes again
        return [_record(record) for records in fetched.values() for record in records]

    async def begin(self, partitions: Collection[Partition]) -> None:
        offsets = {}
        with self._translated():
            for partition in partitions:
                key = aiokafka.TopicPartition(*partition)
                if await self._consumer.committed(key) is None:
                    offsets[partition] = await self._consumer.position(key)
        if offsets:
            await self.commit(offsets)
        for partition in partitions:
            self.resume(partition)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        with self._translated():
            await self._consumer.commit(
                {aiokafka.TopicPartition(*partition): offset for partition, offset in offsets.items()}
            )

    async def check(self) -> None:
        with self._translated(), self._clock.fail_after(_CHECK_S):
            topics = await self._consumer.topics()
        missing = [topic for topic in self._topics if topic not in topics]
        if missing:
            raise errors.Unavailable(f"Kafka: there is no topic {', '.join(missing)}")

    def pause(self, partition: Partition) -> None:
        with suppress(IllegalStateError):  # it went elsewhere meanwhile
            self._consumer.pause(aiokafka.TopicPartition(*partition))

    def resume(self, partition: Partition) -> None:
        with suppress(IllegalStateError):
            self._consumer.resume(aiokafka.TopicPartition(*partition))


class _Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells the share what aiokafka tells, whichever partitions it names: all go, then all come."""

    def __init__(self, member: _Consumer, share: Share) -> None:
        self._member = member
        self._share = share

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:  # noqa: ARG002 - all of them
        self._member.assignments += 1
        await self._share.revoked()

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._member.assignments += 1
        partitions = [Partition(each.topic, each.partition) for each in assigned]
        for partition in partitions:
            self._member.pause(partition)  # until `begin` has looked where the reading begins
        self._share.assigned(partitions)


class _Producer:
    """Implements `port.Producer`."""

    def __init__(self, producer: Any, translated: Callable[[], Any]) -> None:
        self._producer = producer
        self._translated = translated

    async def check(self, topic: str) -> None:
        with self._translated():
            await self._producer.partitions_for(topic)

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        with self._translated():
            await self._producer.send_and_wait(topic, value, key, headers=list(headers))


def _record(record: Any) -> Record:
    return Record(
        Partition(record.topic, record.partition),
        record.offset,
        -1 if record.timestamp is None else record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
    )


def _options(connection: Connection) -> dict[str, Any]:
    """The arguments of any client of aiokafka."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(connection.servers),
        "client_id": "ondol",
        "metadata_max_age_ms": _METADATA_MS,
        "request_timeout_ms": _REQUEST_MS,
    }
    words = ["SASL"] if connection.sasl else []
    if connection.tls is not None:
        options["ssl_context"] = _context(connection.tls)
    words.append("SSL" if connection.tls is not None else "PLAINTEXT")
    options["security_protocol"] = "_".join(words)
    if connection.sasl is not None:
        options["sasl_mechanism"] = connection.sasl.mechanism
        options["sasl_plain_username"] = connection.sasl.user
        options["sasl_plain_password"] = connection.sasl.password
    return options


def _context(tls: Tls) -> ssl.SSLContext:
    """`ValueError` (an `SSLError`) if what is to be PEM is not."""
    context = ssl.create_default_context(cadata=tls.authorities or None)
    if tls.certificate:
        # The library reads certificates from files alone: one that is nowhere but in memory.
        descriptor = os.memfd_create("kafka")
        try:
            os.write(descriptor, f"{tls.certificate}\n{tls.key}".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


class _Loop:
    """An event loop that finds hosts as this platform does: services of the cluster too."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dial: Dial) -> None:
        self._loop = loop
        self._dial = dial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, ssl: ssl.SSLContext | None
    ) -> Any:
        try:
            address = await self._dial(host)
        except errors.ApiError as error:
            raise OSError(error.message) from error
        name = host if ssl is not None else None
        return await self._loop.create_connection(factory, address, port, ssl=ssl, server_hostname=name)


def _connecting(dial: Dial, failed: dict[str, str]) -> Callable[..., Awaitable[Any]]:
    """What aiokafka's clients are to make connections by; it keeps why they fail, which they tell nobody."""

    async def connect(host: str, port: int, **options: Any) -> Any:
        server = f"{host}:{port}"
        connection = aiokafka.conn.AIOKafkaConnection(host, port, **options)
        connection._loop = _Loop(connection._loop, dial)  # noqa: SLF001 - it has no other way to be told
        try:
            await connection.connect()
        except _TROUBLES as error:
            failed[server] = f"{server}: {str(error) or type(error).__name__}"
            raise
        failed.pop(server, None)
        return connection

    return connect
