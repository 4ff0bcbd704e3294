"""A transport that acts as another user: every request says so, and the server looks at that user's rights.

Used by who reads on behalf of a service account. The caller itself needs RBAC's `impersonate` on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from ondol.client.transport import Call, Response, StreamResponse, Transport

_USER: Final = "impersonate-user"


class ImpersonatingTransport:
    """Wraps another transport, which stays its owner's to close."""

    def __init__(self, inner: Transport, user: str) -> None:
        self._inner = inner
        self._user = user

    async def request(self, call: Call) -> Response:
        return await self._inner.request(self._as_user(call))

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamResponse]:
        async with self._inner.stream(self._as_user(call)) as answer:
            yield answer

    async def aclose(self) -> None:
        """Nothing: the connections are the wrapped transport's."""

    def _as_user(self, call: Call) -> Call:
        return replace(call, headers={**call.headers, _USER: self._user})
