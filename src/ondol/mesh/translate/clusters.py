"""Clusters and their endpoints: one for each service port and subset, with its traffic policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ondol.api.objects import Key
from ondol.mesh import bootstrap
from ondol.mesh.model import istio
from ondol.mesh.model.istio import milliseconds
from ondol.mesh.model.kube import Endpoint, Protocol
from ondol.mesh.translate import messages as m

PASSTHROUGH: Final = "PassthroughCluster"
BLACKHOLE: Final = "BlackHoleCluster"
OTLP: Final = "otlp"

_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT_TIMEOUT_MS: Final = 10_000
_KEEPALIVE_S: Final = 30
_KEEPALIVE_INTERVAL_S: Final = 10
_KEEPALIVE_PROBES: Final = 3
_TRUSTED_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
_UNLIMITED: Final = 2**32 - 1
_LB: Final = {
    None: m.cluster.Cluster.LEAST_REQUEST,
    "UNSPECIFIED": m.cluster.Cluster.LEAST_REQUEST,
    "LEAST_CONN": m.cluster.Cluster.LEAST_REQUEST,
    "LEAST_REQUEST": m.cluster.Cluster.LEAST_REQUEST,
    "ROUND_ROBIN": m.cluster.Cluster.ROUND_ROBIN,
    "RANDOM": m.cluster.Cluster.RANDOM,
}


def cluster(
    name: str, protocol: Protocol, policy: istio.TrafficPolicy, sni: str, passthrough_mark: int
) -> m.cluster.Cluster:
    """The cluster of a service port; its endpoints come by EDS.

    A policy may leave it to the caller where a connection goes: then it carries the mark of `passthrough`.
    """
    pool = policy.connection_pool or istio.ConnectionPoolSettings()
    tcp, http = pool.tcp or istio.TCPSettings(), pool.http or istio.HTTPSettings()
    message = m.cluster.Cluster(
        name=name,
        type=m.cluster.Cluster.EDS,
        eds_cluster_config=m.cluster.Cluster.EdsClusterConfig(eds_config=m.from_ads()),
        connect_timeout=m.duration(_ms(tcp.connect_timeout, _CONNECT_TIMEOUT_MS)),
        circuit_breakers=_breakers(tcp, http),
        # Kubernetes says who is healthy: an ejected or missing host is never tried in a panic.
        common_lb_config=m.cluster.Cluster.CommonLbConfig(
            healthy_panic_threshold=m.percent.Percent(
                value=policy.outlier_detection.min_health_percent if policy.outlier_detection else 0
            )
        ),
    )
    _balance(message, policy.load_balancer or istio.LoadBalancerSettings())
    if message.type == m.cluster.Cluster.ORIGINAL_DST:
        _bind(message, passthrough_mark)
    message.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(
        m.any_of(_protocol_options(protocol, tcp, http))
    )
    if policy.outlier_detection is not None:
        message.outlier_detection.CopyFrom(_outliers(policy.outlier_detection))
    message.upstream_connection_options.CopyFrom(_keepalive(tcp.tcp_keepalive or istio.TCPKeepalive()))
    if policy.tls is not None and policy.tls.mode == "SIMPLE":
        message.transport_socket.CopyFrom(_tls(policy.tls, sni, http2=protocol is Protocol.HTTP2))
    return message


def _ms(text: str | None, default: int) -> int:
    return default if text is None else milliseconds(text, "connectionPool")


def _breakers(tcp: istio.TCPSettings, http: istio.HTTPSettings) -> m.breakers.CircuitBreakers:
    """No limit unless one is asked for, as in Istio."""
    return m.breakers.CircuitBreakers(
        thresholds=[
            m.breakers.CircuitBreakers.Thresholds(
                max_connections=m.number(tcp.max_connections or _UNLIMITED),
                max_pending_requests=m.number(http.http1_max_pending_requests or _UNLIMITED),
                max_requests=m.number(http.http2_max_requests or _UNLIMITED),
                max_retries=m.number(http.max_retries or _UNLIMITED),
            )
        ]
    )


def _balance(cluster: m.cluster.Cluster, settings: istio.LoadBalancerSettings) -> None:
    hashing = settings.consistent_hash
    if settings.simple == "PASSTHROUGH":
        cluster.ClearField("eds_cluster_config")
        cluster.type = m.cluster.Cluster.ORIGINAL_DST
        cluster.lb_policy = m.cluster.Cluster.CLUSTER_PROVIDED
    elif hashing is None:
        cluster.lb_policy = _LB[settings.simple]
    elif hashing.maglev is not None:
        cluster.lb_policy = m.cluster.Cluster.MAGLEV
        cluster.maglev_lb_config.table_size.value = hashing.maglev.table_size
    else:
        cluster.lb_policy = m.cluster.Cluster.RING_HASH
        ring = hashing.ring_hash or istio.RingHash()
        cluster.ring_hash_lb_config.minimum_ring_size.value = ring.minimum_ring_size
    if settings.warmup_duration_secs is not None:
        window = m.duration(milliseconds(settings.warmup_duration_secs, "warmupDurationSecs"))
        if cluster.lb_policy == m.cluster.Cluster.ROUND_ROBIN:
            cluster.round_robin_lb_config.slow_start_config.slow_start_window.CopyFrom(window)
        elif cluster.lb_policy == m.cluster.Cluster.LEAST_REQUEST:
            cluster.least_request_lb_config.slow_start_config.slow_start_window.CopyFrom(window)


def _protocol_options(
    protocol: Protocol, tcp: istio.TCPSettings, http: istio.HTTPSettings
) -> m.http_options.HttpProtocolOptions:
    options = m.http_options.HttpProtocolOptions()
    common = options.common_http_protocol_options
    idle = http.idle_timeout or tcp.idle_timeout
    if idle is not None:
        common.idle_timeout.CopyFrom(m.duration(milliseconds(idle, "idleTimeout")))
    if tcp.max_connection_duration is not None:
        longest = milliseconds(tcp.max_connection_duration, "maxConnectionDuration")
        common.max_connection_duration.CopyFrom(m.duration(longest))
    if http.max_requests_per_connection:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if protocol is Protocol.HTTP2 or http.h2_upgrade_policy == "UPGRADE":
        http2 = options.explicit_http_config.http2_protocol_options
    elif protocol is Protocol.SNIFFED:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        http2 = options.use_downstream_protocol_config.http2_protocol_options
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
        return options
    http2.SetInParent()
    if http.max_concurrent_streams:
        http2.max_concurrent_streams.value = http.max_concurrent_streams
    return options


def _outliers(settings: istio.OutlierDetection) -> m.outliers.OutlierDetection:
    detection = m.outliers.OutlierDetection(
        split_external_local_origin_errors=settings.split_external_local_origin_errors,
        # Istio switches on only what is asked for.
        enforcing_success_rate=m.number(0),
        enforcing_consecutive_5xx=m.number(0 if settings.consecutive_5xx_errors == 0 else 100),
        enforcing_consecutive_gateway_failure=m.number(100 if settings.consecutive_gateway_errors else 0),
    )
    if settings.consecutive_5xx_errors:
        detection.consecutive_5xx.value = settings.consecutive_5xx_errors
    if settings.consecutive_gateway_errors:
        detection.consecutive_gateway_failure.value = settings.consecutive_gateway_errors
    if settings.consecutive_local_origin_failures:
        detection.consecutive_local_origin_failure.value = settings.consecutive_local_origin_failures
    elif settings.consecutive_local_origin_failures == 0:
        detection.enforcing_consecutive_local_origin_failure.value = 0
    if settings.interval is not None:
        detection.interval.CopyFrom(m.duration(milliseconds(settings.interval, "interval")))
    if settings.base_ejection_time is not None:
        detection.base_ejection_time.CopyFrom(
            m.duration(milliseconds(settings.base_ejection_time, "baseEjectionTime"))
        )
    if settings.max_ejection_percent:
        detection.max_ejection_percent.value = settings.max_ejection_percent
    return detection


def _keepalive(settings: istio.TCPKeepalive) -> m.cluster.UpstreamConnectionOptions:
    """A minute without an answer ends a connection, unless the settings say otherwise.

    So long, where nothing else ends them, connections keep the network namespace of a pod that is gone.
    """
    options = m.cluster.UpstreamConnectionOptions()
    keepalive = options.tcp_keepalive
    keepalive.keepalive_probes.value = settings.probes or _KEEPALIVE_PROBES
    keepalive.keepalive_time.value = _seconds(settings.time, "tcpKeepalive.time", _KEEPALIVE_S)
    keepalive.keepalive_interval.value = _seconds(
        settings.interval, "tcpKeepalive.interval", _KEEPALIVE_INTERVAL_S
    )
    return options


def _seconds(text: str | None, field: str, default: int) -> int:
    return default if text is None else max(1, milliseconds(text, field) // 1000)


def _tls(settings: istio.ClientTLSSettings, sni: str, *, http2: bool) -> m.base.TransportSocket:
    context = m.tls.UpstreamTlsContext(sni=settings.sni or sni)
    context.common_tls_context.alpn_protocols.extend(["h2"] if http2 else ["http/1.1"])
    if not settings.insecure_skip_verify:
        trusted = context.common_tls_context.validation_context
        trusted.trusted_ca.filename = _TRUSTED_CA
        matched = trusted.match_typed_subject_alt_names.add()
        matched.san_type = m.tls_common.SubjectAltNameMatcher.DNS
        matched.matcher.exact = context.sni
    return m.base.TransportSocket(name="envoy.transport_sockets.tls", typed_config=m.any_of(context))


def load_assignment(name: str, endpoints: Iterable[Endpoint]) -> m.endpoint.ClusterLoadAssignment:
    """The endpoints of a cluster, in an order of their own so that equal sets are equal bytes."""
    ordered = sorted({(endpoint.address, endpoint.port) for endpoint in endpoints})
    return m.endpoint.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            m.endpoint_components.LocalityLbEndpoints(
                lb_endpoints=[
                    m.endpoint_components.LbEndpoint(
                        endpoint=m.endpoint_components.Endpoint(address=m.socket(host, port)),
                    )
                    for host, port in ordered
                ]
            )
        ],
    )


def in_subset(
    endpoints: Iterable[Endpoint], selector: Mapping[str, str], labels: Mapping[Key, Mapping[str, str]]
) -> list[Endpoint]:
    """The endpoints whose pods carry all the labels; without labels wanted, all endpoints."""
    if not selector:
        return list(endpoints)
    return [
        endpoint
        for endpoint in endpoints
        if endpoint.pod is not None and selector.items() <= labels.get(endpoint.pod, {}).items()
    ]


def passthrough(mark: int) -> m.cluster.Cluster:
    """Where a connection was going, for destinations the mesh does not know (ALLOW_ANY).

    Its connections carry the mark, by which the kernel keeps them from the host's own addresses.
    """
    message = m.cluster.Cluster(
        name=PASSTHROUGH,
        type=m.cluster.Cluster.ORIGINAL_DST,
        lb_policy=m.cluster.Cluster.CLUSTER_PROVIDED,
        connect_timeout=m.duration(_CONNECT_TIMEOUT_MS),
        circuit_breakers=_breakers(istio.TCPSettings(), istio.HTTPSettings()),
    )
    options = m.http_options.HttpProtocolOptions()
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    message.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(m.any_of(options))
    _bind(message, mark)
    message.upstream_connection_options.CopyFrom(_keepalive(istio.TCPKeepalive()))
    return message


def _bind(cluster: m.cluster.Cluster, mark: int) -> None:
    m.parse(bootstrap.bind_config(mark), cluster.upstream_bind_config)


def blackhole() -> m.cluster.Cluster:
    """Nowhere: for what must not be reached through the proxy."""
    return m.cluster.Cluster(name=BLACKHOLE, type=m.cluster.Cluster.STATIC, connect_timeout=m.duration(1000))


def inspector(name: str) -> m.cluster.Cluster:
    """The way to the listener `name` inside the proxy; what is known of the connection goes along."""
    way = m.cluster.Cluster(
        name=name,
        type=m.cluster.Cluster.STATIC,
        connect_timeout=m.duration(_CONNECT_TIMEOUT_MS),
        circuit_breakers=_breakers(istio.TCPSettings(), istio.HTTPSettings()),
    )
    way.load_assignment.cluster_name = name
    way.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(m.internal(name))
    raw = m.base.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=m.any_of(m.raw_buffer.RawBuffer())
    )
    carried = m.internal_upstream.InternalUpstreamTransport(transport_socket=raw)
    way.transport_socket.name = "envoy.transport_sockets.internal_upstream"
    way.transport_socket.typed_config.CopyFrom(m.any_of(carried))
    return way


def otlp(address: str) -> m.cluster.Cluster:
    """The receiver of spans, at `unix:/path` or `host:port`."""
    message = m.cluster.Cluster(name=OTLP, type=m.cluster.Cluster.STATIC, connect_timeout=m.duration(1000))
    message.load_assignment.cluster_name = OTLP
    receiver = message.load_assignment.endpoints.add().lb_endpoints.add()
    receiver.endpoint.address.CopyFrom(m.upstream(address))
    return message
