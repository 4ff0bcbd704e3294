"""Istio's Telemetry as frozen structs: every field of Istio's, and no other (see `model.istio`)."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ondol.contracts import telemetry
from ondol.mesh.model.istio import Percentage, Struct, Unsupported
from ondol.mesh.model.security import Attached

Mode: TypeAlias = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Metric: TypeAlias = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]
METRICS: Final[dict[str, str]] = {
    "REQUEST_COUNT": telemetry.REQUESTS,
    "REQUEST_DURATION": telemetry.DURATION,
    "REQUEST_SIZE": telemetry.REQUEST_BYTES,
    "RESPONSE_SIZE": telemetry.RESPONSE_BYTES,
    "TCP_OPENED_CONNECTIONS": telemetry.TCP_OPENED,
    "TCP_CLOSED_CONNECTIONS": telemetry.TCP_CLOSED,
    "TCP_SENT_BYTES": telemetry.TCP_SENT,
    "TCP_RECEIVED_BYTES": telemetry.TCP_RECEIVED,
    "GRPC_REQUEST_MESSAGES": telemetry.REQUEST_MESSAGES,
    "GRPC_RESPONSE_MESSAGES": telemetry.RESPONSE_MESSAGES,
}
"""The metrics, by Istio's words for them."""


class ProviderRef(Struct, frozen=True):
    name: str = ""


# Metrics


class MetricSelector(Struct, frozen=True):
    metric: Metric | None = None
    custom_metric: str = ""
    mode: Mode = "CLIENT_AND_SERVER"

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics it is for; none that are not known."""
        if self.custom_metric:
            name = f"{telemetry.PREFIX}{self.custom_metric}"
            return (name,) if name in METRICS.values() else ()
        if self.metric is None or self.metric == "ALL_METRICS":
            return tuple(METRICS.values())
        return (METRICS[self.metric],)


class TagOverride(Struct, frozen=True):
    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverrides(Struct, frozen=True):
    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = msgspec.field(default_factory=dict)


class Metrics(Struct, frozen=True):
    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverrides, ...] = ()
    reporting_interval: Unsupported = None


# Tracing


class LiteralTag(Struct, frozen=True):
    value: str = ""


class EnvironmentTag(Struct, frozen=True):
    name: str = ""
    default_value: str = ""


class HeaderTag(Struct, frozen=True):
    name: str = ""
    default_value: str = ""


class FormatterTag(Struct, frozen=True):
    value: str = ""


class CustomTag(Struct, frozen=True):
    """One of the four."""

    literal: LiteralTag | None = None
    environment: EnvironmentTag | None = None
    header: HeaderTag | None = None
    formatter: FormatterTag | None = None


class TracingMatch(Struct, frozen=True):
    mode: Mode = "CLIENT_AND_SERVER"


class Tracing(Struct, frozen=True):
    match: TracingMatch | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Percentage | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = msgspec.field(default_factory=dict)
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: Unsupported = None


# Access logs


class LogMatch(Struct, frozen=True):
    mode: Mode = "CLIENT_AND_SERVER"


class LogFilter(Struct, frozen=True):
    expression: str = ""


class AccessLogging(Struct, frozen=True):
    match: LogMatch | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: LogFilter | None = None


class TelemetrySpec(Attached, frozen=True):
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
