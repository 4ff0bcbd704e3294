"""A runtime whose calls are counted, under the names that the kubelet has for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from ondol.base.clock import Clock
from ondol.node.metrics.activity import Activity
from ondol.node.runtime.port import Command, Creation, ExecResult, Exit, Handle, Runtime, Session
from ondol.node.runtime.spec import Limits


class CountedRuntime:
    """Hands every call on; implements `Runtime`."""

    def __init__(self, runtime: Runtime, activity: Activity, clock: Clock) -> None:
        self._runtime = runtime
        self._activity = activity
        self._clock = clock

    @property
    def name(self) -> str:
        return self._runtime.name

    @property
    def version(self) -> str:
        return self._runtime.version

    async def has_handler(self, name: str) -> bool:
        return await self._runtime.has_handler(name)

    async def create(self, creation: Creation) -> Handle:
        with self._activity.call("create_container", self._clock):
            return await self._runtime.create(creation)

    async def start(self, handle: Handle) -> None:
        with self._activity.call("start_container", self._clock):
            await self._runtime.start(handle)

    async def wait(self, handle: Handle) -> Exit:
        return await self._runtime.wait(handle)

    def is_running(self, handle: Handle) -> bool:
        return self._runtime.is_running(handle)

    def signal(self, handle: Handle, number: int) -> None:
        with self._activity.call("stop_container", self._clock):
            self._runtime.signal(handle, number)

    async def exec(self, handle: Handle, args: Sequence[str], timeout_s: float) -> ExecResult:
        with self._activity.call("exec_sync", self._clock):
            return await self._runtime.exec(handle, args, timeout_s)

    @contextlib.asynccontextmanager
    async def command(self, handle: Handle, command: Command) -> AsyncIterator[Session]:
        async with contextlib.AsyncExitStack() as stack:
            with self._activity.call("exec", self._clock):
                session = await stack.enter_async_context(self._runtime.command(handle, command))
            yield session

    @contextlib.asynccontextmanager
    async def attach(self, handle: Handle, *, stdin: bool) -> AsyncIterator[Session]:
        async with contextlib.AsyncExitStack() as stack:
            with self._activity.call("attach", self._clock):
                session = await stack.enter_async_context(self._runtime.attach(handle, stdin=stdin))
            yield session

    async def update(self, handle: Handle, limits: Limits) -> None:
        with self._activity.call("update_container", self._clock):
            await self._runtime.update(handle, limits)

    async def reopen_log(self, handle: Handle) -> None:
        with self._activity.call("reopen_container_log", self._clock):
            await self._runtime.reopen_log(handle)

    async def delete(self, container_id: str) -> None:
        with self._activity.call("remove_container", self._clock):
            await self._runtime.delete(container_id)

    def container_ids(self) -> list[str]:
        with self._activity.call("list_containers", self._clock):
            return self._runtime.container_ids()
