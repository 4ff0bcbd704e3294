"""Edge: how the API server reads from the node agent (container logs): HTTP on its socket, with a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

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
        if self._session is None:
            # A followed log is silent for as long as its container is.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
            connector = aiohttp.UnixConnector(str(self._path))
            self._session = aiohttp.ClientSession(
                "http://node", headers=self._headers, timeout=timeout, connector=connector
            )
        try:
            async with self._session.get(path, params=query) as response:
                yield _Answer(response.status, response.content_type, response)
        except aiohttp.ClientError as error:
            raise errors.Unavailable(f"the agent of node {node} does not answer: {error}") from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
