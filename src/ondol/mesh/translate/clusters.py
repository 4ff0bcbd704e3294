"""Clusters and their endpoints: one for each service port and subset, with its traffic policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ondol.api.objects import Key
from ondol.contracts import proxy, telemetry
from ondol.mesh import bootstrap
from ondol.mesh.model import istio
from ondol.mesh.model.coming import Coming
from ondol.mesh.model.istio import milliseconds
from ondol.mesh.model.kube import Endpoint, Protocol
from ondol.mesh.translate import locality, mutual, origination, statistics
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.locality import Group

PASSTHROUGH: Final = "PassthroughCluster"
BLACKHOLE: Final = proxy.BLACKHOLE
ARRIVALS: Final = "InboundPassthroughCluster"
OTLP: Final = "otlp"

HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT_TIMEOUT_MS: Final = 10_000
_KEEPALIVE_S: Final = 30
_KEEPALIVE_INTERVAL_S: Final = 10
_KEEPALIVE_PROBES: Final = 3
_KEEPALIVE_TIMEOUT: Final = "20s"
_NO_KEY: Final = "mesh.warmup.aggression"
"""A key of the runtime that nobody sets; the proxy asks for one."""
_UNLIMITED: Final = 2**32 - 1
_NOBODY: Final[Mapping[Key, str]] = {}
_LB: Final = {
    None: m.cluster.Cluster.LEAST_REQUEST,
    "UNSPECIFIED": m.cluster.Cluster.LEAST_REQUEST,
    "LEAST_CONN": m.cluster.Cluster.LEAST_REQUEST,
    "LEAST_REQUEST": m.cluster.Cluster.LEAST_REQUEST,
    "ROUND_ROBIN": m.cluster.Cluster.ROUND_ROBIN,
    "RANDOM": m.cluster.Cluster.RANDOM,
}
METADATA: Final = statistics.METADATA
CANONICAL: Final = "canonical_service"
"""Where a cluster's metadata have what traces call it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a cluster leads to, and who says how."""

    name: str
    protocol: Protocol
    host: str
    namespace: str = ""
    """Of the rule with the policy: its credentials are there."""


def cluster(target: Target, policy: istio.TrafficPolicy, passthrough_mark: int) -> m.cluster.Cluster:
    """The cluster of a service port; its endpoints come by EDS.

    A policy may leave it to the caller where a connection goes: then it carries the mark of `passthrough`.
    """
    pool = policy.connection_pool or istio.ConnectionPoolSettings()
    tcp, http = pool.tcp or istio.TCPSettings(), pool.http or istio.HTTPSettings()
    message = m.cluster.Cluster(
        name=target.name,
        type=m.cluster.Cluster.EDS,
        eds_cluster_config=m.cluster.Cluster.EdsClusterConfig(eds_config=m.from_ads()),
        connect_timeout=m.duration(_ms(tcp.connect_timeout, _CONNECT_TIMEOUT_MS)),
        circuit_breakers=_breakers(tcp, http, policy.retry_budget),
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
    message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(
        m.any_of(_protocol_options(target.protocol, tcp, http, policy.outlier_detection))
    )
    if policy.outlier_detection is not None:
        message.outlier_detection.CopyFrom(_outliers(policy.outlier_detection))
    message.upstream_connection_options.CopyFrom(_keepalive(tcp.tcp_keepalive or istio.TCPKeepalive()))
    if policy.tls is not None and policy.tls.mode in ("SIMPLE", "MUTUAL"):
        http2 = target.protocol is Protocol.HTTP2
        socket = origination.socket(policy.tls, target.host, target.namespace, http2=http2)
        message.transport_socket.CopyFrom(socket)
    if policy.proxy_protocol is not None:
        within = message.transport_socket if message.HasField("transport_socket") else None
        message.transport_socket.CopyFrom(origination.announced(within, policy.proxy_protocol))
    return message


def is_mutual(cluster: m.cluster.Cluster, policy: istio.TrafficPolicy) -> bool:
    """Whether guarded endpoints are dialled with mutual TLS: unless a rule says how.

    The head of the PROXY protocol stands before all else, and who is guarded expects TLS there.
    """
    return not says_how(policy) and cluster.type == m.cluster.Cluster.EDS


def wait_for(cluster: m.cluster.Cluster, pods: Coming) -> None:
    """Have connections wait for pods that come when they are called.

    Their handshakes are the pods' to answer: so long a connection is not made. Whoever stands before the pods
    cannot look into what is encrypted, and counts requests by their connections where it has to.
    """
    waits_ms = pods.hold_s * 1000
    if cluster.connect_timeout.ToMilliseconds() < waits_ms:
        cluster.connect_timeout.CopyFrom(m.duration(waits_ms))
    if pods.per_connection:
        options = m.http_options.HttpProtocolOptions()
        packed = cluster.typed_extension_protocol_options[HTTP_OPTIONS]
        packed.Unpack(options)
        options.common_http_protocol_options.max_requests_per_connection.value = pods.per_connection
        packed.CopyFrom(m.any_of(options))


def says_how(policy: istio.TrafficPolicy) -> bool:
    """Whether a policy itself says with what connections begin."""
    is_other = policy.tls is not None and policy.tls.mode != "ISTIO_MUTUAL"
    return is_other or policy.proxy_protocol is not None


def call(cluster: m.cluster.Cluster, name: str, namespace: str = "") -> None:
    """Say what traces are to call it, if that is not what its own name says, and whose a host outside is."""
    texts = {CANONICAL: name, telemetry.NAMESPACE: namespace}
    if stated := {key: text for key, text in texts.items() if text}:
        m.parse({"filterMetadata": {METADATA: stated}}, cluster.metadata)


def _ms(text: str | None, default: int) -> int:
    return default if text is None else milliseconds(text, "connectionPool")


def share(cluster: m.cluster.Cluster, policy: istio.TrafficPolicy, *, has_place: bool) -> None:
    """Go by the shares of localities, where its endpoints have some: those for callers at a place."""
    asked = locality.setting(policy) if has_place else None
    if asked is not None and asked.distribute:
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()


def _breakers(
    tcp: istio.TCPSettings, http: istio.HTTPSettings, budget: istio.RetryBudget | None = None
) -> m.breakers.CircuitBreakers:
    """No limit unless one is asked for, as in Istio."""
    thresholds = m.breakers.CircuitBreakers.Thresholds(
        max_connections=m.number(tcp.max_connections or _UNLIMITED),
        max_pending_requests=m.number(http.http1_max_pending_requests or _UNLIMITED),
        max_requests=m.number(http.http2_max_requests or _UNLIMITED),
        max_retries=m.number(http.max_retries or _UNLIMITED),
    )
    if budget is not None:
        thresholds.retry_budget.budget_percent.value = budget.percent
        thresholds.retry_budget.min_retry_concurrency.value = budget.min_retry_concurrency
    return m.breakers.CircuitBreakers(thresholds=[thresholds])


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
        ring = hashing.ring_hash or istio.RingHash(hashing.minimum_ring_size or 1024)
        cluster.ring_hash_lb_config.minimum_ring_size.value = ring.minimum_ring_size
    warmup = settings.warmup
    if warmup is None and settings.warmup_duration_secs is not None:
        warmup = istio.WarmupConfiguration(settings.warmup_duration_secs)
    if warmup is not None:
        _warm_up(cluster, warmup)


def _warm_up(cluster: m.cluster.Cluster, warmup: istio.WarmupConfiguration) -> None:
    """Only balancers that count or take turns can give less: validation refuses others."""
    if cluster.lb_policy == m.cluster.Cluster.ROUND_ROBIN:
        config = cluster.round_robin_lb_config.slow_start_config
    else:
        config = cluster.least_request_lb_config.slow_start_config
    config.slow_start_window.CopyFrom(m.duration(milliseconds(warmup.duration, "warmup.duration")))
    if warmup.aggression is not None:
        config.aggression.default_value = warmup.aggression
        config.aggression.runtime_key = _NO_KEY
    if warmup.minimum_percent is not None:
        config.min_weight_percent.value = warmup.minimum_percent


def _protocol_options(
    protocol: Protocol,
    tcp: istio.TCPSettings,
    http: istio.HTTPSettings,
    outliers: istio.OutlierDetection | None,
) -> m.http_options.HttpProtocolOptions:
    options = m.http_options.HttpProtocolOptions()
    codes = dict.fromkeys(outliers.outlier_detection_http_error_codes if outliers is not None else ())
    for code in codes:
        matcher = options.outlier_detection.error_matcher
        rule = matcher.or_match.rules.add() if len(codes) > 1 else matcher  # it takes no alternatives of one
        header = rule.http_response_headers_match.headers.add(name=":status")
        header.string_match.exact = str(code)
    common = options.common_http_protocol_options
    idle = http.idle_timeout or tcp.idle_timeout
    if idle is not None:
        common.idle_timeout.CopyFrom(m.duration(milliseconds(idle, "idleTimeout")))
    if tcp.max_connection_duration is not None:
        longest = milliseconds(tcp.max_connection_duration, "maxConnectionDuration")
        common.max_connection_duration.CopyFrom(m.duration(longest))
    if http.max_requests_per_connection:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if http.use_client_protocol or (protocol is Protocol.SNIFFED and http.h2_upgrade_policy != "UPGRADE"):
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        http2 = options.use_downstream_protocol_config.http2_protocol_options
    elif protocol is Protocol.HTTP2 or http.h2_upgrade_policy == "UPGRADE":
        http2 = options.explicit_http_config.http2_protocol_options
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
        return options
    http2.SetInParent()
    if http.max_concurrent_streams:
        http2.max_concurrent_streams.value = http.max_concurrent_streams
    if http.http2_keep_alive is not None:
        _ask_back(http2.connection_keepalive, http.http2_keep_alive)
    return options


def _ask_back(target: m.protocol.KeepaliveSettings, settings: istio.KeepAliveSettings) -> None:
    if settings.interval is not None:
        target.interval.CopyFrom(m.duration(milliseconds(settings.interval, "http2KeepAlive.interval")))
    timeout = settings.timeout or _KEEPALIVE_TIMEOUT
    target.timeout.CopyFrom(m.duration(milliseconds(timeout, "http2KeepAlive.timeout")))


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


def load_assignment(
    name: str,
    groups: Iterable[Group],
    guarded: Callable[[Endpoint], bool] = lambda _: False,
    workloads: Mapping[Key, str] = _NOBODY,
) -> m.endpoint.ClusterLoadAssignment:
    """The endpoints of a cluster, in an order of their own so that equal sets are equal bytes.

    Those that are `guarded` are dialled with mutual TLS. `workloads`: of pods, as statistics have them.
    """
    listed = list(groups)
    is_weighted = any(each.weight != 1 for group in listed for each in group.endpoints)
    message = m.endpoint.ClusterLoadAssignment(cluster_name=name)
    for group in listed:
        added = message.endpoints.add(priority=group.priority)
        for field, text in zip(("region", "zone", "sub_zone"), group.locality, strict=True):
            if text:
                setattr(added.locality, field, text)
        if group.weight:
            added.load_balancing_weight.value = group.weight
        weights: dict[tuple[str, int, bool, str], int] = {}
        for each in group.endpoints:
            workload = workloads.get(each.pod, "") if each.pod is not None else ""
            place = (each.address, each.port, guarded(each), workload)
            weights[place] = max(each.weight, weights.get(place, 0))
        for (host, port, is_guarded, workload), weight in sorted(weights.items()):
            balanced = added.lb_endpoints.add()
            balanced.endpoint.address.CopyFrom(m.socket(host, port))
            if is_guarded:
                mutual.endpoint_metadata(balanced)
            if workload:
                balanced.metadata.filter_metadata[METADATA].update({statistics.WORKLOAD: workload})
            if is_weighted:
                balanced.load_balancing_weight.value = weight
    return message


def in_subset(
    endpoints: Iterable[Endpoint], selector: Mapping[str, str], labels: Mapping[Key, Mapping[str, str]]
) -> list[Endpoint]:
    """The endpoints that carry all the labels, or whose pods do; without labels wanted, all endpoints."""
    if not selector:
        return list(endpoints)
    return [endpoint for endpoint in endpoints if selector.items() <= endpoint.labels_among(labels).items()]


def passthrough(mark: int) -> m.cluster.Cluster:
    """Where a connection was going, for destinations the mesh does not know (ALLOW_ANY).

    Its connections carry the mark, by which the kernel keeps them from the host's own addresses.
    """
    message = _as_it_was_going(PASSTHROUGH)
    _bind(message, mark)
    return message


def arrivals() -> m.cluster.Cluster:
    """The application of a guarded pod: where a connection was going, dialled from within the pod."""
    return _as_it_was_going(ARRIVALS)


def _as_it_was_going(name: str) -> m.cluster.Cluster:
    """To the address that a connection was made to, in the HTTP that it came in."""
    message = m.cluster.Cluster(
        name=name,
        type=m.cluster.Cluster.ORIGINAL_DST,
        lb_policy=m.cluster.Cluster.CLUSTER_PROVIDED,
        connect_timeout=m.duration(_CONNECT_TIMEOUT_MS),
        circuit_breakers=_breakers(istio.TCPSettings(), istio.HTTPSettings()),
    )
    options = m.http_options.HttpProtocolOptions()
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()
    options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(m.any_of(options))
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
