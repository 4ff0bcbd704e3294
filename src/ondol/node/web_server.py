"""The edge that serves the node's HTTP interface on a Unix socket; only this module knows uvicorn."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus

from ondol.base import unix_socket


class _Server(uvicorn.Server):
    """Signals belong to the process' owner, not to one of its parts."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    application: Any, path: Path, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve at the socket `path` until cancelled; `started` once it listens."""
    listening = unix_socket.listen(path)
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_to_its_end, server, listening)
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                server.should_exit = True
                server.force_exit = True
    finally:
        for each in server.servers:  # one that was told to end while it began has left them open
            each.close()
        listening.close()


async def _to_its_end(server: uvicorn.Server, listening: socket.socket) -> None:
    """Never cut short, for a server that is cancelled leaves its socket with the loop.

    The loop would take the next descriptor of that number for one that it watches already.
    """
    with anyio.CancelScope(shield=True):
        await server.serve([listening])
