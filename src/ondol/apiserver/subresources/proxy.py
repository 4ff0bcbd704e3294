"""pods/proxy, services/proxy and nodes/proxy: requests handed on to a server in a pod or to a node's agent.

Any method, query, body and answer, as they come; WebSockets and other upgrades as bytes. What is changed on
the way is in `proxying`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from ondol.api import resources
from ondol.apiserver import takeover
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import (
    Answer,
    Begin,
    ByteStream,
    Headers,
    Passed,
    Reply,
    Request,
    Tunnel,
    while_connected,
)
from ondol.apiserver.ports import Destination, Forwarded, ForwardedAnswer, Forwarder
from ondol.apiserver.proxying import locations, messages, rewriting
from ondol.apiserver.served import Served
from ondol.apiserver.subresources import streams
from ondol.base import errors

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SWITCHING, _REFUSED = 101, 400
_PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
_SMALL_BYTES_MAX: Final = 64 * 1024
_BODILESS: Final = frozenset({204, 304})
_STATUSES: Final = range(200, 600)
_REFUSAL_S: Final = 10.0


async def connect(core: Core, request: Request, served: Served) -> Answer:
    if request.method not in METHODS:
        raise errors.MethodNotAllowed("the server does not allow this method on the requested resource")
    to = _location(core, request, served)
    if core.forwarder is None:
        raise errors.Unavailable("this server has no way to reach pods")
    prefix, path = messages.split(request.scope, request.info.rest)
    kind = f"{served.resource.kind}ProxyOptions"
    await streams.admit(core, request, served, {"kind": kind, "apiVersion": "v1", "path": path})
    if takeover.TAKE in request.scope:
        return _tunnel(core, core.forwarder, request, to, path)
    if not path and request.method in ("GET", "HEAD"):
        return Reply(b"", 301, headers=[(b"location", _with_slash(request).encode())])
    return Passed(_Passing(core.forwarder, request, to, (prefix, path)).run)


def _location(core: Core, request: Request, served: Served) -> Destination:
    info = request.info
    if served.resource.group_resource == resources.POD.group_resource:
        return locations.of_pod(core.lookup, info.namespace, info.name)
    if served.resource.group_resource == resources.SERVICE.group_resource:
        return locations.of_service(core.lookup, core.rng.shuffle, info.namespace, info.name)
    return locations.of_node(core.lookup, info.name)


def _with_slash(request: Request) -> str:
    path = messages.quoted(request.scope["path"])
    query = (request.scope.get("query_string") or b"").decode("latin-1")
    return f"{path}/?{query}" if query else f"{path}/"


def _reason(to: Destination, error: OSError) -> str:
    return f"dial tcp {to.authority}: {errors.why(error)}" if to.host else errors.why(error)


class _Passing:
    """One request and its answer."""

    def __init__(
        self, forwarder: Forwarder, request: Request, to: Destination, paths: tuple[str, str]
    ) -> None:
        """`paths` are that of the server here and what follows it."""
        self._forwarder = forwarder
        self._request = request
        self._to = to
        self._prefix, self._path = paths
        self._is_received = anyio.Event()
        """The body has been read: what comes from the client now is its going."""

    async def run(self, begin: Begin) -> None:
        await while_connected(self._request, partial(self._pass, begin), after=self._is_received)

    async def _pass(self, begin: Begin) -> None:
        scope = self._request.scope
        headers = messages.request_headers(scope, self._prefix + self._path)
        forwarded = Forwarded(self._request.method, messages.target(scope, self._path), headers)
        is_begun = False

        async def begun(status: int, headers: Headers) -> Callable[[bytes], Awaitable[None]]:
            nonlocal is_begun
            is_begun = True
            return await begin(status, headers)

        try:
            async with self._forwarder.request(self._to, forwarded, self._body()) as answer:
                await self._answer(answer, begun)
        except OSError as error:
            if is_begun:
                raise  # the connection is cut: an end would make a whole of what is a part
            raise locations.unreachable(_reason(self._to, error)) from error

    def _body(self) -> AsyncIterator[bytes] | None:
        if self._request.has_body:
            return self._received()
        self._is_received.set()
        return None

    async def _received(self) -> AsyncIterator[bytes]:
        async for piece in self._request.pieces():
            yield piece
        self._is_received.set()

    async def _answer(self, answer: ForwardedAnswer, begin: Begin) -> None:
        if answer.status not in _STATUSES:
            raise errors.Internal(f"the server answered with status {answer.status}")
        headers = messages.answer_headers(answer.headers)
        if answer.status in _BODILESS:  # the edge would wait for what such a length says of another answer
            headers = [header for header in headers if header[0] != b"content-length"]
        named = dict(headers)
        content_type, encoding = (
            named.get(name, b"").decode("latin-1") for name in (b"content-type", b"content-encoding")
        )
        if location := named.get(b"location"):
            headers = _replaced(headers, b"location", self._location(location))
        elif self._request.method != "HEAD" and rewriting.can_be_read(content_type, encoding):
            await self._page(answer, headers, encoding, begin)
            return
        emit = await begin(answer.status, headers)
        async for chunk in answer.chunks():
            await emit(chunk)

    def _location(self, value: bytes) -> bytes:
        try:
            return rewriting.link(value.decode("latin-1"), self._page_facts()).encode("latin-1")
        except ValueError as error:
            raise errors.Internal(f"error trying to parse Location header: {error}") from error

    def _page_facts(self) -> rewriting.Page:
        return rewriting.Page(self._prefix, self._to.authority, self._request.header(b"host"))

    async def _page(self, answer: ForwardedAnswer, headers: Headers, encoding: str, begin: Begin) -> None:
        """A page as a whole, with its links changed; one that is too large for that as it is."""
        chunks, content = answer.chunks(), bytearray()
        async for chunk in chunks:
            content += chunk
            if len(content) > _PAGE_BYTES_MAX:
                break
        else:
            change = partial(rewriting.body, bytes(content), encoding, self._page_facts())
            is_small = len(content) <= _SMALL_BYTES_MAX and not encoding
            changed = change() if is_small else await anyio.to_thread.run_sync(change)
            length = str(len(changed)).encode()
            emit = await begin(answer.status, _replaced(headers, b"content-length", length))
            await emit(changed)
            return
        emit = await begin(answer.status, headers)
        await emit(bytes(content))
        async for chunk in chunks:
            await emit(chunk)


def _replaced(headers: Headers, name: bytes, value: bytes) -> Headers:
    return [*(header for header in headers if header[0] != name), (name, value)]


def _tunnel(core: Core, forwarder: Forwarder, request: Request, to: Destination, path: str) -> Tunnel:
    if to.node:
        raise errors.BadRequest("nodes are spoken with through their pods: use exec, attach or portforward")
    scope = request.scope
    forwarded = Forwarded(request.method, messages.target(scope, path), messages.upgrade_headers(scope))

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
                    with core.clock.move_on_after(_REFUSAL_S):
                        await _copy(server, client)
        except OSError as error:
            if not is_accepted:
                raise errors.Internal(f"error dialing backend: {_reason(to, error)}") from error

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
