"""Spans as parts of the platform hand them to who keeps them: the header of a trace, OTLP's JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ondol.api.objects import Object

TRACES_PATH: Final = "/v1/traces"
"""Where requests of OTLP are posted to."""
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED: Final = 1
_NO_VERSION: Final = "ff"


class Parent(NamedTuple):
    """The span that a request came with, and whether its trace is recorded."""

    trace_id: str
    span_id: str
    is_sampled: bool = True


def parent(traceparent: str) -> Parent | None:
    """What W3C's header says; None for no header, or a wrong one."""
    match = _PARENT.fullmatch(traceparent.strip().lower())
    if match is None or match[1] == _NO_VERSION or not match[2].strip("0") or not match[3].strip("0"):
        return None
    return Parent(match[2], match[3], bool(int(match[4], 16) & _SAMPLED))


def attribute(name: str, value: str | int) -> Object:
    typed = {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
    return {"key": name, "value": typed}


def span(within: Parent, span_id: str, name: str, *, kind: int, start_ns: int, end_ns: int) -> Object:
    """A span; `within` has an empty `span_id` for one that begins its trace."""
    document: dict[str, Any] = {
        "traceId": within.trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(max(start_ns, end_ns)),
    }
    if within.span_id:
        document["parentSpanId"] = within.span_id
    return document


def request(spans: Sequence[Object], service: str) -> Object:
    """The request that hands in spans of a service."""
    resource = {"attributes": [attribute("service.name", service)]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}
