"""The life of a server: what is made at start, and what runs beside the requests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from ondol.apiserver import bootstrap
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Receive, Send
from ondol.base import errors, log

_RESTART_S = 1.0

Task = Callable[[], Coroutine[Any, Any, None]]


class Lifecycle:
    """Answers the ASGI lifespan protocol."""

    def __init__(self, core: Core, tasks: Sequence[Task], *, load: Callable[[], None]) -> None:
        self._core = core
        self._tasks = tasks
        self._load = load

    async def run(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._load()
            await bootstrap.begin(self._core)
        except errors.OndolError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        async with anyio.create_task_group() as group:
            for task in self._tasks:
                group.start_soon(self._keep_running, task)
            self._core.ready = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._core.ready = False
            group.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep_running(self, task: Task) -> None:
        """Run a task; one that fails is logged and started again, and requests go on meanwhile."""
        while True:
            try:
                await task()
            except Exception as error:  # noqa: BLE001 - whatever it was, it was logged
                log.get("apiserver").error("background_task_failed", exc_info=error)
            await self._core.clock.sleep(_RESTART_S)
