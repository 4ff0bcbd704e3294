"""What the name server counts, under CoreDNS' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ondol.base import metrics
from ondol.base.metrics import Family, Histogram
from ondol.node.dns import codec


@dataclass(slots=True)
class Counts:
    """Since the start of the node; who counts knows the labels."""

    server: str = ""
    """`dns://` and where it listens, the first label of all."""
    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By zone, protocol and type."""
    responses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By zone, code and who answered."""
    seconds: dict[str, Histogram] = field(default_factory=dict)
    """By zone."""
    hits: Counter[str] = field(default_factory=Counter)
    """By kind of what was in the cache."""
    misses: int = 0
    stale: int = 0
    rejected: int = 0
    upstream: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    """Seconds by server and code."""

    def answered(self, zone: str, code: int, by: str, seconds: float) -> None:
        self.responses[zone, codec.CODES.get(code, str(code)), by] += 1
        if zone not in self.seconds:
            self.seconds[zone] = Histogram()
        self.seconds[zone].observe(seconds)

    def asked(self, zone: str, protocol: str, record_type: int) -> None:
        self.requests[zone, protocol, codec.TYPES.get(record_type, "other")] += 1

    def heard(self, server: str, code: str, seconds: float) -> None:
        if (server, code) not in self.upstream:
            self.upstream[server, code] = Histogram()
        self.upstream[server, code].observe(seconds)


def families(counts: Counts, cached: Callable[[], int]) -> Iterator[Family]:
    """All of it; `cached` is how many entries the cache has."""
    at = counts.server
    yield metrics.counter(
        "coredns_dns_requests_total",
        "Questions.",
        {(at, zone, protocol, "1", kind): n for (zone, protocol, kind), n in counts.requests.items()},
        ("server", "zone", "proto", "family", "type"),
    )
    yield metrics.counter(
        "coredns_dns_responses_total",
        "Answers, by code and by who gave them.",
        {(at, *labels): n for labels, n in counts.responses.items()},
        ("server", "zone", "rcode", "plugin"),
    )
    yield metrics.histogram(
        "coredns_dns_request_duration_seconds",
        "Seconds an answer took.",
        {(at, zone): observed for zone, observed in counts.seconds.items()},
        ("server", "zone"),
    )
    hits = sum(counts.hits.values())
    yield metrics.counter(
        "coredns_cache_hits_total",
        "Questions answered from the cache.",
        {(at, kind, "."): n for kind, n in counts.hits.items()},
        ("server", "type", "zones"),
    )
    where = {(at, "."): counts.misses}
    yield metrics.counter("coredns_cache_misses_total", "Others.", where, ("server", "zones"))
    asked = {(at, "."): hits + counts.misses}
    yield metrics.counter("coredns_cache_requests_total", "All of them.", asked, ("server", "zones"))
    stale = {(at, "."): counts.stale}
    yield metrics.counter(
        "coredns_cache_served_stale_total", "Answers that held no more.", stale, ("server", "zones")
    )
    entries = {(at, "."): cached()}
    yield metrics.gauge("coredns_cache_entries", "What the cache has.", entries, ("server", "zones"))
    yield metrics.counter(
        "coredns_forward_max_concurrent_rejects_total",
        "Questions refused because too many waited.",
        {(): counts.rejected},
    )
    yield metrics.histogram(
        "coredns_proxy_request_duration_seconds",
        "Seconds another name server took.",
        {("forward", *labels): observed for labels, observed in counts.upstream.items()},
        ("proxy_name", "to", "rcode"),
    )
