"""The activator's listeners: one a revision, each connection held until a pod can have it."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import anyio
import anyio.abc

from ondol.api.objects import Key
from ondol.base import log
from ondol.base.clock import Clock
from ondol.serverless.activator import head as heads
from ondol.serverless.activator.throttler import Endpoint, QueueFull, Throttler, Ticket

_CHUNK_BYTES: Final = 64 * 1024
_EARLY_BYTES_MAX: Final = 64 * 1024
_HEAD_TIMEOUT_S: Final = 15.0
_CONNECT_ATTEMPTS: Final = 5
_BACKLOG: Final = 1024
_IP_FREEBIND: Final = 15  # the bridge may appear after the listener
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class ClientLeft(Exception):
    """Whoever asked has hung up while the request was held."""


class Activator:
    """Listens for revisions without pods; `on_demand` is called whenever a request must wait."""

    def __init__(
        self, address: str, *, on_demand: Callable[[Key], None], clock: Clock, rng: random.Random
    ) -> None:
        self.address = address
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

    async def listen(self, revision: Key, *, concurrency: int, timeout_s: float, port: int = 0) -> int:
        """Open the revision's port (`port` again, if it is free) and return it; a second call sets limits."""
        if (known := self._revisions.get(revision)) is not None:
            known.throttler.concurrency = concurrency
            known.timeout_s = timeout_s
            return known.port
        if self._group is None:
            raise RuntimeError("the activator is not running")
        opened = self._bind(port)
        listening = _Listening(
            port=opened.getsockname()[1],
            throttler=Throttler(concurrency=concurrency, rng=self._rng),
            timeout_s=timeout_s,
        )
        self._revisions[revision] = listening
        self._group.start_soon(self._serve, revision, listening, opened)
        return listening.port

    def close(self, revision: Key) -> None:
        """Close the revision's port; whoever still waits is answered 503."""
        if (listening := self._revisions.pop(revision, None)) is not None:
            listening.scope.cancel()

    def set_endpoints(self, revision: Key, endpoints: Iterable[Endpoint]) -> None:
        """Tell which pods of the revision are ready."""
        if (listening := self._revisions.get(revision)) is not None:
            listening.throttler.set_endpoints(endpoints)

    def demand(self, revision: Key) -> int:
        """Requests held or in flight here for the revision."""
        listening = self._revisions.get(revision)
        return listening.throttler.demand if listening is not None else 0

    def _bind(self, port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        try:
            opened.bind((self.address, port))
        except OSError:
            opened.bind((self.address, 0))
        opened.listen(_BACKLOG)
        return opened

    async def _serve(self, revision: Key, listening: _Listening, opened: socket.socket) -> None:
        with listening.scope:
            listener = await anyio.abc.SocketListener.from_socket(opened)
            async with listener, anyio.create_task_group() as connections:
                await listener.serve(lambda stream: self._handle(revision, listening, stream), connections)

    async def _handle(self, revision: Key, listening: _Listening, client: anyio.abc.SocketStream) -> None:
        async with client:
            with suppress(*_LOST, ClientLeft):
                try:
                    await self._forward(revision, listening, client)
                except QueueFull:
                    await client.send(
                        heads.answer(503, "Service Unavailable", "too many requests are waiting\n")
                    )
                except TimeoutError:
                    text = "no instance became ready in time\n"
                    await client.send(heads.answer(503, "Service Unavailable", text))

    async def _forward(self, revision: Key, listening: _Listening, client: anyio.abc.SocketStream) -> None:
        received = await _receive_head(client)
        if not received:
            return
        arrived_s = self._clock.monotonic()
        waiting = _Waiting(client)
        with anyio.fail_after(listening.timeout_s):
            endpoint, pod = await self._connect(revision, listening.throttler, waiting)
        held_s = self._clock.monotonic() - arrived_s
        self._log.debug("request_handed_over", revision=str(revision), held_ms=round(held_s * 1000, 1))
        try:
            async with pod:
                await pod.send(received + waiting.early)
                await _splice(client, pod)
        finally:
            listening.throttler.release(endpoint)

    async def _connect(
        self, revision: Key, throttler: Throttler, waiting: _Waiting
    ) -> tuple[Endpoint, anyio.abc.SocketStream]:
        """An endpoint and an open connection to it; a pod that just went away is not the request's fault."""
        failed: OSError | None = None
        for attempt in range(_CONNECT_ATTEMPTS):
            endpoint = await self._acquire(revision, throttler, waiting)
            try:
                return endpoint, await anyio.connect_tcp(endpoint.host, endpoint.port)
            except OSError as error:
                throttler.release(endpoint)
                failed = error
                await anyio.sleep(0.05 * (attempt + 1))
            except BaseException:
                throttler.release(endpoint)
                raise
        raise TimeoutError from failed

    async def _acquire(self, revision: Key, throttler: Throttler, waiting: _Waiting) -> Endpoint:
        got = throttler.try_acquire()
        if isinstance(got, Endpoint):
            return got
        self._on_demand(revision)
        return await waiting.called(throttler, got)


class _Listening:
    """One revision's open port."""

    def __init__(self, *, port: int, throttler: Throttler, timeout_s: float) -> None:
        self.port = port
        self.throttler = throttler
        self.timeout_s = timeout_s
        self.scope = anyio.CancelScope()


class _Waiting:
    """A client whose request is held: its hanging up is noticed, what it sends meanwhile is kept."""

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


async def _receive_head(client: anyio.abc.SocketStream) -> bytes:
    """The bytes to send first: an HTTP/1 head that closes, or whatever another protocol began with."""
    received = b""
    with anyio.move_on_after(_HEAD_TIMEOUT_S):
        while True:
            try:
                received += await client.receive(_CHUNK_BYTES)
            except anyio.EndOfStream:
                return b""
            if heads.is_http2(received):
                return received
            if (parts := heads.split(received)) is not None:
                return heads.closing(parts[0]) + parts[1]
            if len(received) > heads.HEAD_BYTES_MAX:
                await client.send(heads.answer(431, "Request Header Fields Too Large", "headers too large\n"))
                return b""
    await client.send(heads.answer(408, "Request Timeout", "the request's headers did not come\n"))
    return b""


async def _splice(client: anyio.abc.SocketStream, pod: anyio.abc.SocketStream) -> None:
    """Carry bytes both ways until the pod has closed; the client may end its half earlier."""
    async with anyio.create_task_group() as both:
        both.start_soon(_carry_requests, client, pod)
        with suppress(*_LOST):
            while True:
                await client.send(await pod.receive(_CHUNK_BYTES))
        both.cancel_scope.cancel()


async def _carry_requests(client: anyio.abc.SocketStream, pod: anyio.abc.SocketStream) -> None:
    with suppress(*_LOST):
        while True:
            await pod.send(await client.receive(_CHUNK_BYTES))
    with suppress(*_LOST):
        await pod.send_eof()
