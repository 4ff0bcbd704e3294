"""Edge: serves the application with uvicorn, and forgets what is too old or too much."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import uvicorn

from ondol.base import errors, log, unix_socket
from ondol.base.clock import Clock
from ondol.observe.app import App, PodsOnly
from ondol.observe.store import SpanStore

_FORGET_EVERY_S: Final = 60.0
_IP_FREEBIND: Final = 15


@dataclass(frozen=True, slots=True)
class Intake:
    """Where pods hand in spans: an address that may come up later (a bridge's), and the pods' network."""

    host: str
    port: int
    pods: str


@dataclass(frozen=True, slots=True)
class ObserveConfig:
    """Where to listen, where to keep, and for how long."""

    data_dir: Path
    path: Path
    """The socket at which the user who runs this may ask everything, and Envoy sends its spans."""
    intake: Intake | None = None
    retention_s: float = 24 * 3600.0
    spans_max: int = 1_000_000
    bytes_max: int = 1 << 30


async def run(
    config: ObserveConfig,
    clock: Clock,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` once requests are answered."""
    store = await anyio.to_thread.run_sync(SpanStore, config.data_dir / "traces.db")
    app = App(store, clock)
    try:
        async with contextlib.AsyncExitStack() as serving:
            await serving.enter_async_context(_serving(app, unix_socket.listen(config.path)))
            if config.intake is not None:
                for_pods = PodsOnly(app, ipaddress.IPv4Network(config.intake.pods))
                await serving.enter_async_context(_serving(for_pods, _bind(config.intake)))
            task_status.started()
            await _forget_old(store, app, config, clock)
    finally:
        store.close()


@contextlib.asynccontextmanager
async def _serving(app: App | PodsOnly, listening: socket.socket) -> AsyncIterator[None]:
    """Serve inside the block. Signals are left to the process, and an idle server does not tick."""
    settings = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,  # uvicorn makes it on its tick
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    settings.load()
    server = uvicorn.Server(settings)
    server.lifespan = settings.lifespan_class(settings)
    await server.startup(sockets=[listening])
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await server.shutdown(sockets=[listening])


def _bind(intake: Intake) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    host, port = intake.host, intake.port
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            message, remedy = "it is in use", f"stop what listens on it: ss -ltnp 'sport = :{port}'"
        else:
            message, remedy = str(error.strerror), "choose an address of this machine (ip addr)"
        raise errors.HostError(f"observe cannot listen on {host}:{port}: {message}", remedy=remedy) from error
    return listening


async def _forget_old(store: SpanStore, app: App, config: ObserveConfig, clock: Clock) -> None:
    """Once at the start, then once a minute, and only after spans came in."""
    seen = -1
    while True:
        if app.counts.spans_received != seen:
            seen = app.counts.spans_received
            before_ns = int((clock.now() - config.retention_s) * 1e9)
            forget = partial(
                store.forget,
                before_ns=before_ns,
                keep_spans=config.spans_max,
                keep_bytes=config.bytes_max,
            )
            try:
                await anyio.to_thread.run_sync(forget)
            except errors.Unavailable:
                log.get("observe").warning("forgetting_postponed")  # the store has said why
        await clock.sleep(_FORGET_EVERY_S)
