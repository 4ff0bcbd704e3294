"""What a listener does with a connection: HTTP through a route table, TCP to a service, or onwards.

Filter chains are named, and a tree of matches (`trees.tree`) picks one by destination port, then address:
so that one HTTP chain serves all services of a port. What is undeclared goes on to a listener inside
the proxy, whose tree (`trees.inspecting_tree`) goes by the first bytes: so a pod's own listener looks at
none, and changes in nothing but its chains whatever services come and go (decision 0014).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ondol.mesh import mirrors
from ondol.mesh.model import istio
from ondol.mesh.policy import dialled
from ondol.mesh.translate import clusters, matches, mutual, observing, statistics
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.observing import Identity, Observation
from ondol.mesh.translate.statistics import Reporter
from ondol.mesh.xds.types import Origin

PASSTHROUGH: Final = "passthrough"
INSPECT: Final = "inspect"
INSPECT_NAMES: Final = "inspect-names"
NO_HOST: Final = "no-host.invalid"
_CARRIED: Final = {
    "envoy.filters.listener.original_dst.local_ip": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "envoy.filters.listener.original_dst.remote_ip": "%DOWNSTREAM_REMOTE_ADDRESS%",
}
"""What the original_dst filter of the inner listener reads, and where the outer one has it from."""
_SET_FILTER_STATE: Final = "envoy.filters.network.set_filter_state"
_LISTENS_IN: Final = "%FILTER_STATE(envoy.network.network_namespace:PLAIN)%"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a connection may be silent, and may live; whether its source chooses the endpoint."""

    idle_ms: int | None = None
    longest_ms: int | None = None
    by_source: bool = False
    tunnel: istio.TunnelSettings | None = None
    """Where the bytes go from the service, which is a proxy."""


_NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Way:
    """Where connections go: shares by cluster, and what policies ask of the connections."""

    clusters: tuple[tuple[str, int], ...]
    limits: Limits = _NO_LIMITS


ByName: TypeAlias = tuple[tuple[tuple[str, ...], str], ...]
"""Chains, each under the names that it is for."""


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
    ways: Mapping[str, Way] = field(default_factory=dict)
    """By chain, where a rule says where connections go: such chains stand in place of clusters above."""
    named: Mapping[tuple[int, str], ByName] = field(default_factory=dict)
    """By destination port and address, where TLS' name decides."""
    origins: tuple[Origin, ...] = ()
    """Of the rules."""
    fixed_ports: frozenset[int] = frozenset()
    """HTTP ports whose chain stays whatever services come, with the connections it has."""
    ranges: Mapping[tuple[int, str], str] = field(default_factory=dict)
    """As `tcp`, by network instead of address."""
    sniffed_ranges: Mapping[tuple[int, str], str] = field(default_factory=dict)
    """As `sniffed`, by network instead of address."""
    anywhere: Mapping[int, str] = field(default_factory=dict)
    """By port, who takes connections to whatever address, if they are nobody else's."""
    server_names: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """By port, clusters by the name or wildcard with which a TLS connection begins."""
    dynamic: frozenset[str] = frozenset()
    """Clusters that resolve the name each connection begins with."""
    reads_names: bool = False
    """Some HTTP service has the name of each request resolved."""
    resolvers: tuple[str, ...] = ()
    """Name servers for what is dynamic."""
    unknown: str = clusters.PASSTHROUGH
    """Where connections go that are nobody's."""

    @property
    def inspected_ports(self) -> frozenset[int]:
        """Ports on which only the first bytes of some connections tell where they go."""
        return self.sniffed_ports | frozenset(self.server_names)

    def is_read_at_once(self, port: int) -> bool:
        """Whether some connections to the port are known to be HTTP before their first bytes."""
        return port in self.fixed_ports or port not in self.inspected_ports or bool(self.http.get(port))


def http(
    name: str,
    table: str,
    identity: Identity,
    observation: Observation,
    *,
    ingress: bool = False,
    tells_client: bool = False,
    names: m.dns_cache.DnsCacheConfig | None = None,
) -> m.listener_components.FilterChain:
    """A chain that reads HTTP and follows a route table.

    `tells_client`: what a client's certificate says goes on in `x-forwarded-client-cert`. `names`: how hosts
    are resolved, if some are.
    """
    manager = m.hcm.HttpConnectionManager(
        stat_prefix=identity.stat_prefix,
        rds=m.hcm.Rds(route_config_name=table, config_source=m.from_ads()),
        http_filters=[
            _http_filter("envoy.filters.http.cors", m.cors.Cors()),
            _http_filter("envoy.filters.http.fault", m.fault.HTTPFault()),
            *_resolving(names),
            statistics.grpc_messages(),
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
            accept_http_10=True, default_host_for_http_10=NO_HOST
        ),
        # Whether a large body is wanted is for the server to say, not for the proxy.
        proxy_100_continue=True,
        upgrade_configs=[m.hcm.HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        access_log=observing.of_requests(observation),
    )
    if tells_client:
        manager.forward_client_cert_details = m.hcm.HttpConnectionManager.SANITIZE_SET
        details = manager.set_current_client_cert_details
        details.subject.value = True
        details.cert, details.dns, details.uri = True, True, True
    if observation.traces:
        manager.tracing.CopyFrom(observing.tracing(identity, observation))
        manager.generate_request_id.value = True
        observing.request_id(manager, observation)
    manager.server_header_transformation = m.hcm.HttpConnectionManager.PASS_THROUGH
    filters = [_filter("envoy.filters.network.http_connection_manager", manager)]
    states = m.set_filter_state.Config(on_new_connection=[mutual.state(mutual.SPEAKS, mutual.HTTP)])
    if identity.labels:
        states.on_new_connection.append(_constant(matches.LABELS, identity.labels))
    filters.insert(0, _filter(_SET_FILTER_STATE, states))
    return m.listener_components.FilterChain(name=name, filters=filters)


def _resolving(names: m.dns_cache.DnsCacheConfig | None) -> list[m.hcm.HttpFilter]:
    """Acts on requests alone whose cluster has the names of its hosts resolved."""
    if names is None:
        return []
    config = m.dynamic_names.FilterConfig(dns_cache_config=names)
    return [_http_filter("envoy.filters.http.dynamic_forward_proxy", config)]


def by_server_name(
    chain: m.listener_components.FilterChain, port: int, names: m.dns_cache.DnsCacheConfig
) -> m.listener_components.FilterChain:
    """The same chain for TLS, to where the name leads with which each connection begins."""
    config = m.dynamic_server_names.FilterConfig(dns_cache_config=names, port_value=port)
    resolving = m.listener_components.FilterChain(
        filters=[_filter("envoy.filters.network.sni_dynamic_forward_proxy", config)]
    )
    resolving.MergeFrom(chain)
    return resolving


def tcp(
    name: str, cluster: str, observation: Observation, limits: Limits = _NO_LIMITS
) -> m.listener_components.FilterChain:
    """A chain that carries bytes to a cluster."""
    return carry(name, Way(((cluster, 1),), limits), observation)


def carry(name: str, way: Way, observation: Observation) -> m.listener_components.FilterChain:
    """A chain that carries bytes to clusters, to each its share of the connections."""
    limits = way.limits
    proxy = m.tcp_proxy.TcpProxy(stat_prefix="tcp", access_log=observing.of_connections(observation))
    proxy.access_log_options.flush_access_log_on_connected = True
    if observation.reporter is Reporter.MUTUAL:
        # Whose the connection is, is known then; and nobody reaches the application without a certificate.
        dialled.after_the_handshake(proxy)
    if len(way.clusters) == 1:
        proxy.cluster = way.clusters[0][0]
    else:
        for cluster, weight in way.clusters:
            proxy.weighted_clusters.clusters.add(name=cluster, weight=weight)
    if limits.idle_ms is not None:
        proxy.idle_timeout.CopyFrom(m.duration(limits.idle_ms))
    if limits.longest_ms is not None:
        proxy.max_downstream_connection_duration.CopyFrom(m.duration(limits.longest_ms))
    if limits.tunnel is not None:
        _tunnel(proxy, limits.tunnel)
    if limits.by_source:
        proxy.hash_policy.add().source_ip.SetInParent()
    carrier = _filter("envoy.filters.network.tcp_proxy", proxy)
    return m.listener_components.FilterChain(name=name, filters=[carrier])


def _tunnel(proxy: m.tcp_proxy.TcpProxy, tunnel: istio.TunnelSettings) -> None:
    host = f"[{tunnel.target_host}]" if ":" in tunnel.target_host else tunnel.target_host
    proxy.tunneling_config.hostname = f"{host}:{tunnel.target_port}"
    proxy.tunneling_config.use_post = tunnel.protocol == "POST"


def of_a_pod(chain: m.listener_components.FilterChain, spiffe: str) -> m.listener_components.FilterChain:
    """The same for a listener inside a pod: whatever is dialled for its connections is dialled from there.

    And, where `spiffe` names an identity, as that. Carried on by the listener inside the proxy, too
    (decisions 0025, 0038).
    """
    value = m.filter_state_value.FilterStateValue
    origin = value(
        object_key=mirrors.DIALLED_FROM,
        factory_key="envoy.hashable_string",
        shared_with_upstream=value.TRANSITIVE,
    )
    origin.format_string.text_format_source.inline_string = _LISTENS_IN
    state = m.set_filter_state.Config(on_new_connection=[origin])
    if spiffe:
        state.on_new_connection.append(mutual.state(mutual.IDENTITY, spiffe, transitive=True))
        state.on_new_connection.extend(mutual.called())
    own = m.listener_components.FilterChain(filters=[_filter(_SET_FILTER_STATE, state)])
    own.MergeFrom(chain)
    return own


def on_the_host(chain: m.listener_components.FilterChain, spiffe: str) -> m.listener_components.FilterChain:
    """The same for a listener of the host: whatever is dialled for its connections is dialled as that."""
    if not spiffe:
        return chain
    state = m.set_filter_state.Config(on_new_connection=[mutual.state(mutual.IDENTITY, spiffe)])
    own = m.listener_components.FilterChain(filters=[_filter(_SET_FILTER_STATE, state)])
    own.MergeFrom(chain)
    return own


def inspect(cluster: str, name: str = INSPECT) -> m.listener_components.FilterChain:
    """A chain that hands connections to a listener inside the proxy, with the addresses they are of."""
    proxy = m.tcp_proxy.TcpProxy(stat_prefix="inspect", cluster=cluster, idle_timeout=m.duration(0))
    addresses = m.set_filter_state.Config(
        on_new_connection=[_carry(key, source) for key, source in _CARRIED.items()]
    )
    filters = [
        _filter(_SET_FILTER_STATE, addresses),
        _filter("envoy.filters.network.tcp_proxy", proxy),
    ]
    return m.listener_components.FilterChain(name=name, filters=filters)


def _carry(key: str, source: str) -> m.filter_state_value.FilterStateValue:
    value = m.filter_state_value.FilterStateValue
    carried = value(object_key=key, shared_with_upstream=value.ONCE)
    carried.format_string.text_format_source.inline_string = source
    return carried


def _filter(name: str, config: m.Message) -> m.listener_components.Filter:
    return m.listener_components.Filter(name=name, typed_config=m.any_of(config))


def _constant(key: str, text: str) -> m.filter_state_value.FilterStateValue:
    """A constant of every connection, for route matches to look at."""
    value = m.filter_state_value.FilterStateValue(object_key=key, factory_key="envoy.string", read_only=True)
    value.format_string.text_format_source.inline_string = text
    return value


def _http_filter(name: str, config: m.Message) -> m.hcm.HttpFilter:
    return m.hcm.HttpFilter(name=name, typed_config=m.any_of(config))


def take(chain: str) -> m.matcher.Matcher.OnMatch:
    """The action of a filter chain matcher is the name of a chain."""
    return m.matcher.Matcher.OnMatch(action=m.typed("chain", m.text(chain)))


def http_name(port: int) -> str:
    return f"http|{port}"
