"""The platform's own registry, where the setting asks for one: its socket, its password, its first request.

It is off unless `registry_port` is set. What it needs is loaded when somebody comes.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ondol.base import files
from ondol.base.clock import Clock
from ondol.base.host_ports import HostPort
from ondol.compose.settings import Settings
from ondol.web import serving
from ondol.web.application import Asgi, Receive, Scope, Send

ADDRESS: Final = "127.0.0.1"
USER: Final = "ondol"


def host(settings: Settings) -> str:
    """How images of it are named."""
    return f"localhost:{settings.registry_port}"


def reserved_ports(settings: Settings) -> frozenset[HostPort]:
    """What no pod is given."""
    port = settings.registry_port
    return frozenset({HostPort("TCP", ADDRESS, port)} if port else ())


def password(data_dir: Path) -> str:
    """What writing takes: readable by the owner of the platform alone."""
    file = data_dir / "pki" / "registry.password"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.replace(file, secrets.token_urlsafe(24).encode())
    return file.read_text(encoding="ascii")


@contextlib.asynccontextmanager
async def served(settings: Settings, clock: Clock) -> AsyncIterator[None]:
    """The registry inside the block, if there is to be one."""
    if not settings.registry_port:
        yield
        return
    listening = serving.listen_tcp(ADDRESS, settings.registry_port, name="the registry of images")
    async with serving.serving(_Late(settings, clock), listening):
        yield


class _Late:
    """The application, made by its first request."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._application: Asgi | None = None
        self._lock = anyio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._application or await self._first()
        await application(scope, receive, send)

    async def _first(self) -> Asgi:
        async with self._lock:
            if self._application is None:
                self._application = await anyio.to_thread.run_sync(self._new)
            return self._application

    def _new(self) -> Asgi:
        from ondol.build.registry import server  # noqa: PLC0415 - see the module
        from ondol.build.store import ImageStore  # noqa: PLC0415 - likewise

        data_dir = self._settings.data_dir
        store = ImageStore(data_dir / "images")
        return server.application(store, host(self._settings), self._clock, (USER, password(data_dir)))
