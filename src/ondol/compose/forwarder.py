"""Edge: how the API server hands requests on to servers in pods and to the node's agent: HTTP by aiohttp.

What asks for another protocol has a connection of its own, of which only the head of the answer is read.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import anyio
import multidict
import yarl
from anyio.abc import ByteStream as Stream

from ondol.apiserver.ports import Destination, Forwarded
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.compose import tls

_CONNECT_S: Final = 30.0
_IDLE_S: Final = 30.0
_HEAD_BYTES_MAX: Final = 64 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add."""


@dataclass(slots=True)
class _Answer:
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise OSError(str(error) or "the connection broke") from error


class _Bytes:
    """Implements the API server's `ByteStream`, with what came behind the answer's head."""

    def __init__(self, stream: Stream, behind: bytes) -> None:
        self._stream = stream
        self._behind = behind

    async def receive(self) -> bytes:
        if self._behind:
            behind, self._behind = self._behind, b""
            return behind
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return b""

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise BrokenPipeError("the connection broke") from error


class HttpForwarder:
    """Implements the API server's `Forwarder`. The one node's agent listens at `agent`, and wants `token`.

    `shown` is what servers with a `Trust` are shown, which are not spoken with without.
    """

    def __init__(self, agent: Path, token: str, clock: Clock, shown: tls.Showing | None = None) -> None:
        self._clock = clock
        self._agent = agent
        self._token = token
        self._shown = shown
        self._pods: aiohttp.ClientSession | None = None
        self._node: aiohttp.ClientSession | None = None
        self._trusted: aiohttp.ClientSession | None = None
        self._unverified = tls.unverified()

    @asynccontextmanager
    async def request(
        self, to: Destination, request: Forwarded, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[_Answer]:
        headers = multidict.CIMultiDict(_text(request.headers))
        if to.node:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            response = await self._session(to).request(
                request.method,
                yarl.URL(
                    f"{to.scheme}://{to.authority if to.host else 'node'}{request.target}", encoded=True
                ),
                headers=headers,
                data=body,
                ssl=self._context(to),
                server_hostname=to.trust.server_name if to.trust is not None else None,
                skip_auto_headers=_AUTOMATIC,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:  # its own text shows objects of Python
            raise OSError(f"connect: {_why(error.os_error)}") from error
        except aiohttp.ServerDisconnectedError as error:
            raise OSError("the server hung up") from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from error
        async with response:
            listed = [(name.lower(), value) for name, value in response.raw_headers]
            yield _Answer(response.status, listed, response)

    def _context(self, to: Destination) -> ssl.SSLContext:
        if to.trust is None:
            return self._unverified
        if self._shown is None:
            raise OSError("this server has no certificate to show")
        return self._shown.context(to.trust)

    def _session(self, to: Destination) -> aiohttp.ClientSession:
        if to.trust is not None:
            if self._trusted is None:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S)
                self._trusted = _session(connector)
            return self._trusted
        if to.node:
            if self._node is None:
                self._node = _session(aiohttp.UnixConnector(str(self._agent), force_close=True))
            return self._node
        if self._pods is None:
            # No connection is kept: the address may be another pod's by the next request.
            self._pods = _session(aiohttp.TCPConnector(limit=0, force_close=True))
        return self._pods

    @asynccontextmanager
    async def upgrade(self, to: Destination, request: Forwarded) -> AsyncIterator[tuple[int, bytes, _Bytes]]:
        stream = await self._connected(to)
        async with stream:
            try:
                await stream.send(_head(request))
                head, behind = await _received_head(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
                raise OSError("the server hung up") from error
            yield _status(head), head, _Bytes(stream, behind)

    async def _connected(self, to: Destination) -> Stream:
        context = self._context(to)
        try:
            with self._clock.fail_after(_CONNECT_S):
                if to.scheme == "http":
                    return await anyio.connect_tcp(to.host, to.port)
                return await anyio.connect_tcp(
                    to.host,
                    to.port,
                    ssl_context=context,
                    tls_hostname=to.trust.server_name if to.trust is not None else None,
                    tls_standard_compatible=False,
                )
        except TimeoutError as error:
            raise OSError("i/o timeout") from error
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise OSError(f"connect: {_why(cause)}") from error

    async def aclose(self) -> None:
        for session in (self._pods, self._node, self._trusted):
            if session is not None:
                await session.close()


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=_HEAD_BYTES_MAX,
        max_field_size=_HEAD_BYTES_MAX,
    )


def _why(error: OSError) -> str:
    """The kernel's words: those of the event loop name the address once more."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return tls.refusal(error)
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else errors.why(error)


def _text(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), _decoded(value)) for name, value in headers]


def _decoded(value: bytes) -> str:
    """As it is encoded again, in UTF-8: the names of users are in it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _head(request: Forwarded) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1".encode("latin-1")]
    lines += [name + b": " + value for name, value in request.headers]
    return b"\r\n".join(lines) + _HEAD_END


async def _received_head(stream: Stream) -> tuple[bytes, bytes]:
    """The answer's head, and what came with it."""
    received = b""
    while _HEAD_END not in received:
        if len(received) > _HEAD_BYTES_MAX:
            raise OSError("the head of the answer is too large")
        received += await stream.receive()
    head, _, behind = received.partition(_HEAD_END)
    return head + _HEAD_END, behind


def _status(head: bytes) -> int:
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise OSError("the server does not speak HTTP")
    return int(words[1])
