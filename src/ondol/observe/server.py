"""Edge: serves the application with uvicorn, and forgets what is too old."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import uvicorn

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.observe.app import App
from ondol.observe.store import SpanStore


@dataclass(frozen=True, slots=True)
class ObserveConfig:
    """Where to listen, where to keep, and for how long."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 16686
    retention_s: float = 24 * 3600.0
    spans_max: int = 1_000_000


async def run(
    config: ObserveConfig,
    clock: Clock,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` once the port is open."""
    store = SpanStore(config.data_dir / "traces.db")
    app = App(store, clock)
    listening = _bind(config)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    )
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_forget_old, store, app, config, clock)
            task_status.started()
            try:
                await server.serve(sockets=[listening])
            finally:
                group.cancel_scope.cancel()
    finally:
        store.close()


def _bind(config: ObserveConfig) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise errors.HostError(
            f"port {config.port} of {config.host} is in use",
            remedy=f"stop what listens on it: ss -ltnp 'sport = :{config.port}'",
        ) from error
    listening.listen(512)
    return listening


async def _forget_old(store: SpanStore, app: App, config: ObserveConfig, clock: Clock) -> None:
    """Once a minute, and only after spans came in."""
    seen = 0
    while True:
        await clock.sleep(60.0)
        if app.spans_received != seen:
            seen = app.spans_received
            before_ns = int((clock.now() - config.retention_s) * 1e9)
            await anyio.to_thread.run_sync(
                lambda: store.forget(before_ns=before_ns, keep_spans=config.spans_max)  # noqa: B023 - awaited here
            )
