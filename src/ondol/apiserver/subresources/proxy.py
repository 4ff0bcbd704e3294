"""pods/proxy, services/proxy and nodes/proxy: requests handed on to a server in a pod or to a node's agent.

Any method, query, body and answer, as they come; WebSockets and other upgrades as bytes. What is changed on
the way is in `proxying`.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NoReturn

import anyio.to_thread

from ondol.api import resources
from ondol.apiserver import takeover
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Begin, Headers, Passed, Reply, Request, Tunnel
from ondol.apiserver.ports import Destination, Forwarded, ForwardedAnswer, Forwarder
from ondol.apiserver.proxying import locations, messages, relaying, rewriting
from ondol.apiserver.served import Served
from ondol.apiserver.subresources import streams
from ondol.base import errors

_PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
_SMALL_BYTES_MAX: Final = 64 * 1024


async def connect(core: Core, request: Request, served: Served) -> Answer:
    if request.method not in relaying.METHODS:
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
    scope = request.scope
    headers = messages.request_headers(scope, prefix + path)
    if to.called:
        headers = _replaced(headers, b"host", to.called.encode())
    forwarded = Forwarded(request.method, messages.target(scope, path), headers)
    answering = _Answering(request, to, prefix).respond
    passing = relaying.Passing(core.forwarder, request, to, forwarded, fail=_fail, respond=answering)
    return Passed(passing.run)


def _location(core: Core, request: Request, served: Served) -> Destination:
    info = request.info
    if served.resource.group_resource == resources.POD.group_resource:
        return locations.of_pod(core.lookup, info.namespace, info.name)
    if served.resource.group_resource == resources.SERVICE.group_resource:
        own = {(core.config.advertise_address, port) for port in core.config.proxied_ports}
        return locations.of_service(core.lookup, core.rng.shuffle, info.namespace, info.name, own)
    return locations.of_node(core.lookup, info.name)


def _with_slash(request: Request) -> str:
    path = messages.quoted(request.scope["path"])
    query = (request.scope.get("query_string") or b"").decode("latin-1")
    return f"{path}/?{query}" if query else f"{path}/"


async def _fail(reason: str, begin: Begin) -> NoReturn:
    del begin
    raise locations.unreachable(reason)


class _Answering:
    """How an answer is changed on its way."""

    def __init__(self, request: Request, to: Destination, prefix: str) -> None:
        """`prefix` is the path of the server here."""
        self._request = request
        self._to = to
        self._prefix = prefix

    async def respond(self, answer: ForwardedAnswer, headers: Headers, begin: Begin) -> None:
        named = dict(headers)
        content_type, encoding = (
            named.get(name, b"").decode("latin-1") for name in (b"content-type", b"content-encoding")
        )
        if location := named.get(b"location"):
            headers = _replaced(headers, b"location", self._location(location))
        elif self._request.method != "HEAD" and rewriting.can_be_read(content_type, encoding):
            await self._page(answer, headers, encoding, begin)
            return
        await relaying.as_it_is(answer, headers, begin)

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
    return relaying.tunnel(core.clock, forwarder, to, forwarded)
