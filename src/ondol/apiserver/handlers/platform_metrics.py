"""Metrics as answers: this server's own at `/metrics`, the platform's at `/ondol/metrics` and below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ondol.api import own_paths
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply
from ondol.base import errors, metrics

PATHS = (own_paths.METRICS, own_paths.MESH_METRICS)


def own(core: Core) -> Reply:
    """What this server counted."""
    return _page(metrics.text(core.metrics.collect()))


async def get(core: Core, path: str) -> Reply:
    """The metrics of every part, a label `part` saying whose, or those of calls in the mesh.

    `Unavailable` without a platform.
    """
    read: Callable[[], Awaitable[bytes]] | None = core.config.platform_metrics
    if path == own_paths.MESH_METRICS:
        read = core.config.mesh_metrics
    if read is None:
        raise errors.Unavailable("this server is no part of a platform")
    return _page(await read())


def _page(text: bytes) -> Reply:
    return Reply(text, 200, metrics.CONTENT_TYPE.encode())
