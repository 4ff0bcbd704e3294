"""What `/metrics` shows: requests by verb, resource and code, and how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from ondol.apiserver.exchange import Request

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """Counts and latencies of requests."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, int], int] = defaultdict(int)
        self._latencies: dict[tuple[str, str, str], list[int]] = {}
        self._sums_s: dict[tuple[str, str, str], float] = defaultdict(float)

    def observe(self, request: Request, status: int, seconds: float) -> None:
        info = request.info
        verb = info.verb.upper()
        # Paths are unbounded, resources are not: a path counts under one name.
        labels = (verb, info.group, info.resource or "")
        self._counts[*labels, status] += 1
        if verb == "WATCH":
            return
        counts = self._latencies.get(labels)
        if counts is None:
            counts = self._latencies[labels] = [0] * (len(BUCKETS_S) + 1)
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._sums_s[labels] += seconds

    def text(self) -> str:
        """The exposition format of Prometheus."""
        return "\n".join([*self._request_lines(), *self._latency_lines()]) + "\n"

    def _request_lines(self) -> Iterator[str]:
        yield "# TYPE apiserver_request_total counter"
        for (verb, group, resource, code), count in sorted(self._counts.items()):
            labels = f'verb="{verb}",group="{group}",resource="{resource}",code="{code}"'
            yield f"apiserver_request_total{{{labels}}} {count}"

    def _latency_lines(self) -> Iterator[str]:
        name = "apiserver_request_duration_seconds"
        yield f"# TYPE {name} histogram"
        for (verb, group, resource), counts in sorted(self._latencies.items()):
            labels = f'verb="{verb}",group="{group}",resource="{resource}"'
            total = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
                total += count
                yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
            yield f"{name}_sum{{{labels}}} {self._sums_s[verb, group, resource]:.6f}"
            yield f"{name}_count{{{labels}}} {total}"
