"""Metrics as answers: this server's own at `/metrics`, those of the whole platform at `/ondol/metrics`."""

from __future__ import annotations

from ondol.api import own_paths
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply
from ondol.base import errors, metrics

PATH = own_paths.METRICS


def own(core: Core) -> Reply:
    """What this server counted."""
    return _page(metrics.text(core.metrics.collect()))


async def get(core: Core) -> Reply:
    """The metrics of every part, a label `part` saying whose; `Unavailable` without a platform."""
    if core.config.platform_metrics is None:
        raise errors.Unavailable("this server is no part of a platform")
    return _page(await core.config.platform_metrics())


def _page(text: bytes) -> Reply:
    return Reply(text, 200, metrics.CONTENT_TYPE.encode())
