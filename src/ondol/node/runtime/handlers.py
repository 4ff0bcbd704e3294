"""Several runtimes as one: the node's own, and others by the names that RuntimeClasses call them.

Another runtime is looked for, and tried, when the first container asks for it. Which one has made a container
is kept beside it, and in its handle.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from ondol.base import errors, files
from ondol.node.runtime import spec
from ondol.node.runtime.port import (
    Command,
    Creation,
    ExecResult,
    Exit,
    Handle,
    Runtime,
    RuntimeFailed,
    Session,
)

_FILE = "handler"


class Runtimes:
    """The `Runtime` over all of them; `find` makes one by its name, `HostError` if there is none."""

    def __init__(self, own: Runtime, bundles: Path, find: Callable[[str], Awaitable[Runtime]]) -> None:
        self._own = own
        self._bundles = bundles
        self._find = find
        self._others: dict[str, Runtime] = {own.name: own}
        self._finding = anyio.Lock()

    @property
    def name(self) -> str:
        return self._own.name

    @property
    def version(self) -> str:
        return self._own.version

    async def has_handler(self, name: str) -> bool:
        try:
            await self._named(name)
        except errors.HostError:
            return False
        return True

    async def _named(self, name: str) -> Runtime:
        if not name:
            return self._own
        async with self._finding:
            if name not in self._others:
                self._others[name] = await self._find(name)
        return self._others[name]

    async def create(self, creation: Creation) -> Handle:
        if creation.handler in ("", self._own.name):
            return await self._own.create(creation)
        runtime = await self._named(creation.handler)
        await anyio.to_thread.run_sync(self._note, creation)
        return msgspec.structs.replace(await runtime.create(creation), runtime=creation.handler)

    def _note(self, creation: Creation) -> None:
        bundle = self._bundles / creation.id
        bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
        (bundle / _FILE).write_text(creation.handler)

    async def start(self, handle: Handle) -> None:
        await (await self._named(handle.runtime)).start(handle)

    async def wait(self, handle: Handle) -> Exit:
        return await self._own.wait(handle)

    def is_running(self, handle: Handle) -> bool:
        return self._own.is_running(handle)

    def signal(self, handle: Handle, number: int) -> None:
        self._own.signal(handle, number)

    async def exec(self, handle: Handle, args: Sequence[str], timeout_s: float) -> ExecResult:
        return await (await self._named(handle.runtime)).exec(handle, args, timeout_s)

    @contextlib.asynccontextmanager
    async def command(self, handle: Handle, command: Command) -> AsyncIterator[Session]:
        runtime = await self._named(handle.runtime)
        async with runtime.command(handle, command) as session:
            yield session

    @contextlib.asynccontextmanager
    async def attach(self, handle: Handle, *, stdin: bool) -> AsyncIterator[Session]:
        async with self._own.attach(handle, stdin=stdin) as session:
            yield session

    async def update(self, handle: Handle, limits: spec.Limits) -> None:
        await (await self._named(handle.runtime)).update(handle, limits)

    async def reopen_log(self, handle: Handle) -> None:
        await self._own.reopen_log(handle)

    async def delete(self, container_id: str) -> None:
        name = (files.read(self._bundles / container_id / _FILE) or b"").decode()
        try:
            runtime = await self._named(name)
        except errors.HostError as error:
            raise RuntimeFailed(str(error)) from error
        await runtime.delete(container_id)

    def container_ids(self) -> list[str]:
        return self._own.container_ids()
