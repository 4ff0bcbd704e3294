"""The activator's listeners: one a revision, each request held until a pod can have it."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.abc

from ondol.api.objects import Key
from ondol.base import log
from ondol.base.clock import Clock
from ondol.base.listeners import NONE, Listeners
from ondol.base.metrics import Family
from ondol.serverless.activator import coldstart, early, metrics, opaque
from ondol.serverless.activator import head as heads
from ondol.serverless.activator import limits as words
from ondol.serverless.activator.coldstart import Starts, Wait
from ondol.serverless.activator.early import Question
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.metrics import Counts, Exchange
from ondol.serverless.activator.telemetry import Nowhere, Sink
from ondol.serverless.activator.throttler import Endpoint, QueueFull, Throttler, Ticket

if TYPE_CHECKING:
    from ondol.serverless.activator.http2 import Wire
    from ondol.serverless.activator.streams import Front, Pods

Connection = TypeVar("Connection")

_CHUNK_BYTES: Final = 64 * 1024
_EARLY_BYTES_MAX: Final = 64 * 1024
_HEAD_TIMEOUT_S: Final = 15.0
_CONNECT_ATTEMPTS: Final = 5
_CONNECT_PAUSE_S: Final = 0.05
"""After the first attempt; after each further one as much more."""
_BACKLOG: Final = 1024
_ACCEPT_AGAIN_S: Final = 0.1
_RETIRE_POLL_S: Final = 0.1
_NO_ANSWER: Final = "the pod ended the connection without an answer\n"
_IP_FREEBIND: Final = 15  # the bridge may appear after the listener
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class ClientLeft(Exception):
    """The client has closed the connection while its request was held."""


class Activator:
    """Listens for revisions without pods; `on_demand` is called whenever a request must wait."""

    def __init__(
        self,
        address: str,
        *,
        on_demand: Callable[[Key], None],
        clock: Clock,
        rng: random.Random,
        listeners: Listeners = NONE,
        sink: Sink | None = None,
        asks_from: str = "",
    ) -> None:
        """`sink` takes in the spans of what was held; starting pods are asked from `asks_from`."""
        self.address = address
        self._asks_from = asks_from
        self.starts = Starts()
        self._sink: Sink = sink or Nowhere()
        self._listeners = listeners
        self.is_retired = False
        """Whether another activator accepts what comes now."""
        self._on_demand = on_demand
        self._clock = clock
        self._rng = rng
        self._group: anyio.abc.TaskGroup | None = None
        self._revisions: dict[Key, _Listening] = {}
        self._log = log.get("activator")

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; requests in flight end with it."""
        async with anyio.create_task_group() as self._group:
            task_status.started()
            await anyio.sleep_forever()

    async def listen(self, revision: Key, *, concurrency: int, limits: Limits, port: int = 0) -> int:
        """Open the revision's port (`port` again, if it is free) and return it; a second call sets limits."""
        if (listening := self._revisions.get(revision)) is not None:
            listening.throttler.concurrency = concurrency
            listening.limits = limits
            return listening.port
        if self._group is None:
            raise RuntimeError("the activator is not running")
        opened = self._listeners.inherit(str(revision)) or self._bind(revision, port)
        listening = _Listening(
            opened=opened,
            throttler=Throttler(concurrency=concurrency, rng=self._rng),
            limits=limits,
        )
        self._revisions[revision] = listening
        self._group.start_soon(self._serve, revision, listening)
        return listening.port

    def close(self, revision: Key) -> None:
        """Close the revision's port; whoever still waits is answered 503."""
        if (listening := self._revisions.pop(revision, None)) is not None:
            listening.scope.cancel()
            with suppress(OSError):
                listening.opened.shutdown(socket.SHUT_RDWR)  # for whoever else has it, too
            self._listeners.drop(str(revision))

    def drop_unclaimed(self, revisions: Iterable[Key]) -> None:
        """Close ports that a former activator has left for revisions that are not among these."""
        names = {str(revision) for revision in revisions}
        for name in self._listeners.unclaimed():
            if name not in names:
                self._listeners.drop(name)

    async def retire(self) -> None:
        """Accept no more: another activator has the same ports. Returns when what was accepted is answered.

        Connections that carry many requests are told to take the next one elsewhere.
        """
        self.is_retired = True
        for listening in self._revisions.values():
            listening.accepting.cancel()
            for front in listening.fronts:
                front.go_away()
        while any(listening.open for listening in self._revisions.values()):
            await self._clock.sleep(_RETIRE_POLL_S)

    def set_endpoints(self, revision: Key, endpoints: Iterable[Endpoint]) -> None:
        """Tell which pods of the revision are ready."""
        if (listening := self._revisions.get(revision)) is not None:
            listening.ready_by_status = frozenset(endpoints)
            self._offer(listening)

    def expect(self, revision: Key, questions: Iterable[Question]) -> None:
        """Tell which pods of the revision are starting: the first one that answers takes what is held."""
        if (listening := self._revisions.get(revision)) is not None:
            listening.expected = {asked.endpoint: asked for asked in questions}
            listening.early &= listening.expected.keys()
            self._offer(listening)
            self._ask_starting(revision, listening)

    def _offer(self, listening: _Listening) -> None:
        listening.throttler.set_endpoints(listening.ready_by_status | listening.early)
        if listening.pods is not None:
            listening.pods.keep(listening.throttler.ready)

    def _ask_starting(self, revision: Key, listening: _Listening) -> None:
        """Only while none is ready: with many starting, that would be much asking for little."""
        if listening.connections is None or not listening.throttler.waiting or listening.throttler.ready:
            return
        for asked in listening.expected.values():
            if asked not in listening.asked:
                listening.asked.add(asked)
                listening.connections.start_soon(self._ask, revision, listening, asked)

    async def _ask(self, revision: Key, listening: _Listening, asked: Question) -> None:
        """Ask a starting pod until it answers or nobody needs that any more."""
        began_s = self._clock.monotonic()
        throttler = listening.throttler
        try:
            while throttler.waiting and not throttler.ready and asked in listening.expected.values():
                if await early.answers(asked, self._clock, self._asks_from):
                    if asked.endpoint in listening.expected:
                        self.starts.mark(revision, coldstart.READINESS, self._now_ns())
                        listening.early.add(asked.endpoint)
                        self._offer(listening)
                    return
                await self._clock.sleep(early.wait_s(asked, self._clock.monotonic() - began_s))
        finally:
            listening.asked.discard(asked)

    def metrics(self) -> Iterator[Family]:
        """A collector for a `metrics.Page`."""
        return metrics.families({key: listening.load for key, listening in self._revisions.items()})

    def demand(self, revision: Key) -> int:
        """Requests held or in flight here for the revision."""
        listening = self._revisions.get(revision)
        return listening.throttler.demand if listening is not None else 0

    def _bind(self, revision: Key, port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        try:
            opened.bind((self.address, port))
        except OSError:
            opened.bind((self.address, 0))
        opened.listen(_BACKLOG)
        self._listeners.keep(str(revision), opened)
        return opened

    async def _serve(self, revision: Key, listening: _Listening) -> None:
        with listening.scope, listening.opened:
            async with anyio.create_task_group() as connections:
                listening.connections = connections
                with listening.accepting:
                    await self._accept(revision, listening, connections)
                listening.opened.close()

    async def _accept(self, revision: Key, listening: _Listening, connections: anyio.abc.TaskGroup) -> None:
        """Take in connections until cancelled, which loses none: it waits only while it has none in hand."""
        opened = listening.opened
        while True:
            await anyio.wait_readable(opened)
            try:
                accepted, _ = opened.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                continue
            except OSError as error:  # nothing more can be opened, for now; or the port was closed
                self._log.warning("cannot_accept", revision=str(revision), error=str(error))
                await self._clock.sleep(_ACCEPT_AGAIN_S)
                continue
            accepted.setblocking(False)
            listening.open += 1
            connections.start_soon(self._take, revision, listening, accepted)

    async def _take(self, revision: Key, listening: _Listening, accepted: socket.socket) -> None:
        try:
            await self._handle(revision, listening, await anyio.abc.SocketStream.from_socket(accepted))
        finally:
            listening.open -= 1

    async def _handle(self, revision: Key, listening: _Listening, client: anyio.abc.SocketStream) -> None:
        async with client:
            with suppress(*_LOST, ClientLeft):
                received = await _receive_head(client, self._clock)
                if heads.is_http2(received):
                    await self._forward_streams(revision, listening, client, received)
                elif opaque.is_tls(received):
                    await self._carry(revision, listening, client, received)
                elif received:
                    await self._forward(revision, listening, client, received)

    # HTTP/1: one request a connection, carried as bytes

    async def _forward(
        self, revision: Key, listening: _Listening, client: anyio.abc.SocketStream, received: bytes
    ) -> None:
        with listening.counts.request(self._clock) as exchange:
            await self._exchange(revision, listening, client, received, exchange)

    async def _exchange(
        self,
        revision: Key,
        listening: _Listening,
        client: anyio.abc.SocketStream,
        received: bytes,
        exchange: Exchange,
    ) -> None:
        try:
            waiting = _Waiting(client)
            endpoint, pod = await self.place(
                revision,
                listening,
                waiting.called,
                _connect_to_pod,
                heads.traceparent(received),
            )
        except QueueFull:
            exchange.code = 503
            await client.send(heads.answer(503, "Service Unavailable", "too many requests are waiting\n"))
            return
        except TimeoutError:
            exchange.code = 504
            await client.send(heads.answer(504, "Gateway Timeout", words.REASON))
            return
        try:
            async with pod:
                await pod.send(received + waiting.early)
                await _splice(client, pod, listening.limits, self._clock, exchange)
        finally:
            listening.throttler.release(endpoint)

    # TLS: a connection is a request

    async def _carry(
        self, revision: Key, listening: _Listening, client: anyio.abc.SocketStream, received: bytes
    ) -> None:
        remote = client.extra(anyio.abc.SocketAttribute.remote_address)  # noqa: S610 - anyio's, no SQL
        caller = str(remote[0])
        if listening.refusals.is_refused(caller, self._clock.monotonic()):
            return
        waiting = _Waiting(client)
        with suppress(QueueFull):
            hold_s = opaque.hold_s(listening.limits)
            try:
                endpoint, pod = await self.place(
                    revision, listening, waiting.called, _connect_to_pod, hold_s=hold_s
                )
            except TimeoutError:
                listening.refusals.refuse(caller, self._clock.monotonic())
                return
            try:
                async with pod:
                    await pod.send(received + waiting.early)
                    await opaque.carry(client, pod, listening.limits, self._clock)
            finally:
                listening.throttler.release(endpoint)

    # HTTP/2: every stream is a request

    async def _forward_streams(
        self, revision: Key, listening: _Listening, client: anyio.abc.SocketStream, received: bytes
    ) -> None:
        from ondol.serverless.activator import streams  # noqa: PLC0415 - a tenth of a second HTTP/1 never pays

        if listening.connections is None:
            return
        if listening.pods is None:
            listening.pods = streams.Pods(listening.connections, self._clock)
        places = _Places(self, revision, listening, listening.pods, self._clock)
        front = streams.Front(client, places, self._clock)
        listening.fronts.add(front)
        if self.is_retired:
            front.go_away()
        try:
            await front.run(received)
        finally:
            listening.fronts.discard(front)

    # Placing

    async def place(
        self,
        revision: Key,
        listening: _Listening,
        wait: Callable[[Throttler, Ticket], Awaitable[Endpoint]],
        connect: Callable[[Endpoint], Awaitable[Connection]],
        traceparent: str = "",
        *,
        hold_s: float | None = None,
    ) -> tuple[Endpoint, Connection]:
        """An endpoint and a connection to it; a pod that just went away is not the request's fault.

        `TimeoutError` after `hold_s`, or as long as a request may be held.
        """
        arrived_s, arrived_ns = self._clock.monotonic(), self._now_ns()
        start = self.starts.begin(revision) if not listening.throttler.ready else None
        tickets: list[Ticket] = []

        async def waited(throttler: Throttler, ticket: Ticket) -> Endpoint:
            tickets.append(ticket)
            return await wait(throttler, ticket)

        try:
            with self._clock.fail_after(listening.limits.total_s if hold_s is None else hold_s):
                placed = await self._connect(revision, listening, waited, connect)
        finally:
            if not listening.throttler.waiting:
                self.starts.end(revision)
        waited_s = self._clock.monotonic() - arrived_s
        listening.counts.waited.observe(waited_s)
        if start is not None:
            listening.counts.cold.observe(waited_s)
        if tickets and (parent := coldstart.parent(traceparent)) is not None:
            wait_ = Wait(revision, parent, arrived_ns, self._now_ns(), start)
            self._sink.add(coldstart.spans(wait_, self._rng))
        self._log.debug("request_handed_over", revision=str(revision), waited_ms=round(waited_s * 1000, 1))
        return placed

    def _now_ns(self) -> int:
        return int(self._clock.now() * 1_000_000_000)

    async def _connect(
        self,
        revision: Key,
        listening: _Listening,
        wait: Callable[[Throttler, Ticket], Awaitable[Endpoint]],
        connect: Callable[[Endpoint], Awaitable[Connection]],
    ) -> tuple[Endpoint, Connection]:
        failed: OSError | None = None
        throttler, counts = listening.throttler, listening.counts
        for attempt in range(_CONNECT_ATTEMPTS):
            endpoint = throttler.try_acquire()
            if isinstance(endpoint, Ticket):
                self._on_demand(revision)
                self._ask_starting(revision, listening)
                endpoint = await wait(throttler, endpoint)
            try:
                connection = await connect(endpoint)
                counts.opened += 1
                return endpoint, connection
            except OSError as error:
                counts.failed += 1
                throttler.release(endpoint)
                if endpoint in listening.early:
                    listening.early.discard(endpoint)
                    self._offer(listening)
                failed = error
                await self._clock.sleep(_CONNECT_PAUSE_S * (attempt + 1))
            except BaseException:
                throttler.release(endpoint)
                raise
        raise TimeoutError from failed


class _Listening:
    """One revision's open port."""

    def __init__(self, *, opened: socket.socket, throttler: Throttler, limits: Limits) -> None:
        self.opened = opened
        self.port: int = opened.getsockname()[1]
        self.throttler = throttler
        self.limits = limits
        self.scope = anyio.CancelScope()
        self.accepting = anyio.CancelScope()
        self.open = 0
        """Connections that were accepted and are not over."""
        self.fronts: set[Front] = set()
        self.connections: anyio.abc.TaskGroup | None = None
        self.pods: Pods | None = None
        self.counts = Counts()
        self.refusals = opaque.Refusals()
        self.ready_by_status: frozenset[Endpoint] = frozenset()
        """Pods that are ready by their status."""
        self.expected: dict[Endpoint, Question] = {}
        self.early: set[Endpoint] = set()
        """Of those expected, who have answered."""
        self.asked: set[Question] = set()

    @property
    def load(self) -> metrics.Load:
        return metrics.Load(self.throttler.waiting, self.throttler.in_flight, self.counts)


class _Places:
    """Implements `streams.Places` for one revision."""

    def __init__(
        self, activator: Activator, revision: Key, listening: _Listening, pods: Pods, clock: Clock
    ) -> None:
        self._clock = clock
        self._activator = activator
        self._revision = revision
        self._listening = listening
        self._pods = pods

    @property
    def limits(self) -> Limits:
        return self._listening.limits

    def request(self) -> AbstractContextManager[Exchange]:
        return self._listening.counts.request(self._clock)

    @asynccontextmanager
    async def place(self, traceparent: str) -> AsyncIterator[Wire]:
        place = self._activator.place
        endpoint, wire = await place(
            self._revision, self._listening, _called, self._pods.connect, traceparent
        )
        try:
            yield wire
        finally:
            self._pods.give_back(endpoint, wire)
            self._listening.throttler.release(endpoint)


async def _connect_to_pod(at: Endpoint) -> anyio.abc.SocketStream:
    return await anyio.connect_tcp(at.host, at.port)


async def _called(throttler: Throttler, ticket: Ticket) -> Endpoint:
    """The endpoint, when the ticket's turn has come."""
    try:
        await ticket.called.wait()
    except BaseException:
        throttler.cancel(ticket)
        raise
    if ticket.endpoint is None:
        raise QueueFull
    return ticket.endpoint


class _Waiting:
    """A client whose request is held: a disconnect is noticed, and bytes it sends meanwhile are kept."""

    def __init__(self, client: anyio.abc.SocketStream) -> None:
        self._client = client
        self.early = b""

    async def called(self, throttler: Throttler, ticket: Ticket) -> Endpoint:
        """The endpoint, when the ticket's turn has come; `ClientLeft` if nobody waits for it any more."""
        try:
            async with anyio.create_task_group() as both:
                both.start_soon(self._listen, both.cancel_scope)
                await ticket.called.wait()
                both.cancel_scope.cancel()
        except BaseException:
            throttler.cancel(ticket)
            raise
        if ticket.endpoint is None:
            throttler.cancel(ticket)
            raise ClientLeft
        return ticket.endpoint

    async def _listen(self, waiting: anyio.CancelScope) -> None:
        try:
            while len(self.early) < _EARLY_BYTES_MAX:
                self.early += await self._client.receive(_CHUNK_BYTES)
        except _LOST:
            waiting.cancel()


async def _receive_head(client: anyio.abc.SocketStream, clock: Clock) -> bytes:
    """The bytes to send first: an HTTP/1 head that closes, or whatever another protocol began with."""
    received = b""
    with clock.move_on_after(_HEAD_TIMEOUT_S) as waiting:
        received = await _read_head(client)
    if waiting.cancelled_caught:
        await client.send(heads.answer(408, "Request Timeout", "the request's headers did not come\n"))
    return received


async def _read_head(client: anyio.abc.SocketStream) -> bytes:
    received = b""
    while True:
        try:
            received += await client.receive(_CHUNK_BYTES)
        except anyio.EndOfStream:
            return b""
        if heads.is_http2(received) or opaque.is_tls(received):
            return received
        if (parts := heads.split(received)) is not None:
            return heads.closing(parts[0]) + parts[1]
        if len(received) > heads.HEAD_BYTES_MAX:
            await client.send(heads.answer(431, "Request Header Fields Too Large", "headers too large\n"))
            return b""


async def _splice(
    client: anyio.abc.SocketStream,
    pod: anyio.abc.SocketStream,
    limits: Limits,
    clock: Clock,
    exchange: Exchange,
) -> None:
    """Carry bytes both ways until the pod has closed; the client may end its half earlier.

    A pod that ends without a word is answered for: that this connection ends so is to mean that the activator
    itself has died, in which case the proxy may ask again (`routing.SAFE_RETRIES`).
    """
    begun, answer = False, heads.Answer()
    async with anyio.create_task_group() as both:
        both.start_soon(_carry_requests, client, pod)
        try:
            while True:
                with clock.fail_after(limits.silence_s(begun=begun)):
                    received = await pod.receive(_CHUNK_BYTES)
                begun = True
                ready, exchange.code = answer.feed(received), answer.code
                await client.send(ready)
        except TimeoutError:
            if not begun:
                exchange.code = 504
                with suppress(*_LOST):
                    await client.send(heads.answer(504, "Gateway Timeout", words.REASON))
        except _LOST:  # the pod has said all, or the client hears no more
            exchange.code = exchange.code if begun else 503
            last = answer.rest() if begun else heads.answer(503, "Service Unavailable", _NO_ANSWER)
            with suppress(*_LOST):
                await client.send(last)
        both.cancel_scope.cancel()


async def _carry_requests(client: anyio.abc.SocketStream, pod: anyio.abc.SocketStream) -> None:
    with suppress(*_LOST):
        while True:
            await pod.send(await client.receive(_CHUNK_BYTES))
    with suppress(*_LOST):
        await pod.send_eof()
