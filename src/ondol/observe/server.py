"""The process: serves the application at its sockets, and forgets what is too old or too much."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread

from ondol.base import errors, log, unix_socket
from ondol.base.clock import Clock
from ondol.observe import app
from ondol.observe.metrics.parts import Exposition
from ondol.observe.traces.exports import Exports
from ondol.observe.traces.store import SpanStore
from ondol.web.serving import listen_tcp, serving

_FORGET_EVERY_S: Final = 60.0
_SWITCH_S: Final = 0.0005
"""How long a thread that writes an answer keeps Python's lock from those that store spans.

Python's own is ten times as long; they ask for it once a span.
"""


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
    expositions: Mapping[str, Exposition] = field(default_factory=dict)
    """Where the other parts show their metrics, by part."""
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
    sys.setswitchinterval(_SWITCH_S)
    store = await anyio.to_thread.run_sync(SpanStore, config.data_dir / "traces.db")
    exports = Exports(store, clock)
    application = app.application(store, exports, clock, config.expositions)
    try:
        async with contextlib.AsyncExitStack() as servers:
            await servers.enter_async_context(serving(application, unix_socket.listen(config.path)))
            if (intake := config.intake) is not None:
                for_pods = app.PodsOnly(application, ipaddress.IPv4Network(intake.pods))
                listening = listen_tcp(intake.host, intake.port, name=app.PART)
                await servers.enter_async_context(serving(for_pods, listening))
            task_status.started()
            await _forget_old(store, exports, config, clock)
    finally:
        store.close()


async def _forget_old(store: SpanStore, exports: Exports, config: ObserveConfig, clock: Clock) -> None:
    """Once at the start, then once a minute, and only after spans came in."""
    received = -1
    while True:
        if exports.counts.spans_received != received:
            received = exports.counts.spans_received
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
