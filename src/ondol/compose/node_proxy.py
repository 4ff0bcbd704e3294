"""Edge: how the API server reaches the node agent (logs, commands, ports): HTTP at its socket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from ondol.base import errors


@dataclass(slots=True)
class _Answer:
    status: int
    content_type: str
    response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.response.content.iter_any():
            yield chunk


@dataclass(slots=True)
class _Socket:
    socket: aiohttp.ClientWebSocketResponse

    async def receive(self) -> bytes | None:
        message = await self.socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None

    async def send(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(message)


_REFUSALS: Final = {400: errors.BadRequest, 404: errors.NotFound}


def _check(message: bytes | None) -> None:
    """Raise what the agent's first message refuses."""
    if message is None:
        raise errors.Unavailable("the node's agent hung up")
    answer = json.loads(message[1:])
    if answer.get("error"):
        raise _REFUSALS.get(answer["status"], errors.Internal)(answer["error"])


class HttpNodeProxy:
    """Implements the API server's `NodeProxy` port for the one node, whose agent listens at `path`.

    `token` is what the agent wants to see.
    """

    def __init__(self, path: Path, token: str) -> None:
        self._path = path
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def get(self, node: str, path: str, query: Mapping[str, str]) -> AsyncIterator[_Answer]:
        try:
            async with self._opened().get(path, params=query) as response:
                yield _Answer(response.status, response.content_type, response)
        except aiohttp.ClientError as error:
            raise errors.Unavailable(f"the agent of node {node} does not answer: {error}") from error

    @asynccontextmanager
    async def connect(self, node: str, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[_Socket]:
        connecting = self._opened().ws_connect(path, params=query, max_msg_size=0, autoclose=False)
        try:
            socket = await connecting
        except aiohttp.ClientError as error:
            raise errors.Unavailable(f"the agent of node {node} does not answer: {error}") from error
        async with socket:
            speaking = _Socket(socket)
            _check(await speaking.receive())
            yield speaking

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A followed log is silent for as long as its container is.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
            connector = aiohttp.UnixConnector(str(self._path))
            self._session = aiohttp.ClientSession(
                "http://node", headers=self._headers, timeout=timeout, connector=connector
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
