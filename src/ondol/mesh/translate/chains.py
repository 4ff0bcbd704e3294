"""What a listener does with a connection: HTTP through a route table, TCP to a service, or onwards.

Filter chains are named, and a tree of matches (`tree`) picks one by destination port, then address:
so that one HTTP chain serves all services of a port. What is undeclared goes on to a listener inside
the proxy, whose tree (`inspecting_tree`) goes by the first bytes: so a pod's own listener looks at
none, and changes in nothing but its chains whatever services come and go (decision 0014).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.mesh import mirrors
from ondol.mesh.translate import clusters, matches
from ondol.mesh.translate import messages as m

PASSTHROUGH: Final = "passthrough"
INSPECT: Final = "inspect"
_NO_HOST: Final = "no-host.invalid"
_RECEIVER: Final = "http://observe/v1/traces"
_HTTP_PROTOCOLS: Final = ("'http/1.0'", "'http/1.1'", "'h2c'")
"""What the HTTP inspector calls what it saw, in the spelling of the matching input."""
_CARRIED: Final = {
    "envoy.filters.listener.original_dst.local_ip": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "envoy.filters.listener.original_dst.remote_ip": "%DOWNSTREAM_REMOTE_ADDRESS%",
}
"""What the original_dst filter of the inner listener reads, and where the outer one has it from."""
_SET_FILTER_STATE: Final = "envoy.filters.network.set_filter_state"
_LISTENS_IN: Final = "%FILTER_STATE(envoy.network.network_namespace:PLAIN)%"
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
class Observation:
    """How calls are observed; the same for every listener."""

    traces: str = ""
    """Address of the receiver of spans, as the `otlp` cluster has it; none are made without it."""
    sampling_percent: float = 100.0
    access_log: Path | None = None
    access_log_is_text: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom calls are traced and counted, and by what rules may tell callers apart."""

    workload: str
    namespace: str
    revision: str
    labels: str = ""
    """As `matches.labels_text` writes them."""

    @property
    def stat_prefix(self) -> str:
        return f"{self.namespace}/{self.workload}".replace(".", "_")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a connection may be silent, and may live; whether its source chooses the endpoint."""

    idle_ms: int | None = None
    longest_ms: int | None = None
    by_source: bool = False


_NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Layout:
    """What the services of the cluster ask of every pod's listener."""

    http_ports: frozenset[int] = frozenset()
    sniffed_ports: frozenset[int] = frozenset()
    """Ports on which some service did not declare what it speaks."""
    http: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """On these, the addresses of the services that declared HTTP."""
    tcp: Mapping[tuple[int, str], str] = field(default_factory=dict)
    """Clusters by destination port and address, for what is declared not to be HTTP."""
    sniffed: Mapping[tuple[int, str], str] = field(default_factory=dict)
    """The same for what is undeclared, if it turns out not to be HTTP."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """By cluster, where a policy asks something of its connections."""
    fixed_ports: frozenset[int] = frozenset()
    """HTTP ports whose chain stays whatever services come, with the connections it has."""

    def is_read_at_once(self, port: int) -> bool:
        """Whether some connections to the port are known to be HTTP before their first bytes."""
        return port in self.fixed_ports or port not in self.sniffed_ports or bool(self.http.get(port))


def http(
    name: str, table: str, identity: Identity, observation: Observation, *, ingress: bool = False
) -> m.listener_components.FilterChain:
    """A chain that reads HTTP and follows a route table."""
    manager = m.hcm.HttpConnectionManager(
        stat_prefix=identity.stat_prefix,
        rds=m.hcm.Rds(route_config_name=table, config_source=m.from_ads()),
        http_filters=[
            _http_filter("envoy.filters.http.cors", m.cors.Cors()),
            _http_filter("envoy.filters.http.fault", m.fault.HTTPFault()),
            # Cluster names are for our own statistics: no header of ours goes to the application.
            _http_filter("envoy.filters.http.router", m.router.Router()),
        ],
        use_remote_address=m.boolean(ingress),
        normalize_path=m.boolean(True),
        strip_trailing_host_dot=True,
        # A call may be a stream that is silent for long; its route's timeout is what limits it.
        stream_idle_timeout=m.duration(0),
        # HTTP/1.0 need not name a host: such a call goes on to the address it was made to.
        http_protocol_options=m.protocol.Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10=_NO_HOST
        ),
        # Whether a large body is wanted is for the server to say, not for the proxy.
        proxy_100_continue=True,
        upgrade_configs=[m.hcm.HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        access_log=_access_log(observation),
    )
    if observation.traces:
        manager.tracing.CopyFrom(_tracing(identity, observation))
        manager.generate_request_id.value = True
    manager.server_header_transformation = m.hcm.HttpConnectionManager.PASS_THROUGH
    filters = [_filter("envoy.filters.network.http_connection_manager", manager)]
    if identity.labels:
        filters.insert(0, _filter(_SET_FILTER_STATE, _constant(matches.LABELS, identity.labels)))
    return m.listener_components.FilterChain(name=name, filters=filters)


def tcp(
    name: str, cluster: str, observation: Observation, limits: Limits = _NO_LIMITS
) -> m.listener_components.FilterChain:
    """A chain that carries bytes to a cluster."""
    proxy = m.tcp_proxy.TcpProxy(
        stat_prefix="tcp",
        cluster=cluster,
        access_log=_access_log(observation),
    )
    if limits.idle_ms is not None:
        proxy.idle_timeout.CopyFrom(m.duration(limits.idle_ms))
    if limits.longest_ms is not None:
        proxy.max_downstream_connection_duration.CopyFrom(m.duration(limits.longest_ms))
    if limits.by_source:
        proxy.hash_policy.add().source_ip.SetInParent()
    carrier = _filter("envoy.filters.network.tcp_proxy", proxy)
    return m.listener_components.FilterChain(name=name, filters=[carrier])


def of_a_pod(chain: m.listener_components.FilterChain) -> m.listener_components.FilterChain:
    """The same for a listener inside a pod: whatever is dialled for its connections is dialled from there.

    Carried on by the listener inside the proxy, too (decision 0025).
    """
    value = m.filter_state_value.FilterStateValue
    origin = value(
        object_key=mirrors.DIALLED_FROM,
        factory_key="envoy.hashable_string",
        shared_with_upstream=value.TRANSITIVE,
    )
    origin.format_string.text_format_source.inline_string = _LISTENS_IN
    state = m.set_filter_state.Config(on_new_connection=[origin])
    own = m.listener_components.FilterChain(filters=[_filter(_SET_FILTER_STATE, state)])
    own.MergeFrom(chain)
    return own


def inspect(cluster: str) -> m.listener_components.FilterChain:
    """A chain that hands connections to the listener inside the proxy, with the addresses they are of."""
    proxy = m.tcp_proxy.TcpProxy(stat_prefix="inspect", cluster=cluster, idle_timeout=m.duration(0))
    addresses = m.set_filter_state.Config(
        on_new_connection=[_carry(key, source) for key, source in _CARRIED.items()]
    )
    filters = [
        _filter(_SET_FILTER_STATE, addresses),
        _filter("envoy.filters.network.tcp_proxy", proxy),
    ]
    return m.listener_components.FilterChain(name=INSPECT, filters=filters)


def _carry(key: str, source: str) -> m.filter_state_value.FilterStateValue:
    value = m.filter_state_value.FilterStateValue
    carried = value(object_key=key, shared_with_upstream=value.ONCE)
    carried.format_string.text_format_source.inline_string = source
    return carried


def _filter(name: str, config: m.Message) -> m.listener_components.Filter:
    return m.listener_components.Filter(name=name, typed_config=m.any_of(config))


def _constant(key: str, text: str) -> m.set_filter_state.Config:
    """A constant of every connection, for route matches to look at."""
    value = m.filter_state_value.FilterStateValue(object_key=key, factory_key="envoy.string", read_only=True)
    value.format_string.text_format_source.inline_string = text
    return m.set_filter_state.Config(on_new_connection=[value])


def _http_filter(name: str, config: m.Message) -> m.hcm.HttpFilter:
    return m.hcm.HttpFilter(name=name, typed_config=m.any_of(config))


def _tracing(identity: Identity, observation: Observation) -> m.hcm.HttpConnectionManager.Tracing:
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
    tracing = m.hcm.HttpConnectionManager.Tracing(
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
    tracing.random_sampling.value = observation.sampling_percent
    return tracing


def _access_log(observation: Observation) -> list[m.accesslog.AccessLog]:
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


# Which chain takes a connection


_NOWHERE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32")
)
"""The caller's own loopback and link, where the proxy listens: no pod means them by what is turned to it."""


def tree(layout: Layout, listener_port: int) -> m.matcher.Matcher:
    """Nowhere for what is nobody's address; else by port, then by address; the unknown passes through."""
    ports: dict[int, m.matcher.Matcher.OnMatch] = {listener_port: _take(clusters.BLACKHOLE)}
    for port in sorted(layout.http_ports | {port for port, _ in layout.tcp}):
        ports.setdefault(port, _port(port, layout))
    ranges = [
        m.cidr.CidrRange(address_prefix=str(each.network_address), prefix_len=m.number(each.prefixlen))
        for each in _NOWHERE
    ]
    nowhere = m.ip_matcher.IPMatcher.IPRangeMatcher(ranges=ranges, on_match=_take(clusters.BLACKHOLE))
    by_address = m.matcher.Matcher(on_no_match=m.matcher.Matcher.OnMatch(matcher=_by_port(ports)))
    by_address.matcher_tree.input.CopyFrom(_input("destination_ip", m.inputs.DestinationIPInput()))
    trie = m.ip_matcher.IPMatcher(range_matchers=[nowhere])
    by_address.matcher_tree.custom_match.CopyFrom(
        m.typed("envoy.matching.custom_matchers.trie_matcher", trie)
    )
    return by_address


def _by_port(ports: Mapping[int, m.matcher.Matcher.OnMatch]) -> m.matcher.Matcher:
    matcher = m.matcher.Matcher(on_no_match=_take(PASSTHROUGH))
    matcher.matcher_tree.input.CopyFrom(_input("destination_port", m.inputs.DestinationPortInput()))
    for port, match in ports.items():
        matcher.matcher_tree.exact_match_map.map[str(port)].CopyFrom(match)
    return matcher


def _port(port: int, layout: Layout) -> m.matcher.Matcher.OnMatch:
    """First the addresses that declared what they speak; then HTTP or, where some did not, a look."""
    addresses = _at(port, layout.tcp)
    if port in layout.sniffed_ports:
        addresses |= dict.fromkeys(layout.http.get(port, ()), http_name(port))
        return _by_address(addresses, _take(INSPECT))
    return _by_address(addresses, _take(http_name(port) if port in layout.http_ports else PASSTHROUGH))


def inspecting_tree(layout: Layout) -> m.matcher.Matcher:
    """By destination port, then by what the bytes look like; what is no HTTP goes by address."""
    return _by_port({port: _by_looks(port, layout) for port in sorted(layout.sniffed_ports)})


def _by_looks(port: int, layout: Layout) -> m.matcher.Matcher.OnMatch:
    matcher = m.matcher.Matcher(on_no_match=_by_address(_at(port, layout.sniffed), _take(PASSTHROUGH)))
    matcher.matcher_tree.input.CopyFrom(_input("protocol", m.inputs.ApplicationProtocolInput()))
    for protocol in _HTTP_PROTOCOLS:
        matcher.matcher_tree.exact_match_map.map[protocol].CopyFrom(_take(http_name(port)))
    return m.matcher.Matcher.OnMatch(matcher=matcher)


def _at(port: int, by_port: Mapping[tuple[int, str], str]) -> dict[str, str]:
    return {address: cluster for (at, address), cluster in by_port.items() if at == port}


def _by_address(
    addresses: Mapping[str, str], otherwise: m.matcher.Matcher.OnMatch
) -> m.matcher.Matcher.OnMatch:
    if not addresses:
        return otherwise
    matcher = m.matcher.Matcher(on_no_match=otherwise)
    matcher.matcher_tree.input.CopyFrom(_input("destination_ip", m.inputs.DestinationIPInput()))
    for address, cluster in sorted(addresses.items()):
        matcher.matcher_tree.exact_match_map.map[address].CopyFrom(_take(cluster))
    return m.matcher.Matcher.OnMatch(matcher=matcher)


def _input(name: str, config: m.Message) -> m.matching_extension.TypedExtensionConfig:
    return m.typed(name, config)


def _take(chain: str) -> m.matcher.Matcher.OnMatch:
    """The action of a filter chain matcher is the name of a chain."""
    return m.matcher.Matcher.OnMatch(action=m.typed("chain", m.text(chain)))


def http_name(port: int) -> str:
    return f"http|{port}"
