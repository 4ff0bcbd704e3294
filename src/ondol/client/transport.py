"""The port between `Client` and whatever carries its requests: HTTP, or an ASGI app in this process.

Implementations: `client.http.HttpTransport`, `client.asgi.AsgiTransport`, and the fault-injecting one
of `sdk.testing`. A transport knows nothing of kinds or Status documents.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ondol.base import errors


class ConnectionLost(errors.Unavailable):
    """The connection broke before or while the answer came: the request may have taken effect."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """An answer whose body arrives in chunks as long as its context is open."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """Carries one request to the API server.

    Both methods raise `errors.Unavailable` when nothing answers, `ConnectionLost` when the
    connection broke part-way and `errors.Timeout` when the answer takes too long. Any HTTP
    status is returned, not raised.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Response: ...

    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> AbstractAsyncContextManager[StreamResponse]: ...

    async def aclose(self) -> None: ...
