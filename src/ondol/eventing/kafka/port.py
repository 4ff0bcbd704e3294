"""What sources and sinks need of Kafka; `client` has the real one, tests one in memory.

Whatever goes wrong with a cluster is `Unavailable` here: it is tried again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from ondol.base import errors
from ondol.eventing.kafka.records import Headers, Partition, Record

Initial: TypeAlias = Literal["earliest", "latest"]


class Rebalancing(errors.Unavailable):
    """The partitions are being handed out anew: the consumer goes on, and is asked again later."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Authorities and who we are, in PEM; empty for those that the machine trusts, and for nobody."""

    authorities: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Sasl:
    """`mechanism` is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""

    mechanism: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """How a cluster is reached: servers as `host:port`."""

    servers: tuple[str, ...]
    tls: Tls | None = None
    sasl: Sasl | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member of a group reads; `initial` is where, of partitions that the group has not read."""

    group: str
    topics: tuple[str, ...]
    initial: Initial = "latest"


class Share(Protocol):
    """What of the partitions is a member's, told by its consumer."""

    def assigned(self, partitions: Collection[Partition]) -> None:
        """These are the member's from now on, and no others."""
        ...

    async def revoked(self) -> None:
        """None is the member's any more once this returns: what is done is to be committed before."""
        ...


class Consumer(Protocol):
    """One member of a group."""

    async def poll(self) -> Sequence[Record]:
        """The next records of what is not paused; none after a second without any."""
        ...

    async def begin(self, partitions: Collection[Partition]) -> None:
        """Read these, and commit where that begins as far as the group has committed nothing of them.

        Nothing of a partition is polled before.
        """
        ...

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """The group reads on from here if it begins anew."""
        ...

    async def check(self) -> None:
        """`Unavailable` with the reason if the cluster or a topic is not there."""
        ...

    def pause(self, partition: Partition) -> None: ...

    def resume(self, partition: Partition) -> None: ...


class Producer(Protocol):
    """Writes records."""

    async def check(self, topic: str) -> None:
        """`Unavailable` with the reason if the cluster or the topic is not there."""
        ...

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Returns once every replica that must have the record has it."""
        ...


class Cluster(Protocol):
    """Kafka, as a client of it sees it."""

    def consume(
        self, connection: Connection, subscription: Subscription, share: Share
    ) -> AbstractAsyncContextManager[Consumer]: ...

    def produce(self, connection: Connection) -> AbstractAsyncContextManager[Producer]: ...

    async def create_topic(self, connection: Connection, topic: str, partitions: int, replicas: int) -> None:
        """Make the topic unless it is there."""
        ...
