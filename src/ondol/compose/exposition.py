"""The metrics of the parts: each shows a page at a socket of the run folder, `observe` merges them.

The merged page is `/ondol/metrics` of the API server, which asks `observe` for it.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio.to_thread

from ondol.api import own_paths
from ondol.base import errors, metrics, unix_socket
from ondol.base.metrics import Collector
from ondol.base.unix_http import UnixConnection
from ondol.compose.instance import Instance
from ondol.compose.settings import Settings
from ondol.contracts import telemetry
from ondol.observe.metrics.parts import PROXY, Exposition
from ondol.web import exposition, serving

_PARTS: Final = ("supervisor", "api", "control", "node", "gateway", "events")
"""Those that show a page of their own; the supervisor by `supervisor_metrics`.

`observe` has its own at hand, and Envoy its admin page.
"""
_ON_DEMAND: Final = frozenset({"events"})
_ENVOY: Final = "/stats/prometheus?usedonly"
_TIMEOUT_S: Final = 10.0


def expositions(instance: Instance, settings: Settings) -> dict[str, Exposition]:
    """Where the parts show their metrics, by part."""
    absent = {part for part, is_there in _conditional(settings) if not is_there}
    by_part = {
        part: Exposition(_socket(instance, part), exposition.PATH, is_optional=part in _ON_DEMAND)
        for part in _PARTS
        if part not in absent
    }
    counted = f"envoy_{telemetry.PREFIX}"  # they have a page of their own
    envoy = Exposition(instance.socket(f"{PROXY}-admin"), _ENVOY, leaves_out=counted)
    return by_part | {PROXY: envoy}


def _conditional(settings: Settings) -> tuple[tuple[str, bool], ...]:
    """The parts that settings may leave out, and whether they are there."""
    return ("gateway", settings.serverless), ("events", settings.eventing)


@contextlib.asynccontextmanager
async def exposed(instance: Instance, part: str, *collectors: Collector) -> AsyncIterator[metrics.Page]:
    """Show a part's metrics inside the block; collectors may be added to the page."""
    page = metrics.Page(*collectors)
    listening = unix_socket.listen(_socket(instance, part))
    async with serving.serving(exposition.application(page), listening, grace_s=0):
        yield page


async def page(instance: Instance, path: str = own_paths.METRICS) -> bytes:
    """The merged page, or another of `observe`'s; `Unavailable` if it does not answer."""
    return await anyio.to_thread.run_sync(read, instance, path)


def read(instance: Instance, path: str = own_paths.METRICS) -> bytes:
    """Likewise, for who need not go on meanwhile."""
    connection = UnixConnection(str(instance.socket("observe")), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise errors.Unavailable(f"observe does not answer: {error}", retry_after_s=1) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise errors.Unavailable(f"observe answered {answer.status} {answer.reason}", retry_after_s=1)
    return body


def _socket(instance: Instance, part: str) -> Path:
    return instance.socket(f"{part}-metrics")
