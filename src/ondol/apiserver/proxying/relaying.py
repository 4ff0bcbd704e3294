"""A request handed on to another server and its answer as it comes, and connections that leave HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import anyio

from ondol.apiserver.exchange import Begin, ByteStream, Headers, Request, Tunnel, while_connected
from ondol.apiserver.ports import Destination, Forwarded, ForwardedAnswer, Forwarder
from ondol.apiserver.proxying import messages
from ondol.base import errors
from ondol.base.clock import Clock

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SWITCHING, _REFUSED = 101, 400
_BODILESS: Final = frozenset({204, 304})
_STATUSES: Final = range(200, 600)
_REFUSAL_S: Final = 10.0

Respond: TypeAlias = Callable[[ForwardedAnswer, Headers, Begin], Awaitable[None]]
"""Sends the client an answer; the headers are those of it that are for the client."""
Fail: TypeAlias = Callable[[str, Begin], Awaitable[None]]
"""Says why there is no answer: by raising it, or in an answer of its own."""


async def as_it_is(answer: ForwardedAnswer, headers: Headers, begin: Begin) -> None:
    """Every byte as soon as it comes."""
    emit = await begin(answer.status, headers)
    async for chunk in answer.chunks():
        await emit(chunk)


def reason(to: Destination, error: OSError) -> str:
    return f"dial tcp {to.authority}: {errors.why(error)}" if to.host else errors.why(error)


class Passing:
    """One request and its answer."""

    def __init__(
        self,
        forwarder: Forwarder,
        request: Request,
        to: Destination,
        forwarded: Forwarded,
        *,
        fail: Fail,
        respond: Respond = as_it_is,
    ) -> None:
        self._forwarder = forwarder
        self._request = request
        self._to = to
        self._forwarded = forwarded
        self._fail = fail
        self._respond = respond
        self._is_received = anyio.Event()
        """The body has been read: what comes from the client now is its going."""

    async def run(self, begin: Begin) -> None:
        await while_connected(self._request, partial(self._pass, begin), after=self._is_received)

    async def _pass(self, begin: Begin) -> None:
        is_begun = False

        async def begun(status: int, headers: Headers) -> Callable[[bytes], Awaitable[None]]:
            nonlocal is_begun
            is_begun = True
            return await begin(status, headers)

        try:
            async with self._forwarder.request(self._to, self._forwarded, self._body()) as answer:
                await self._answer(answer, begun)
        except OSError as error:
            if is_begun:
                raise  # the connection is cut: an end would make a whole of what is a part
            await self._fail(reason(self._to, error), begin)

    def _body(self) -> AsyncIterator[bytes] | None:
        if self._request.has_body:
            return self._received()
        self._is_received.set()
        return None

    async def _received(self) -> AsyncIterator[bytes]:
        if self._request.received:  # it was read before the request had its turn
            yield self._request.received
        else:
            async for piece in self._request.pieces():
                yield piece
        self._is_received.set()

    async def _answer(self, answer: ForwardedAnswer, begin: Begin) -> None:
        if answer.status not in _STATUSES:
            raise errors.Internal(f"the server answered with status {answer.status}")
        headers = messages.answer_headers(answer.headers)
        if answer.status in _BODILESS:  # the edge would wait for what such a length says of another answer
            headers = [header for header in headers if header[0] != b"content-length"]
        await self._respond(answer, headers, begin)


def tunnel(
    clock: Clock,
    forwarder: Forwarder,
    to: Destination,
    forwarded: Forwarded,
    refusal: Callable[[str], errors.ApiError] = errors.Internal,
) -> Tunnel:
    """The client's connection becomes one with the other server, until either of them ends it.

    `refusal` makes of a reason what the client is answered where the other server is not reached.
    """

    async def converse(accept: Callable[[int, bytes], Awaitable[ByteStream]]) -> None:
        is_accepted = False
        try:
            async with forwarder.upgrade(to, forwarded) as (status, head, server):
                if status != _SWITCHING and status < _REFUSED:
                    raise errors.Internal(f"invalid upgrade response: status code {status}")
                client = await accept(status, head)
                is_accepted = True
                if status == _SWITCHING:
                    await _copy_both(client, server)
                else:
                    with clock.move_on_after(_REFUSAL_S):
                        await _copy(server, client)
        except OSError as error:
            if not is_accepted:
                raise refusal(f"error dialing backend: {reason(to, error)}") from error

    return Tunnel(converse)


async def _copy_both(client: ByteStream, server: ByteStream) -> None:
    """Until either of them is over."""
    async with anyio.create_task_group() as tasks:

        async def upward() -> None:
            await _copy(client, server)
            tasks.cancel_scope.cancel()

        tasks.start_soon(upward)
        await _copy(server, client)
        tasks.cancel_scope.cancel()


async def _copy(source: ByteStream, sink: ByteStream) -> None:
    with contextlib.suppress(OSError):
        while data := await source.receive():
            await sink.send(data)
