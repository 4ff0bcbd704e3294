"""The port between `Client` and whatever carries its requests: HTTP, or an ASGI app in this process.

Implementations: `client.http.HttpTransport`, `client.asgi.AsgiTransport`, and the fault-injecting one
of `sdk.testing`. A transport knows nothing of kinds or Status documents.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from ondol.base import errors

_WARNING: Final = re.compile(r'\b299 \S+ "((?:[^"\\]|\\.)*)"')


class ConnectionLost(errors.Unavailable):
    """The connection broke before or while the answer came: the request may have taken effect."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `path` has no query, and neither of them is percent-encoded."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


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


class MessageSocket(Protocol):
    """A WebSocket that was opened: messages of bytes both ways."""

    async def receive(self) -> bytes | None:
        """The next message; None at the end."""
        ...

    async def send(self, message: bytes) -> None:
        """Nothing once the server is gone."""
        ...


@runtime_checkable
class Conversing(Protocol):
    """A transport that can open WebSockets as well."""

    def converse(
        self, path: str, query: Sequence[tuple[str, str]], protocol: str
    ) -> AbstractAsyncContextManager[MessageSocket]:
        """Open one; what the server refuses is raised as an `ApiError` of its status."""
        ...


class Transport(Protocol):
    """Carries one request to the API server.

    Both methods raise `errors.Unavailable` when nothing answers, `ConnectionLost` when the
    connection broke part-way and `errors.Timeout` when the answer takes too long. Any HTTP
    status is returned, not raised.
    """

    async def request(self, call: Call) -> Response: ...

    def stream(self, call: Call) -> AbstractAsyncContextManager[StreamResponse]: ...

    async def aclose(self) -> None: ...


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name; the values of a repeated header are joined by commas."""
    by_name: dict[str, str] = {}
    for name, value in headers:
        by_name[name] = f"{by_name[name]}, {value}" if name in by_name else value
    return by_name


def warnings(headers: Mapping[str, str]) -> list[str]:
    """The texts of an answer's `Warning` headers."""
    return [re.sub(r"\\(.)", r"\1", text) for text in _WARNING.findall(headers.get("warning", ""))]
