"""HTTP/2 through the activator: each stream of a connection is a request, held and placed by itself.

A connection to a pod carries one stream at a time and is used again by the next: so a pod has as many
streams as the throttler gave it, and no stream waits for another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from typing import Final, Protocol

import anyio
import anyio.abc

from ondol.base.clock import Clock
from ondol.serverless.activator import http2, limits
from ondol.serverless.activator.http2 import Inbox, Part, StreamReset, Wire
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.metrics import Exchange
from ondol.serverless.activator.throttler import Endpoint, QueueFull

_IDLE_MAX: Final = 64
_IDLE_S: Final = 10.0
_NO_ERROR: Final = 0


class Places(Protocol):
    """Where a stream can go."""

    @property
    def limits(self) -> Limits: ...

    def request(self) -> AbstractContextManager[Exchange]:
        """Count one stream as a request, by the code that is set."""
        ...

    def place(self, traceparent: str) -> AbstractAsyncContextManager[Wire]:
        """Wait for a connection to a pod with room; `QueueFull` or `TimeoutError` if there is none."""
        ...


class Pods:
    """Connections to the pods of one revision, kept for the next stream; they run in `group`."""

    def __init__(self, group: anyio.abc.TaskGroup, clock: Clock) -> None:
        self._group = group
        self._clock = clock
        self._idle: dict[Endpoint, list[tuple[float, Wire]]] = {}

    async def connect(self, endpoint: Endpoint) -> Wire:
        """A connection on which nothing is under way; `OSError` if the pod does not take one."""
        idle = self._idle.get(endpoint, [])
        while idle:
            _, wire = idle.pop()
            if not wire.closed:
                return wire
        fresh: Wire = await self._group.start(self._run, endpoint)
        return fresh

    async def _run(self, endpoint: Endpoint, *, task_status: anyio.abc.TaskStatus[Wire]) -> None:
        async with await anyio.connect_tcp(endpoint.host, endpoint.port) as socket:
            wire = Wire(socket)
            task_status.started(wire)
            await wire.run()

    def give_back(self, endpoint: Endpoint, wire: Wire) -> None:
        idle = self._idle.setdefault(endpoint, [])
        if wire.closed or len(idle) >= _IDLE_MAX:
            wire.end()
        else:
            idle.append((self._clock.monotonic(), wire))

    def keep(self, endpoints: Iterable[Endpoint]) -> None:
        """End what was idle for long or leads to a pod that is not among these."""
        ready, since_s = set(endpoints), self._clock.monotonic() - _IDLE_S
        for endpoint in list(self._idle):
            limit_s = since_s if endpoint in ready else math.inf
            for used_s, wire in self._idle[endpoint]:
                if used_s < limit_s:
                    wire.end()
            self._idle[endpoint] = [pair for pair in self._idle[endpoint] if pair[0] >= limit_s]
            if not self._idle[endpoint]:
                del self._idle[endpoint]


class Front:
    """One connection from the proxy."""

    def __init__(self, socket: anyio.abc.ByteStream, places: Places, clock: Clock) -> None:
        self._wire = Wire(socket, opened=self._opened, ended=self._ended)
        self._places = places
        self._clock = clock
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self, received: bytes) -> None:
        """Until the proxy ends the connection; `received` was read already."""
        async with anyio.create_task_group() as self._group:
            await self._wire.run(received)
            self._group.cancel_scope.cancel()

    def go_away(self) -> None:
        """Have the proxy begin further streams elsewhere; those that come here all the same are served."""
        self._wire.go_away()

    def _opened(self, stream: int, inbox: Inbox) -> None:
        if self._group is not None:
            scope = self._scopes[stream] = anyio.CancelScope()
            self._group.start_soon(self._serve, stream, inbox, scope)

    def _ended(self, stream: int) -> None:
        """The client has cancelled the stream: its request leaves the queue."""
        if (scope := self._scopes.get(stream)) is not None:
            scope.cancel()

    async def _serve(self, stream: int, inbox: Inbox, scope: anyio.CancelScope) -> None:
        try:
            with self._places.request() as exchange:
                await self._serve_counted(stream, inbox, scope, exchange)
        finally:
            self._wire.reset(stream, _NO_ERROR)  # an answer may end before its request
            self._wire.forget(stream)
            del self._scopes[stream]

    async def _serve_counted(
        self, stream: int, inbox: Inbox, scope: anyio.CancelScope, exchange: Exchange
    ) -> None:
        try:
            with scope:
                await self._exchange(stream, inbox, exchange)
        except QueueFull:
            exchange.code = 503
            await self._answer(stream, 503, "too many requests are waiting\n")
        except TimeoutError:
            exchange.code = 504
            await self._answer(stream, 504, limits.REASON)
        except StreamReset as reset:
            self._wire.reset(stream, reset.code)

    async def _exchange(self, stream: int, inbox: Inbox, exchange: Exchange) -> None:
        request = await inbox.get()
        async with self._places.place(_traceparent(request)) as pod:
            pod_stream, answers = pod.open(request.headers or (), ended=request.ended)
            try:
                async with anyio.create_task_group() as both:
                    if not request.ended:
                        both.start_soon(self._pass_request, stream, inbox, pod, pod_stream)
                    failure = await self._pass_answer(stream, pod, pod_stream, answers, exchange)
                    both.cancel_scope.cancel()
            finally:
                pod.reset(pod_stream, http2.CANCEL)
                pod.forget(pod_stream)
        if failure is not None:
            raise failure

    async def _pass_request(self, stream: int, inbox: Inbox, pod: Wire, pod_stream: int) -> None:
        """Until the request ends; how it fails is told by its answer."""
        with suppress(StreamReset):
            part = Part()
            while not part.ended:
                part = await inbox.get()
                await pod.send(pod_stream, part)
                self._wire.passed_on(stream, part)

    async def _pass_answer(
        self, stream: int, pod: Wire, pod_stream: int, answers: Inbox, exchange: Exchange
    ) -> Exception | None:
        """None when the answer was sent to its end; after its beginning it can only be broken off."""
        part, begun = Part(), False
        try:
            while not part.ended:
                with self._clock.fail_after(self._places.limits.silence_s(begun=begun)):
                    part = await answers.get()
                begun = True
                exchange.code = exchange.code or _code(part)
                await self._wire.send(stream, part)
                pod.passed_on(pod_stream, part)
        except StreamReset as reset:
            return reset
        except TimeoutError as late:
            return StreamReset(http2.CANCEL) if begun else late
        return None

    async def _answer(self, stream: int, status: int, text: str) -> None:
        """A short answer of the activator's own."""
        body = text.encode()
        headers = [
            (b":status", str(status).encode()),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        with suppress(StreamReset):
            await self._wire.send(stream, Part(headers))
            await self._wire.send(stream, Part(data=body, ended=True))


def _traceparent(request: Part) -> str:
    """The trace that the request belongs to, as its header says."""
    return next((v.decode("latin-1") for n, v in request.headers or () if n == b"traceparent"), "")


def _code(part: Part) -> int:
    """The status that a part of an answer brings; 0 if it brings none, or none that is final."""
    code = next((int(value) for name, value in part.headers or () if name == b":status"), 0)
    return code if code >= 200 else 0
