"""The journal in NATS JetStream: a connection that is made again whenever it is lost, and requests on it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.journal import documents, wire
from ondol.eventing.journal.commits import Commits
from ondol.eventing.journal.port import (
    ConsumerConfig,
    ConsumerState,
    Deliver,
    Message,
    Stored,
    StreamState,
    Subscription,
)
from ondol.eventing.journal.pulls import Pull
from ondol.eventing.journal.room import Room
from ondol.eventing.journal.wire import Address, Connection, Promise, Timer

_RECONNECT: Final = Backoff(initial_s=0.05, maximum_s=2.0, jitter=0.3)
_ANSWER_S: Final = 10.0
_API: Final = "$JS.API."
_READ_BYTES_MAX: Final = 8 << 20
_END: Final = b"NATS/1.0 204"
_NO_MESSAGE: Final = b"NATS/1.0 404"


class JetStream:
    """Implements `port.Journal`; `run` keeps the connection until it is cancelled."""

    def __init__(
        self, address: Address, *, clock: Clock, rng: random.Random, room: Room | None = None
    ) -> None:
        """`room` watches the file system of the server's folder."""
        self.changed = Signal()
        self._address = address
        self._clock = clock
        self._room = room
        self._rng = rng
        self._connection: Connection | None = None
        self._waiting: dict[bytes, Callable[[bytes, bytes], None]] = {}
        self._shattering: dict[bytes, Promise] = {}
        self._tokens = itertools.count(1)
        self._inbox = b"_INBOX.%016x." % rng.getrandbits(64)
        self._name = f"{rng.getrandbits(48):012x}"
        self._commits: dict[str, Commits] = {}
        self._pulls: set[Pull] = set()
        self._log = log.get("journal")

    # The connection

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def run(self) -> None:
        """Connect, again and again."""
        failures = 0
        while True:
            try:
                connection = await wire.connect(self._address)
            except errors.Unavailable as error:
                failures += 1
                if failures == 1:
                    self._log.warning("journal_unreachable", error=error.message)
                await self._clock.sleep(_RECONNECT.delay_s(failures, self._rng))
                continue
            failures = 0
            try:
                self._connected(connection)
                await wire.until_lost(connection)
            finally:
                self._lost()
                connection.abort()

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.subscribe(self._inbox + b"*", self._answered)
        for pull in self._pulls:
            pull.connected(connection)
        self._log.info("journal_connected")
        self.changed.set()

    def _lost(self) -> None:
        self._connection = None
        gone = errors.Unavailable("the event journal went away before it answered", retry_after_s=1)
        self._waiting.clear()
        shattering, self._shattering = self._shattering, {}
        for promise in shattering.values():
            promise.shatter(gone)
        for commits in self._commits.values():
            commits.fail(gone)
        for pull in self._pulls:
            pull.disconnected()
        self._log.info("journal_disconnected")
        self.changed.set()

    def _answered(self, subject: bytes, _reply: bytes, headers: bytes, payload: bytes) -> None:
        token = subject[len(self._inbox) :]
        answered = self._waiting.pop(token, None)
        if answered is not None:
            answered(headers, payload)

    def _required(self) -> Connection:
        if self._connection is None:
            raise errors.Unavailable("the event journal is not reachable now", retry_after_s=1)
        return self._connection

    def send(
        self, subject: bytes, headers: bytes, data: bytes, answered: Callable[[bytes, bytes], None] | None
    ) -> None:
        """Implements `commits.Outlet`."""
        connection = self._connection
        if connection is None:
            return  # what waits for an answer was told when the connection was lost
        reply = b""
        if answered is not None:
            token = b"%d" % next(self._tokens)
            self._waiting[token] = answered
            reply = self._inbox + token
        connection.write(
            b"HPUB %s %s %d %d\r\n%s%s\r\n"
            % (subject, reply, len(headers), len(headers) + len(data), headers, data)
        )

    def answered(self, stream: str) -> None:
        if self._room is not None:
            self._room.answered(stream)

    def overdue(self, stream: str) -> None:
        if self._room is not None:
            self._room.overdue(stream)

    async def _request(self, subject: str, document: Any = None) -> dict[str, Any]:
        """An answer of JetStream's API; an `ApiError` with its words."""
        connection = self._required()
        promise = Promise()
        token = b"%d" % next(self._tokens)
        self._waiting[token] = lambda headers, payload: promise.fulfil((headers, payload))
        self._shattering[token] = promise
        late = errors.Timeout(f"the event journal did not answer {subject} in time")
        timer = Timer(_ANSWER_S, lambda: promise.shatter(late))
        body = b"" if document is None else json.dumps(document).encode()
        connection.publish(f"{_API}{subject}".encode(), body, self._inbox + token)
        try:
            headers, payload = await promise.kept()
        finally:
            timer.cancel()
            self._waiting.pop(token, None)
            self._shattering.pop(token, None)
        if headers:  # no responders: the server is starting
            raise errors.Unavailable("the event journal is starting", retry_after_s=1)
        return documents.answer(payload)

    # Streams

    async def create_stream(self, stream: str, *, bytes_max: int) -> bool:
        config = documents.stream(stream, bytes_max)
        try:
            await self._request(f"STREAM.INFO.{stream}")
            is_new = False
        except errors.NotFound:
            is_new = True
        try:
            await self._request(f"STREAM.CREATE.{stream}", config)
        except errors.AlreadyExists:
            await self._request(f"STREAM.UPDATE.{stream}", config)
        return is_new

    async def delete_stream(self, stream: str) -> None:
        self._commits.pop(stream, None)
        await self._unless_gone(f"STREAM.DELETE.{stream}")

    async def streams(self) -> Sequence[str]:
        names: list[str] = []
        while True:
            page = await self._request("STREAM.NAMES", {"offset": len(names)})
            listed = page.get("streams") or []
            names += listed
            if not listed or len(names) >= int(page.get("total") or 0):
                return names

    async def state(self, stream: str) -> StreamState:
        return documents.stream_state(await self._request(f"STREAM.INFO.{stream}"))

    async def lost(self) -> dict[str, int]:
        """Of each stream that ends before what was acknowledged of it, how much is missing; told once."""
        missing: dict[str, int] = {}
        for stream, commits in list(self._commits.items()):
            if commits.highest and (last := await self._last(stream)) < commits.highest:
                missing[stream] = commits.highest - last
                commits.highest = last
        return missing

    async def _last(self, stream: str) -> int:
        """The last sequence of a stream; 0 of one that is gone altogether."""
        try:
            return (await self.state(stream)).last
        except errors.NotFound:
            return 0

    async def publish(self, stream: str, message: Message) -> int:
        connection = self._required()
        if self._room is not None:
            self._room.require()
        if len(message.headers) + len(message.data) + 512 > connection.payload_bytes_max:
            raise errors.TooLarge(f"an event may have at most {connection.payload_bytes_max} bytes")
        commits = self._commits.get(stream)
        if commits is None:
            name = f"{self._name}{next(self._tokens)}"
            commits = self._commits[stream] = Commits(stream, self, name, self._clock)
        return await commits.publish(message)

    async def trim(self, stream: str, below: int) -> int:
        answer = await self._request(f"STREAM.PURGE.{stream}", {"seq": below})
        return int(answer.get("purged") or 0)

    async def erase(self, stream: str, sequence: int) -> None:
        await self._unless_gone(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def read(
        self, stream: str, *, sequence: int = 1, since_ns: int = 0, topic: str = "", limit: int = 64
    ) -> Sequence[Stored]:
        connection = self._required()
        request: dict[str, Any] = {"batch": limit, "max_bytes": _READ_BYTES_MAX}
        request |= {"start_time": documents.time(since_ns)} if since_ns else {"seq": max(sequence, 1)}
        request["next_by_subj"] = f"{stream}.{topic or '*'}"
        promise = Promise()
        collected: list[Stored] = []

        def received(_subject: bytes, _reply: bytes, headers: bytes, payload: bytes) -> None:
            if headers.startswith(b"NATS/1.0\r\n"):
                collected.append(documents.stored(headers, payload))
            elif headers.startswith((_END, _NO_MESSAGE)):
                promise.fulfil(None)
            else:
                promise.shatter(errors.Unavailable(f"the journal cannot be read: {headers[9:80].decode()}"))

        token = b"r%d" % next(self._tokens)
        self._shattering[token] = promise
        sid = connection.subscribe(self._inbox + b"read." + token, received)
        late = errors.Timeout(f"the event journal did not read {stream} in time")
        timer = Timer(_ANSWER_S, lambda: promise.shatter(late))
        subject = f"{_API}DIRECT.GET.{stream}".encode()
        connection.publish(subject, json.dumps(request).encode(), self._inbox + b"read." + token)
        try:
            await promise.kept()
        finally:
            timer.cancel()
            self._shattering.pop(token, None)
            connection.unsubscribe(sid)
        return collected

    async def _unless_gone(self, subject: str, document: Any = None) -> None:
        try:
            await self._request(subject, document)
        except errors.NotFound:
            return

    # Consumers

    async def create_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerState:
        try:
            existing = await self._request(f"CONSUMER.INFO.{stream}.{config.name}")
        except errors.NotFound:
            existing = None
        request = documents.consumer(stream, config, existing)
        if request is None and existing is not None:
            return documents.consumer_state(existing)
        created = await self._request(f"CONSUMER.CREATE.{stream}.{config.name}", request)
        return documents.consumer_state(created)

    async def delete_consumer(self, stream: str, name: str) -> None:
        await self._unless_gone(f"CONSUMER.DELETE.{stream}.{name}")

    async def consumers(self, stream: str) -> dict[str, ConsumerState]:
        states: dict[str, ConsumerState] = {}
        while True:
            page = await self._request(f"CONSUMER.LIST.{stream}", {"offset": len(states)})
            listed = page.get("consumers") or []
            states |= {each["name"]: documents.consumer_state(each) for each in listed}
            if not listed or len(states) >= int(page.get("total") or 0):
                return states

    async def rewind(self, stream: str, name: str) -> None:
        await self._request(f"CONSUMER.RESET.{stream}.{name}")

    def subscribe(self, stream: str, name: str, deliver: Deliver, *, window: int) -> Subscription:
        inbox = self._inbox + b"%d." % next(
            self._tokens
        )  # what a former reader asked for is not for this one
        pull = Pull(stream, name, deliver, window=window, inbox=inbox, closed=self._pulls.discard)
        self._pulls.add(pull)
        if self._connection is not None:
            pull.connected(self._connection)
        return pull
