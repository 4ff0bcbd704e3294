"""A span as it is kept and queried; times are integer nanoseconds since the Unix epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ondol.contracts import proxy

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
SERVICE_NAME: Final = "service.name"
STATUS_OK: Final = 1
STATUS_ERROR: Final = 2
ITEMS_MAX: Final = 128
"""Events, and links, that are kept of one span: as many as exporters send by default."""
_HEX: Final = re.compile(r"[0-9A-Fa-f]*")
_NO_HEX: Final = "?"
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_PARENT_DIGITS: Final = (16, 0)
_TIME_NS_MAX: Final = 2**63 - 1


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in a span."""

    time_ns: int
    name: str = ""
    attributes: Mapping[str, Any] = {}


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Another span, often of another trace, that a span has to do with; ids as those of spans."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any] = {}


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a span says that no search by column asks for; most spans say none of it."""

    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    resource: Mapping[str, Any] = {}
    """Attributes of what made the span, but for the service's name."""
    scope: str = ""
    scope_version: str = ""
    message: str = ""
    """Of the status."""
    is_ok: bool = False
    """Whether the status says so; most spans' says nothing."""
    trace_state: str = ""


NO_DETAILS: Final = Details()


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
    details: Details = NO_DETAILS

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns

    @property
    def callee(self) -> str:
        """The service a proxy's span says it called (`reviews`, or `reviews/v2`), empty if none."""
        return callee(self.attributes)

    @property
    def called(self) -> str:
        """The called service without its version."""
        return called(self.attributes)


class Row(NamedTuple):
    """A span as it is stored, column by column: attributes and details are JSON objects."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int
    error: bool
    attributes: bytes
    called: str
    details: bytes = b""
    """Empty if there are none."""


def row(span: Span) -> Row:
    """What is stored of a span."""
    return Row(
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.service,
        span.name,
        span.kind,
        span.start_ns,
        span.duration_ns,
        span.error,
        msgspec.json.encode(span.attributes),
        called(span.attributes),
        stored(span.details),
    )


def stored(details: Details) -> bytes:
    """What is stored of the details of a span."""
    return b"" if details == NO_DETAILS else msgspec.json.encode(details)


def links(pairs: Iterable[Link]) -> tuple[Link, ...]:
    """Those that name a span; others lead nowhere."""
    return tuple(
        link
        for link in pairs
        if len(link.trace_id) == len(_NO_TRACE)
        and len(link.span_id) == len(_NO_SPAN)
        and link.trace_id != _NO_TRACE
        and link.span_id != _NO_SPAN
    )


def callee(attributes: Mapping[str, Any]) -> str:
    """The service that a proxy called, and its version if the call was split; empty if none."""
    clusters = filter(None, (attributes.get(key) for key in proxy.CLUSTER_ATTRIBUTES))
    destination = proxy.destination(str(next(clusters, "")))
    if destination is None:
        return ""
    name = attributes.get(proxy.CALLEE_ATTRIBUTE) or destination.host.split(".", 1)[0]
    return f"{name}/{destination.subset}" if destination.subset else name


def called(attributes: Mapping[str, Any]) -> str:
    """The called service without its version: `reviews`, however the call was split."""
    return callee(attributes).partition("/")[0]


def service(resource: Mapping[str, Any]) -> str:
    """The name of the service whose resource has these attributes."""
    return str(resource.get(SERVICE_NAME) or "unknown")


def origin(resource: Mapping[str, Any], scope: str, scope_version: str) -> Details:
    """The details that all spans of a scope share."""
    others = {key: value for key, value in resource.items() if key != SERVICE_NAME}
    return Details(resource=others, scope=scope, scope_version=scope_version)


def parent(span_id: str) -> str:
    """The parent's id as it is kept: empty for a root, of which some exporters say that it is all zeros."""
    return "" if span_id == _NO_SPAN else span_id


def kind(number: int) -> str:
    """The word for a number of OTLP's `SpanKind`."""
    return KINDS[number] if 0 <= number < len(KINDS) else KINDS[0]


def identifier(text: str) -> str:
    """An id spelled as it is kept; one that is not in hex becomes one that cannot be."""
    return text.lower() if _HEX.fullmatch(text) else _NO_HEX


def mistake(span: Row) -> str:
    """Why a span, whose ids are hex, cannot be kept, in words; empty if it can."""
    if len(span.trace_id) != len(_NO_TRACE) or span.trace_id == _NO_TRACE:
        return "a trace id has 16 bytes that are not all zero"
    if (
        len(span.span_id) != len(_NO_SPAN)
        or span.span_id == _NO_SPAN
        or len(span.parent_id) not in _PARENT_DIGITS
    ):
        return "a span id has 8 bytes that are not all zero"
    if span.start_ns < 0 or span.start_ns + span.duration_ns > _TIME_NS_MAX:
        return "a time is between 1970 and 2262"
    return ""
