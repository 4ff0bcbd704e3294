"""HTTP as a transport, by aiohttp: the one edge that knows it.

Made by `client.kubeconfig`; nothing imports this module until a network client is wanted, for
aiohttp is the heaviest import a controller would have. Runs under asyncio only.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, urlencode

import aiohttp
import anyio
import yarl

from ondol.api import status
from ondol.base import errors
from ondol.client.transport import Call, ConnectionLost, Response, StreamResponse, joined

_TOKEN_REFRESH_S: Final = 60.0
_CONNECT_S: Final = 10.0
_HEARTBEAT_S: Final = 30.0
# Each request under way has a connection; more of them at once would not be answered sooner.
_REQUESTS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an API server listens and how this client proves who it is."""

    server: str
    socket: str = ""
    """The path of a Unix socket to reach it by; that this client may open it is all its proof."""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    token: str = ""
    token_path: str = ""
    """A file read again every minute, as tokens mounted in pods are replaced."""
    authorization: str = ""
    """A complete `Authorization` header, for servers with passwords."""
    proxy: str = ""
    request_s: float = 60.0
    """How long an answer of one piece may take; streams have no such limit."""


class HttpTransport:
    """A pool of kept-alive connections to one API server; opened by the first request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._base = endpoint.server.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._token = endpoint.token
        self._token_read_at = -_TOKEN_REFRESH_S
        self._under_way = anyio.CapacityLimiter(_REQUESTS_MAX)

    async def request(self, call: Call) -> Response:
        timeout = aiohttp.ClientTimeout(total=self._endpoint.request_s, sock_connect=_CONNECT_S)
        async with self._under_way:
            with _translated(self._base):
                async with self._send(call, timeout) as answer:
                    return Response(answer.status, _headers(answer), await answer.read())

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        with _translated(self._base):
            answer = await self._send(call, timeout)
        async with answer:
            yield StreamResponse(answer.status, _headers(answer), _Chunks(answer, self._base))

    @asynccontextmanager
    async def converse(
        self, path: str, query: Sequence[tuple[str, str]], protocol: str
    ) -> AsyncIterator[_Messages]:
        """As `transport.Conversing`; of a refusal only the status is known."""
        target = self._url(path, {})
        target = f"{target}?{urlencode(query)}" if query else target
        with _translated(self._base):
            try:
                socket = await self._opened().ws_connect(
                    yarl.URL(target, encoded=True),
                    protocols=(protocol,),
                    headers=self._authorization(),
                    server_hostname=self._endpoint.server_name or None,
                    proxy=self._endpoint.proxy or None,
                    max_msg_size=0,
                    heartbeat=_HEARTBEAT_S,
                )
            except aiohttp.WSServerHandshakeError as error:
                message = f"{self._base} opens no connection: it answers {error.status}"
                raise status.error_from({"message": message}, error.status) from error
        async with socket:
            yield _Messages(socket)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _send(self, call: Call, wait: aiohttp.ClientTimeout) -> aiohttp.client._RequestContextManager:
        return self._opened().request(
            call.method,
            yarl.URL(self._url(call.path, call.query), encoded=True),
            headers={**call.headers, **self._authorization()},
            data=call.body,
            timeout=wait,
            allow_redirects=False,
            server_hostname=self._endpoint.server_name or None,
            proxy=self._endpoint.proxy or None,
        )

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        target = self._base + quote(path, safe="/:@!$&'()*+,;=~-._%")
        return f"{target}?{urlencode(query)}" if query else target

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Every watch holds a connection for minutes: a bound here would starve requests, which
            # have one of their own.
            connector: aiohttp.BaseConnector
            if self._endpoint.socket:
                connector = aiohttp.UnixConnector(self._endpoint.socket, limit=0, keepalive_timeout=60)
            else:
                tls = self._endpoint.tls or True
                connector = aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=2**18
            )
        return self._session

    def _authorization(self) -> dict[str, str]:
        if self._endpoint.authorization:
            return {"authorization": self._endpoint.authorization}
        now = time.monotonic()
        if self._endpoint.token_path and now - self._token_read_at >= _TOKEN_REFRESH_S:
            self._token = Path(self._endpoint.token_path).read_text(encoding="utf-8").strip()
            self._token_read_at = now
        return {"authorization": f"Bearer {self._token}"} if self._token else {}


@dataclass(slots=True)
class _Messages:
    """Implements `transport.MessageSocket`."""

    socket: aiohttp.ClientWebSocketResponse

    async def receive(self) -> bytes | None:
        message = await self.socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None

    async def send(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(message)


class _translated:  # noqa: N801 - reads as a statement, like contextlib's own context managers
    """Translate aiohttp's errors, at this one place."""

    def __init__(self, server: str) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, errors.OndolError):
            return
        if isinstance(error, TimeoutError):
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise errors.Unavailable(f"{self._server} does not answer") from error
            raise errors.Timeout(f"{self._server} took too long to answer") from error
        if isinstance(error, aiohttp.ClientConnectorError):
            raise errors.Unavailable(f"{self._server} cannot be reached: {error}") from error
        if isinstance(error, (aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            raise ConnectionLost(f"the connection to {self._server} broke: {error!r}") from error


class _Chunks:
    """The body as it arrives, errors translated."""

    def __init__(self, answer: aiohttp.ClientResponse, server: str) -> None:
        self._chunks = answer.content.iter_any()
        self._server = server

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with _translated(self._server):
            return await anext(self._chunks)


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return joined((name.lower(), value) for name, value in answer.headers.items())
