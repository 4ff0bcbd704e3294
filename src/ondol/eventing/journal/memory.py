"""A journal in memory, for simulations: the same promises as the real one, on any clock, with faults.

It can be away (`outage`), lose the answer to a publish, and lose what readers say when they lose it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio.lowlevel

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.journal.port import (
    ACK_WAIT_S,
    DUPLICATES_S,
    ConsumerConfig,
    ConsumerState,
    Deliver,
    Full,
    Message,
    Stored,
    StreamState,
)


@dataclass(slots=True)
class _Pending:
    """A message that was delivered and is not settled; it is due again at a time."""

    stored: Stored
    attempt: int
    due_s: float


@dataclass(slots=True)
class _Consumer:
    config: ConsumerConfig
    next: int
    pending: dict[int, _Pending] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)

    def wants(self, stored: Stored) -> bool:
        return not self.config.topics or stored.topic in self.config.topics


@dataclass(slots=True)
class _Stream:
    bytes_max: int
    messages: dict[int, Stored] = field(default_factory=dict)
    last: int = 0
    ids: dict[str, tuple[float, int]] = field(default_factory=dict)
    consumers: dict[str, _Consumer] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(len(each.headers) + len(each.data) for each in self.messages.values())


class MemoryDelivery:
    """Implements `port.Delivery`."""

    def __init__(self, reader: _Reader, pending: _Pending) -> None:
        self.sequence = pending.stored.sequence
        self.attempt = pending.attempt
        self.time_ns = pending.stored.time_ns
        self.headers = pending.stored.headers
        self.data = pending.stored.data
        self._reader = reader
        self._is_settled = False

    def ack(self) -> None:
        if self._settle():
            self._reader.journal.settle(self._reader, self.sequence, None)

    def retry(self, after_s: float) -> None:
        if self._settle():
            self._reader.journal.settle(self._reader, self.sequence, after_s)

    def forget(self) -> None:
        self._settle()

    def working(self) -> None:
        if not self._is_settled:
            self._reader.journal.extend(self._reader, self.sequence)

    def _settle(self) -> bool:
        if self._is_settled:
            return False
        self._is_settled = True
        self._reader.unsettled -= 1
        return True


class _Reader:
    """Implements `port.Subscription`."""

    def __init__(self, journal: MemoryJournal, stream: str, name: str, deliver: Deliver, window: int) -> None:
        self.journal = journal
        self.stream = stream
        self.name = name
        self.deliver = deliver
        self.window = window
        self.unsettled = 0
        self.is_cut = False

    def close(self) -> None:
        self.journal.readers.discard(self)


class MemoryJournal:
    """Implements `port.Journal`; `run` delivers until it is cancelled."""

    def __init__(self, *, clock: Clock, rng: random.Random) -> None:
        self.changed = Signal()
        self.readers: set[_Reader] = set()
        self.lost_publish = 0.0
        """How likely a publish is not kept, and refused."""
        self.lost_answer = 0.0
        """How likely a publish is kept, and refused."""
        self.lost_word = 0.0
        """How likely what a reader says of a message is not heard."""
        self._is_away = False
        self._clock = clock
        self._rng = rng
        self._streams: dict[str, _Stream] = {}
        self._work = Signal()

    @property
    def is_connected(self) -> bool:
        return not self._is_away

    def heal(self) -> None:
        """From now on it does what it should."""
        self.lost_publish = self.lost_answer = self.lost_word = 0.0

    def cut(self) -> None:
        """Every reader is gone, as if its process was killed: nothing more is heard of it."""
        for reader in self.readers:
            reader.is_cut = True
        self.readers.clear()

    async def outage(self, seconds: float) -> None:
        """Be away for so long."""
        self._is_away = True
        self.changed.set()
        await self._clock.sleep(seconds)
        self._is_away = False
        self.changed.set()
        self._work.set()

    async def run(self) -> None:
        """Deliver what is due, as long as it takes."""
        while True:
            self._work.clear()
            if not self._is_away:
                for reader in sorted(self.readers, key=lambda each: (each.stream, each.name)):
                    self._feed(reader)
            with self._clock.move_on_after(self._next_due_s()):
                await self._work.wait()

    def _next_due_s(self) -> float:
        now_s = self._clock.monotonic()
        due = [
            pending.due_s - now_s
            for stream in self._streams.values()
            for consumer in stream.consumers.values()
            for pending in consumer.pending.values()
        ]
        return max(0.001, min(due, default=60.0))

    def _feed(self, reader: _Reader) -> None:
        stream = self._streams.get(reader.stream)
        consumer = stream.consumers.get(reader.name) if stream is not None else None
        if stream is None or consumer is None:
            return
        now_s = self._clock.monotonic()
        for pending in sorted(consumer.pending.values(), key=lambda each: each.stored.sequence):
            if pending.due_s <= now_s and reader.unsettled < reader.window:
                pending.attempt += 1
                self._hand(reader, pending, now_s)
        while reader.unsettled < reader.window and consumer.next <= stream.last:
            stored = stream.messages.get(consumer.next)
            consumer.next += 1
            if stored is not None and consumer.wants(stored):
                pending = consumer.pending[stored.sequence] = _Pending(stored, 1, 0.0)
                self._hand(reader, pending, now_s)

    @staticmethod
    def _hand(reader: _Reader, pending: _Pending, now_s: float) -> None:
        pending.due_s = now_s + ACK_WAIT_S
        reader.unsettled += 1
        reader.deliver(MemoryDelivery(reader, pending))

    def settle(self, reader: _Reader, sequence: int, after_s: float | None) -> None:
        """A reader is done with a message, or wants it again."""
        self._work.set()
        consumer = self._consumer(reader)
        if consumer is None or self._is_away or reader.is_cut or self._rng.random() < self.lost_word:
            return
        if after_s is not None and sequence in consumer.pending:
            consumer.pending[sequence].due_s = self._clock.monotonic() + after_s
        elif after_s is None and consumer.pending.pop(sequence, None) is not None:
            consumer.settled.add(sequence)

    def extend(self, reader: _Reader, sequence: int) -> None:
        """A reader still works on a message."""
        consumer = self._consumer(reader)
        is_heard = not self._is_away and not reader.is_cut
        if consumer is not None and is_heard and sequence in consumer.pending:
            consumer.pending[sequence].due_s = self._clock.monotonic() + ACK_WAIT_S

    def _consumer(self, reader: _Reader) -> _Consumer | None:
        stream = self._streams.get(reader.stream)
        return stream.consumers.get(reader.name) if stream is not None else None

    async def _ask(self, stream: str) -> _Stream:
        await anyio.lowlevel.checkpoint()
        if self._is_away:
            raise errors.Unavailable("the journal is away")
        if stream not in self._streams:
            raise errors.NotFound(f"there is no stream {stream}")
        return self._streams[stream]

    # port.Journal

    async def create_stream(self, stream: str, *, bytes_max: int) -> bool:
        await anyio.lowlevel.checkpoint()
        if self._is_away:
            raise errors.Unavailable("the journal is away")
        is_new = stream not in self._streams
        self._streams.setdefault(stream, _Stream(bytes_max)).bytes_max = bytes_max
        return is_new

    async def delete_stream(self, stream: str) -> None:
        await anyio.lowlevel.checkpoint()
        self._streams.pop(stream, None)

    async def streams(self) -> Sequence[str]:
        await anyio.lowlevel.checkpoint()
        return sorted(self._streams)

    async def state(self, stream: str) -> StreamState:
        kept = await self._ask(stream)
        sequences = sorted(kept.messages)
        first = kept.messages[sequences[0]] if sequences else None
        last = kept.messages[sequences[-1]] if sequences else None
        return StreamState(
            messages=len(sequences),
            size_bytes=kept.size_bytes,
            first=first.sequence if first else kept.last + 1,
            last=kept.last,
            first_time_ns=first.time_ns if first else 0,
            last_time_ns=last.time_ns if last else 0,
        )

    async def publish(self, stream: str, message: Message) -> int:
        kept = await self._ask(stream)
        if self._rng.random() < self.lost_publish:
            raise errors.Unavailable("injected: the event was not kept")
        sequence = self._keep(kept, message)
        self._work.set()
        if self._rng.random() < self.lost_answer:
            raise errors.Unavailable("injected: the answer was lost")
        return sequence

    def _keep(self, kept: _Stream, message: Message) -> int:
        now_s = self._clock.monotonic()
        before_s, sequence = kept.ids.get(message.id, (0.0, 0))
        if message.id and sequence and now_s - before_s < DUPLICATES_S:
            return sequence
        if 0 <= kept.bytes_max < kept.size_bytes + len(message.headers) + len(message.data):
            raise Full("the stream is full", retry_after_s=5)
        kept.last += 1
        now_ns = round(self._clock.now() * 1e9)
        kept.messages[kept.last] = Stored(kept.last, now_ns, message.topic, message.headers, message.data)
        kept.ids[message.id] = (now_s, kept.last)
        return kept.last

    async def trim(self, stream: str, below: int) -> int:
        kept = await self._ask(stream)
        count = len(kept.messages)
        kept.messages = {number: each for number, each in kept.messages.items() if number >= below}
        return count - len(kept.messages)

    async def erase(self, stream: str, sequence: int) -> None:
        (await self._ask(stream)).messages.pop(sequence, None)

    async def read(
        self, stream: str, *, sequence: int = 1, since_ns: int = 0, topic: str = "", limit: int = 64
    ) -> Sequence[Stored]:
        kept = await self._ask(stream)
        chosen = [
            each
            for number, each in sorted(kept.messages.items())
            if number >= sequence and each.time_ns >= since_ns and (not topic or each.topic == topic)
        ]
        return chosen[:limit]

    async def create_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerState:
        kept = await self._ask(stream)
        first = config.from_sequence or kept.last + 1
        kept.consumers.setdefault(config.name, _Consumer(config, first)).config = config
        return self._state(kept, kept.consumers[config.name])

    async def delete_consumer(self, stream: str, name: str) -> None:
        (await self._ask(stream)).consumers.pop(name, None)

    async def consumers(self, stream: str) -> dict[str, ConsumerState]:
        kept = await self._ask(stream)
        return {name: self._state(kept, consumer) for name, consumer in kept.consumers.items()}

    @staticmethod
    def _state(kept: _Stream, consumer: _Consumer) -> ConsumerState:
        waiting = [
            number
            for number, each in kept.messages.items()
            if number >= consumer.next and consumer.wants(each)
        ]
        floor = min(consumer.pending, default=consumer.next) - 1
        return ConsumerState(floor, len(waiting), len(consumer.pending))

    async def rewind(self, stream: str, name: str) -> None:
        consumer = (await self._ask(stream)).consumers[name]
        consumer.next = min(consumer.pending, default=consumer.next)
        consumer.pending.clear()
        self._work.set()

    def subscribe(self, stream: str, name: str, deliver: Deliver, *, window: int) -> _Reader:
        reader = _Reader(self, stream, name, deliver, window)
        self.readers.add(reader)
        self._work.set()
        return reader
