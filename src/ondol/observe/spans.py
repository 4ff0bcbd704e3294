"""A span as it is kept and queried; times are integer nanoseconds since the Unix epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_CLUSTER: Final = re.compile(r"(?:outbound\|\d+\|(?P<subset>[^|]*)\|)(?P<host>[^|]+)")


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span; ids are lower-case hex (32 and 16 digits), `parent_id` is empty for a root."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    service: str
    name: str
    kind: str = "internal"
    start_ns: int
    duration_ns: int
    error: bool = False
    attributes: Mapping[str, Any] = {}

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns

    @property
    def callee(self) -> str:
        """The service a proxy's span says it called (`reviews`, or `reviews/v2`), empty if none."""
        cluster = str(
            self.attributes.get("upstream_cluster.name") or self.attributes.get("upstream_cluster") or ""
        )
        match = _CLUSTER.search(cluster)
        if match is None:
            return ""
        name = match["host"].split(".", 1)[0]
        return f"{name}/{match['subset']}" if match["subset"] else name

    @property
    def called(self) -> str:
        """The called service without its version: `reviews`, however the call was split."""
        return self.callee.partition("/")[0]
