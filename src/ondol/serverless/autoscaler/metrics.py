"""How busy each revision is, from the proxy's own counters.

The port `ProxyMetrics` is what the autoscaler needs; `prometheus_text` reads the proxy's answer.
A gauge read a few times a second is unfair to short requests and a sum of finished requests to
long ones, so `Busyness` uses both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ondol.contracts import proxy

_LINE: Final = re.compile(
    rf"^envoy_cluster_(?P<name>{proxy.ACTIVE}|{proxy.TOTAL}|{proxy.TIME}_(?:sum|count))"
    r"\{(?P<labels>[^}]*)\} (?P<value>\S+)$",
    re.MULTILINE,
)
_CLUSTER: Final = re.compile(rf'{proxy.CLUSTER_LABEL}="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Counters:
    """What the proxy says of one cluster; counters since its start, `active` now."""

    active: float = 0.0
    total: float = 0.0
    time_sum_ms: float = 0.0
    time_count: float = 0.0


class ProxyMetrics(Protocol):
    """The proxy, asked."""

    async def counters(self) -> Mapping[str, Counters]:
        """Counters by cluster name; raises `OSError` while the proxy does not answer."""
        ...

    async def hosts(self, cluster: str) -> frozenset[str]:
        """The `address:port` the proxy would send the cluster's requests to now."""
        ...


def prometheus_text(text: str) -> dict[str, Counters]:
    """Read the proxy's Prometheus page."""
    by_cluster: dict[str, dict[str, float]] = {}
    for match in _LINE.finditer(text):
        if (name := _CLUSTER.search(match["labels"])) is not None:
            by_cluster.setdefault(name[1], {})[match["name"]] = float(match["value"])
    return {
        name: Counters(
            active=values.get(proxy.ACTIVE, 0.0),
            total=values.get(proxy.TOTAL, 0.0),
            time_sum_ms=values.get(f"{proxy.TIME}_sum", 0.0),
            time_count=values.get(f"{proxy.TIME}_count", 0.0),
        )
        for name, values in by_cluster.items()
    }


class Busyness:
    """Turns successive counters of one revision into concurrency and requests a second."""

    def __init__(self) -> None:
        self._last: tuple[float, Counters] | None = None

    def sample(self, now_s: float, counters: Counters) -> tuple[float, float] | None:
        """Mean concurrency and request rate since the last call; None on the first or after a restart."""
        last, self._last = self._last, (now_s, counters)
        if last is None or counters.total < last[1].total or now_s <= last[0]:
            return None
        elapsed_s = now_s - last[0]
        finished = counters.time_count - last[1].time_count
        spent_s = (counters.time_sum_ms - last[1].time_sum_ms) / 1000.0
        rate = (counters.total - last[1].total) / elapsed_s
        # Little's law holds for requests that begin and end within the interval; a longer one would
        # count all of its time in the interval it ends in, so then the gauge alone is believed.
        short = finished > 0 and spent_s / finished < elapsed_s
        concurrency = max(counters.active, spent_s / elapsed_s) if short else counters.active
        return concurrency, rate
