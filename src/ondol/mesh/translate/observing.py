"""How calls are observed: spans, statistics and lines of a log, as a workload's settings ask for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ondol.contracts import proxy
from ondol.mesh.translate import clusters, statistics
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.statistics import Metrics, Reporter

_RECEIVER: Final = "http://observe/v1/traces"
_LOG_FIELDS: Final = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "route_name": "%ROUTE_NAME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
}
_LOG_TEXT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""The fields and order of Istio's default, for whoever reads such lines already."""


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom calls are traced and counted, and by what rules may tell callers apart."""

    workload: str
    namespace: str
    revision: str
    labels: str = ""
    """As `matches.labels_text` writes them."""
    spiffe: str = ""
    """The identity that its calls carry."""
    described: str = ""
    """As statistics have it (`contracts.telemetry.Workload`)."""

    @property
    def stat_prefix(self) -> str:
        return f"{self.namespace}/{self.workload}".replace(".", "_")


@dataclass(frozen=True, slots=True)
class Observation:
    """How calls of a workload are observed."""

    traces: str = ""
    """Address of the receiver of spans, as the `otlp` cluster has it; none are made without it."""
    sampling_percent: float = 100.0
    access_log: Path | None = None
    access_log_is_text: bool = False
    metrics: Metrics = statistics.DEFAULT
    reporter: Reporter = Reporter.SOURCE

    def by(self, reporter: Reporter) -> Observation:
        return replace(self, reporter=reporter)


def tracing(identity: Identity, observation: Observation) -> m.hcm.HttpConnectionManager.Tracing:
    service = m.http_service.HttpService()
    service.http_uri.uri = _RECEIVER  # a name alone: where it is, is the cluster's affair
    service.http_uri.cluster = clusters.OTLP
    service.http_uri.timeout.CopyFrom(m.duration(1000))
    detector = m.static_detector.StaticConfigResourceDetectorConfig(
        attributes={"service.namespace": identity.namespace, "service.version": identity.revision}
    )
    config = m.opentelemetry.OpenTelemetryConfig(http_service=service, service_name=identity.workload)
    config.resource_detectors.append(
        m.extension.TypedExtensionConfig(
            name="envoy.tracers.opentelemetry.resource_detectors.static_config",
            typed_config=m.any_of(detector),
        )
    )
    configured = m.hcm.HttpConnectionManager.Tracing(
        provider=m.tracer.Tracing.Http(name="envoy.tracers.opentelemetry", typed_config=m.any_of(config)),
        spawn_upstream_span=m.boolean(True),
        custom_tags=[
            m.tags.CustomTag(tag=tag, literal=m.tags.CustomTag.Literal(value=value))
            for tag, value in (
                ("istio.canonical_service", identity.workload),
                ("istio.canonical_revision", identity.revision),
                ("istio.namespace", identity.namespace),
            )
        ],
    )
    path = {"key": clusters.METADATA, "path": [{"key": clusters.CANONICAL}]}
    called = {"tag": proxy.CALLEE_ATTRIBUTE, "metadata": {"kind": {"cluster": {}}, "metadataKey": path}}
    m.parse(called, configured.custom_tags.add())
    configured.random_sampling.value = observation.sampling_percent
    return configured


def of_requests(observation: Observation) -> list[m.accesslog.AccessLog]:
    """What hears of each request."""
    return [*_lines(observation), *statistics.of_requests(observation.metrics, observation.reporter)]


def of_connections(observation: Observation) -> list[m.accesslog.AccessLog]:
    """What hears of each connection that carries bytes, when it has an upstream and when it ends."""
    ended = [_ended(each) for each in _lines(observation)]
    return [*ended, *statistics.of_connections(observation.metrics, observation.reporter)]


def _ended(log: m.accesslog.AccessLog) -> m.accesslog.AccessLog:
    m.parse({"logTypeFilter": {"types": ["TcpConnectionEnd"]}}, log.filter)
    return log


def _lines(observation: Observation) -> list[m.accesslog.AccessLog]:
    if observation.access_log is None:
        return []
    config = m.file_log.FileAccessLog(path=str(observation.access_log))
    if observation.access_log_is_text:
        config.log_format.text_format_source.inline_string = _LOG_TEXT
    else:
        config.log_format.json_format.update(_LOG_FIELDS)
        config.log_format.omit_empty_values = True
    return [
        m.accesslog.AccessLog(name="envoy.access_loggers.file", typed_config=m.any_of(config)),
    ]
