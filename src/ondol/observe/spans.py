"""A span as it is kept and queried; times are integer nanoseconds since the Unix epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_TRACE_ID: Final = re.compile(r"(?!0+$)[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0+$)[0-9a-f]{16}")
_TIME_NS_MAX: Final = 2**63 - 1
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


def mistake(span: Span) -> str:
    """Why a span cannot be kept, in words; empty if it can."""
    if not _TRACE_ID.fullmatch(span.trace_id):
        return "a trace id has 16 bytes that are not all zero"
    if not _SPAN_ID.fullmatch(span.span_id) or (span.parent_id and not _SPAN_ID.fullmatch(span.parent_id)):
        return "a span id has 8 bytes that are not all zero"
    if span.start_ns < 0 or span.end_ns > _TIME_NS_MAX:
        return "a time is between 1970 and 2262"
    return ""
