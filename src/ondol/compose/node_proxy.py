"""Edge: how the API server reads from the node agent (container logs), over HTTP with a shared secret."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from ondol.base import errors


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.response.content.iter_any():
            yield chunk


class HttpNodeProxy:
    """Implements the API server's `NodeProxy` port; `token` is what the agent wants to see."""

    def __init__(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def get(
        self, address: str, port: int, path: str, query: Mapping[str, str]
    ) -> AsyncIterator[_Answer]:
        if self._session is None:
            # A followed log is silent for as long as its container is.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        try:
            async with self._session.get(f"http://{address}:{port}{path}", params=query) as response:
                yield _Answer(response.status, response.content_type, response)
        except aiohttp.ClientError as error:
            raise errors.Unavailable(
                f"the node agent at {address}:{port} does not answer: {error}"
            ) from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
