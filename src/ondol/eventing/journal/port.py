"""What the data plane asks of a journal: streams of messages, and consumers that remember how far they are.

A stream keeps messages in the order of their sequence numbers. A consumer is a durable place in it: each
message past that place is delivered until it is acknowledged, again after a while if nothing is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ondol.base import errors
from ondol.base.signal import Signal

ACK_WAIT_S: Final = 15.0
"""A message of which nothing was heard for so long is delivered again: its reader has died."""
WORKING_S: Final = 4.0
"""How often a reader that still works on a message says so."""
PENDING_MAX: Final = 8192
"""Messages of one consumer that may be unsettled, those put off included."""
DUPLICATES_S: Final = 120.0
"""A message with an id that came within this time is acknowledged, and not kept again."""


class Full(errors.Unavailable):
    """There is no room for another message; what is kept stays."""


class Damaged(errors.Unavailable):
    """A stream cannot be read any more; the message says why, and what can be done."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is kept. `topic` is one word by which consumers may choose; `id` finds duplicates."""

    topic: str
    headers: bytes
    """Lines `name:value` that end in CR LF."""
    data: bytes
    id: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A kept message as a reader sees it."""

    sequence: int
    time_ns: int
    topic: str
    headers: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """How much is kept; `lost` counts messages that the medium has lost."""

    messages: int
    size_bytes: int
    first: int
    last: int
    first_time_ns: int = 0
    last_time_ns: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """A durable place in a stream: the `topics` it wants (none: all), and where a new one begins."""

    name: str
    topics: tuple[str, ...] = ()
    from_sequence: int = 0
    """0: what comes after its creation."""


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """All up to `floor` is settled; `waiting` were never delivered, `pending` are under way."""

    floor: int
    waiting: int
    pending: int
    redelivered: int = 0


class Delivery(Protocol):
    """A message in the hands of a reader, who settles it once: `ack`, or `retry`."""

    sequence: int
    attempt: int
    """1 for the first time that it is delivered."""
    time_ns: int
    headers: bytes
    data: bytes

    def ack(self) -> None:
        """It is done with, for this consumer."""

    def retry(self, after_s: float) -> None:
        """Deliver it again, after so long."""

    def forget(self) -> None:
        """It was delivered once more meanwhile: that delivery takes its place."""

    def working(self) -> None:
        """It is still being worked on: do not deliver it again yet."""


Deliver = Callable[[Delivery], None]


class Subscription(Protocol):
    """A reader of a consumer.

    What it has in hand when it closes can still be settled; else it is delivered again to another.
    """

    def close(self) -> None: ...


class Journal(Protocol):
    """Any call raises `Unavailable` while the journal cannot be reached, and when it is in doubt.

    `changed` is set whenever `is_connected` changes.
    """

    changed: Signal

    @property
    def is_connected(self) -> bool: ...

    async def create_stream(self, stream: str, *, bytes_max: int) -> bool:
        """Have it, with this bound; whether there was none. One that is there keeps its messages."""

    async def delete_stream(self, stream: str) -> None: ...

    async def streams(self) -> Sequence[str]: ...

    async def state(self, stream: str) -> StreamState:
        """`NotFound` if there is none."""

    async def publish(self, stream: str, message: Message) -> int:
        """Its sequence once it is durable; `Full` if there is no room."""

    async def trim(self, stream: str, below: int) -> int:
        """Forget what is before a sequence; how many messages that were."""

    async def erase(self, stream: str, sequence: int) -> None:
        """Forget one message; nothing happens if it is gone."""

    async def read(
        self, stream: str, *, sequence: int = 1, since_ns: int = 0, topic: str = "", limit: int = 64
    ) -> Sequence[Stored]:
        """Messages from a sequence, or from a time, on; none if there are no more."""

    async def create_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerState:
        """Have it; one that is there keeps its place, and wants these topics from now on."""

    async def delete_consumer(self, stream: str, name: str) -> None: ...

    async def consumers(self, stream: str) -> dict[str, ConsumerState]: ...

    async def rewind(self, stream: str, name: str) -> None:
        """Deliver everything past the consumer's floor again, in order, as if for the first time."""

    def subscribe(self, stream: str, name: str, deliver: Deliver, *, window: int) -> Subscription:
        """Have `deliver` called with each message, at most `window` of them unsettled at once.

        It goes on over any number of disconnections until it is closed.
        """
