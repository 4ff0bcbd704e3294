"""How calls are observed: spans, statistics and lines of a log, as a workload's settings ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ondol.contracts import proxy
from ondol.mesh.translate import clusters, statistics
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.statistics import Changes, Reporter

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
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "workload": f"%METADATA(LISTENER:{statistics.METADATA}:{statistics.NAME})%",
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


LITERAL: Final = "literal"
HEADER: Final = "header"
FORMATTER: Final = "formatter"


@dataclass(frozen=True, slots=True)
class SpanTag:
    """An attribute of every span: a text, what a header says, or what variables tell."""

    name: str
    kind: str
    value: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """Lines of one form, for calls that an expression in CEL chooses; without one, for all."""

    is_text: bool = False
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """How calls of a workload are observed."""

    traces: str = ""
    """Address of the receiver of spans, as the `otlp` cluster has it; none are made without it."""
    sampling_percent: float = 100.0
    span_tags: tuple[SpanTag, ...] = ()
    has_istio_tags: bool = True
    samples_by_request_id: bool = True
    access_log: Path | None = None
    """The file for lines; without one there are none."""
    logs: tuple[Log, ...] = ()
    log_is_text: bool = False
    """The form of lines where none is asked for."""
    metrics: Changes = ()
    """What is not as Istio has it by default."""
    is_counted: bool = True
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
        custom_tags=[*_istio_tags(identity, observation), *map(_span_tag, observation.span_tags)],
    )
    path = {"key": clusters.METADATA, "path": [{"key": clusters.CANONICAL}]}
    called = {"tag": proxy.CALLEE_ATTRIBUTE, "metadata": {"kind": {"cluster": {}}, "metadataKey": path}}
    m.parse(called, configured.custom_tags.add())
    configured.random_sampling.value = observation.sampling_percent
    return configured


def _istio_tags(identity: Identity, observation: Observation) -> Iterator[m.tags.CustomTag]:
    texts = {
        "istio.canonical_service": identity.workload,
        "istio.canonical_revision": identity.revision,
        "istio.namespace": identity.namespace,
    }
    if observation.has_istio_tags:
        for name, text in texts.items():
            yield m.tags.CustomTag(tag=name, literal=m.tags.CustomTag.Literal(value=text))


def _span_tag(tag: SpanTag) -> m.tags.CustomTag:
    custom = m.tags.CustomTag(tag=tag.name)
    if tag.kind == LITERAL:
        custom.literal.value = tag.value
    elif tag.kind == FORMATTER:
        custom.value = tag.value
    else:
        custom.request_header.name = tag.value
        custom.request_header.default_value = tag.default
    return custom


def request_id(manager: m.hcm.HttpConnectionManager, observation: Observation) -> None:
    """Whether the request's own id says which are sampled, so that all proxies choose the same."""
    if not observation.samples_by_request_id:
        config = m.request_ids.UuidRequestIdConfig(use_request_id_for_trace_sampling=m.boolean(False))
        manager.request_id_extension.typed_config.CopyFrom(m.any_of(config))


def of_requests(observation: Observation) -> list[m.accesslog.AccessLog]:
    """What hears of each request."""
    counted = statistics.of_requests(observation.metrics, observation.reporter)
    return [*_lines(observation), *(counted if observation.is_counted else ())]


def of_connections(observation: Observation) -> list[m.accesslog.AccessLog]:
    """What hears of each connection that carries bytes, when it has an upstream and when it ends."""
    ended = {"logTypeFilter": {"types": ["TcpConnectionEnd"]}}
    counted = statistics.of_connections(observation.metrics, observation.reporter)
    return [*_lines(observation, ended), *(counted if observation.is_counted else ())]


def of_listener(observation: Observation) -> Iterable[m.accesslog.AccessLog]:
    """What hears of each connection of a listener when it ends."""
    return statistics.ended(observation.metrics, observation.reporter) if observation.is_counted else ()


def _lines(
    observation: Observation, when: Mapping[str, object] | None = None
) -> Iterator[m.accesslog.AccessLog]:
    """A logger for each form that is asked for; `when`: of which moments it hears, if not of all."""
    if observation.access_log is None:
        return
    for log in observation.logs:
        config = m.file_log.FileAccessLog(path=str(observation.access_log))
        if log.is_text:
            config.log_format.text_format_source.inline_string = _LOG_TEXT
        else:
            config.log_format.json_format.update({"reporter": observation.reporter.label, **_LOG_FIELDS})
            config.log_format.omit_empty_values = True
        logger = m.accesslog.AccessLog(name="envoy.access_loggers.file", typed_config=m.any_of(config))
        filters = [when] if when is not None else []
        if log.expression:
            filters.append(statistics.expression_filter(log.expression))
        if filters:
            m.parse(filters[0] if len(filters) == 1 else {"andFilter": {"filters": filters}}, logger.filter)
        yield logger
