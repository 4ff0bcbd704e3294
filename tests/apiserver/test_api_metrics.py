"""Metrics of the whole platform, through the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ondol import apiserver, store

PATH = "/ondol/metrics"


async def test_who_may_read_metrics_reads_those_of_every_part(start: Callable[..., Any]) -> None:
    """Administrators and whoever has the role `system:monitoring`; nobody else."""

    async def page() -> bytes:
        return b'up{part="node"} 1\n'

    log = store.open_memory()

    async def calls() -> bytes:
        return b"istio_requests_total 1\n"

    config = apiserver.ApiConfig(platform_metrics=page, mesh_metrics=calls)
    async with start(log, config) as api:
        for who in (api, api.as_("prometheus", "system:monitoring")):
            answer = await who.get(PATH)
            assert (answer.status, answer.body) == (200, b'up{part="node"} 1\n')
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            answer = await who.get(f"{PATH}/mesh")
            assert (answer.status, answer.body) == (200, b"istio_requests_total 1\n")
        for path in (PATH, f"{PATH}/mesh"):
            assert (await api.as_("bob").get(path)).status == 403
        assert (await api("POST", PATH)).status == 405
    log.close()


async def test_a_server_without_a_platform_says_so(api: Any) -> None:
    """Its own metrics are there all the same."""
    for path in (PATH, f"{PATH}/mesh"):
        assert (await api.get(path)).status == 503
    assert (await api.get("/metrics")).status == 200
