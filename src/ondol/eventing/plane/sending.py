"""Sending one event to an address by HTTP: where to connect, and the bytes of the request."""

from __future__ import annotations

import functools
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from ondol.base import errors
from ondol.contracts import cluster
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Target
from ondol.eventing.tokens import Tokens
from ondol.web.calling import Answer, Caller, Place

REPLY_BYTES_MAX: Final = 1 << 20
_NAMESPACE_HEADER: Final = b"kn-namespace"
_TIMEOUT_S: Final = 30.0
_PORTS: Final = {"http": 80, "https": 443}
_SERVICE: Final = ".svc"
_REMEMBERED: Final = 512
_UNAUTHORIZED: Final = 401
_UNSENDABLE: Final = re.compile("[\x00-\x20\x7f\ud800-\udfff]")
"""What would end the request's first line early, or is no text."""

Pairs = Iterable[tuple[bytes, bytes]]


class Sender(Protocol):
    """Sends; `Unavailable` or `Timeout` if there is no answer."""

    async def send(self, target: Target, event: Event, headers: Pairs) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Ways:
    """How services of the cluster are reached.

    By a socket of the mesh in `outbound`, if there is one for their port; else at what `resolve` answers.
    """

    outbound: Path | None = None
    resolve: Callable[[str], Awaitable[str]] | None = None


class HttpSender:
    """Implements `Sender`. Without `tokens` it sends none, whoever asks for one."""

    def __init__(
        self,
        caller: Caller,
        ways: Ways,
        tokens: Tokens | None = None,
        trusted: Callable[[], str] = lambda: "",
    ) -> None:
        """`trusted` are certificates (PEM) that are believed besides those of an address."""
        self._caller = caller
        self._ways = ways
        self._tokens = tokens
        self._trusted = trusted

    async def send(self, target: Target, event: Event, headers: Pairs) -> Answer:
        own, body = http.encode(event, "structured" if target.is_structured else "binary")
        if target.namespace:
            own = [*own, (_NAMESPACE_HEADER, target.namespace.encode())]
        return await self.post(target, [*own, *headers], body)

    async def post(self, target: Target, headers: Pairs, body: bytes) -> Answer:
        """The answer to a request with this body.

        A token that is not believed is asked for anew, once: its account may have been made again meanwhile.
        """
        parts = _parts(target.url)
        lines = b"".join([b"%s: %s\r\n" % pair for pair in headers])
        rest = b"%scontent-length: %d\r\n\r\n%s" % (lines, len(body), body)
        account, tokens = target.service_account, self._tokens
        if account is None or tokens is None or not target.audience:
            return await self._call(target, parts, parts.head + rest)
        token = await tokens.token(account, target.audience)
        answer = await self._call(target, parts, _authorized(parts.head, token, rest))
        if answer.status != _UNAUTHORIZED or not tokens.doubt(account, target.audience, token):
            return answer
        token = await tokens.token(account, target.audience)
        return await self._call(target, parts, _authorized(parts.head, token, rest))

    async def _call(self, target: Target, parts: _Parts, request: bytes) -> Answer:
        place, timeout_s = await self._place(parts, target), target.timeout_s or _TIMEOUT_S
        return await self._caller.call(place, request, timeout_s=timeout_s, bytes_max=REPLY_BYTES_MAX)

    async def _place(self, parts: _Parts, target: Target) -> Place:
        ways = self._ways
        if parts.is_service and not parts.is_tls and ways.outbound is not None:
            socket = str(ways.outbound / f"{parts.port}.sock")
            if self._has(socket):
                return Place(socket=socket)
        host = parts.host
        if parts.is_service and ways.resolve is not None:
            host = await ways.resolve(parts.service_host)
        if not parts.is_tls:
            return Place(host, parts.port)
        return Place(host, parts.port, tls=_context(target.ca_certs, self._trusted()), server_name=parts.host)

    @staticmethod
    def _has(socket: str) -> bool:
        """Whether the mesh offers it now: a question to the kernel of a microsecond."""
        return os.path.exists(socket)  # noqa: PTH110 - a path object costs more than the question


def _authorized(head: bytes, token: str, rest: bytes) -> bytes:
    return b"%sauthorization: Bearer %s\r\n%s" % (head, token.encode("ascii"), rest)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What of an address is needed for each request to it."""

    host: str
    port: int
    is_tls: bool
    is_service: bool
    service_host: str
    head: bytes


@functools.lru_cache(_REMEMBERED)
def _parts(url: str) -> _Parts:
    try:
        split = urlsplit(url)
        port = split.port or _PORTS[split.scheme]
    except (KeyError, ValueError) as error:
        raise errors.BadRequest(f"{url!a} is not an address of HTTP") from error
    host = split.hostname or ""
    if not host:
        raise errors.BadRequest(f"{url} has no host")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    full = f"{host}.{cluster.DOMAIN}" if host.endswith(_SERVICE) else host
    authority = split.netloc.rpartition("@")[2]
    if _UNSENDABLE.search(url) is not None:
        raise errors.BadRequest(f"{url!a} has a character that no address may have: write it with %")
    head = f"POST {path} HTTP/1.1\r\nhost: {authority}\r\n".encode()
    is_service = full.endswith(f"{_SERVICE}.{cluster.DOMAIN}")
    return _Parts(host, port, split.scheme == "https", is_service, full, head)


@functools.lru_cache(_REMEMBERED)
def _context(ca_certs: str, trusted: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if trusted:
        context.load_verify_locations(cadata=trusted)
    try:
        if ca_certs:
            context.load_verify_locations(cadata=ca_certs)
    except (ssl.SSLError, TypeError, ValueError) as error:
        raise errors.BadRequest(f"the address's CACerts are no certificates in PEM: {error}") from error
    return context
