"""Edge: the proxy's administration page, over HTTP on its Unix socket."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp

from ondol.contracts import proxy
from ondol.contracts.serving import HTTP_PORT
from ondol.serverless.autoscaler import metrics
from ondol.serverless.autoscaler.metrics import Counters

_REVISIONS: Final = re.escape(proxy.statistic(proxy.cluster_name("", HTTP_PORT), ""))
_FILTER: Final = f"^{_REVISIONS.removesuffix(re.escape('.'))}.*({'|'.join(proxy.REQUESTS)})$"
_TIMEOUT_S: Final = 2.0


class EnvoyAdmin:
    """Implements `ProxyMetrics` for Envoy, whose admin listener is at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: aiohttp.ClientSession | None = None

    async def counters(self) -> Mapping[str, Counters]:
        query = urllib.parse.urlencode({"usedonly": "", "filter": _FILTER})
        return metrics.prometheus_text(await self._get(f"/stats/prometheus?{query}"))

    async def hosts(self, cluster: str) -> frozenset[str]:
        prefix = f"{cluster}::"
        lines = (await self._get("/clusters")).splitlines()
        ends = "::cx_active::"
        return frozenset(
            line[len(prefix) :].split("::", 1)[0]
            for line in lines
            if line.startswith(prefix) and ends in line
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _get(self, path: str) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                "http://envoy",
                connector=aiohttp.UnixConnector(str(self._path)),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            )
        try:
            async with self._session.get(path) as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"the proxy does not answer: {error}") from error
