"""What arrives at a guarded pod: a listener inside it, which asks the policies, and on to the application.

Connections are the node's to turn here, whoever made them. Mutual TLS is told by its ALPN, which says too
whether HTTP is within; everything else by the port's protocol, or its first bytes. The filters that decide
about a request are resources of their own, in slots that every such listener has: another policy changes no
listener, and holds for the next request on every connection (decision 0038).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.mesh.model.kube import Client, Protocol
from ondol.mesh.policy import Mode, PeerModes, WorkloadPolicy, dialled, harden
from ondol.mesh.translate import chains, clusters, listeners, mutual, observing, statistics, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.observing import Observation
from ondol.mesh.translate.statistics import Reporter
from ondol.mesh.xds.types import Origin, Resource

POD_PORT: Final = 15006
_EVERYWHERE: Final = "0.0.0.0"
"""Of the pod's own namespace."""
SLOTS: Final = 8
"""Filters of requests, at most: tokens, paths denied to all, who is asked outside (two), and on trial;
what is noted, what is denied, what is allowed."""
_MUTUAL_HTTP: Final = "mutual|http"
_MUTUAL_TCP: Final = "mutual|tcp"
_PLAIN_HTTP: Final = "plain|http"
_PLAIN_TCP: Final = "plain|tcp"
_MUTUAL_UNREAD: Final = "mutual|unread"
_PLAIN_UNREAD: Final = "plain|unread"
"""Not HTTP as far as the first bytes tell, on a port of which nobody declared that it is not."""
_LOOK_MS: Final = 100
_SAFE_RETRIES: Final = 2
_ALLOWED: Final = tuple(
    f"type.googleapis.com/envoy.extensions.filters.http.{name}"
    for name in ("rbac.v3.RBAC", "jwt_authn.v3.JwtAuthentication", "ext_authz.v3.ExtAuthz")
)
_HTTP_PROTOCOLS: Final = ("'http/1.0'", "'http/1.1'", "'h2c'")


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands before the pods of one workload; equal for pods that share everything."""

    namespace: str
    workload: str
    identity: str
    """SPIFFE, of the pods' own certificate."""
    trust_domain: str
    ports: tuple[tuple[int, Protocol], ...] = ()
    """What Services declare of them, by number."""
    modes: PeerModes = field(default_factory=PeerModes)
    is_open: bool = False
    """Some of the pods are not turned yet: callers of the mesh may still come without TLS."""
    prefix: str = ""
    """What the names of its filters' resources begin with."""
    described: str = ""
    """As statistics have it (`contracts.telemetry.Workload`)."""
    service: str = ""
    """The host of its first Service, if it has any."""


def slot(guard: Guard, index: int) -> str:
    return f"{guard.prefix}|{index}"


def slots(guard: Guard) -> tuple[str, ...]:
    """The names of all its filters' resources."""
    return tuple(slot(guard, index) for index in range(SLOTS))


def filters(
    guard: Guard, configured: Sequence[m.hcm.HttpFilter], origins: tuple[Origin, ...]
) -> list[Resource]:
    """What the slots hold: the filters in their order, and nothing in the rest."""
    if len(configured) > SLOTS:
        raise ValueError(f"{len(configured)} filters for {SLOTS} slots")
    configs = [each.typed_config for each in configured]
    configs += [m.any_of(m.http_rbac.RBAC())] * (SLOTS - len(configs))
    resources = []
    for index, config in enumerate(configs):
        name = slot(guard, index)
        encoded = wire.encode(m.extension.TypedExtensionConfig(name=name, typed_config=config))
        resources.append(Resource(name, wire.digest(encoded), encoded, origins))
    return resources


def shared(
    guard: Guard,
    policy: WorkloadPolicy,
    decides: Sequence[m.listener_components.Filter],
    unread: Sequence[m.listener_components.Filter],
    observation: Observation,
) -> bytes:
    """Everything of a guarded pod's listener but its name and address, encoded.

    `decides`: the filters that decide about connections that are not HTTP; `unread`, about those of which
    nobody declared that they are not, and have chains of their own where that makes a difference.
    """
    plain, secured = observation.by(Reporter.PLAIN), observation.by(Reporter.MUTUAL)
    has_unread = list(unread) != list(decides)
    filter_chains = [
        chains.tcp(clusters.BLACKHOLE, clusters.BLACKHOLE, plain),
        _http(_PLAIN_HTTP, guard, policy, plain),
        _tcp(_PLAIN_TCP, decides, plain),
    ]
    encrypted = [_http(_MUTUAL_HTTP, guard, policy, secured), _tcp(_MUTUAL_TCP, decides, secured)]
    if has_unread:
        filter_chains.append(_tcp(_PLAIN_UNREAD, unread, plain))
        encrypted.append(_tcp(_MUTUAL_UNREAD, unread, secured))
    for chain in encrypted:
        chain.transport_socket.CopyFrom(mutual.downstream(guard.identity, guard.trust_domain))
        filter_chains.append(chain)
    looking = [
        listeners.listener_filter("envoy.filters.listener.original_dst", m.original_dst.OriginalDst()),
        listeners.listener_filter("envoy.filters.listener.tls_inspector", m.tls_inspector.TlsInspector()),
        listeners.listener_filter("envoy.filters.listener.http_inspector", m.http_inspector.HttpInspector()),
    ]
    return wire.encode(
        m.listener.Listener(
            stat_prefix="arrivals",
            metadata=statistics.workload(guard.described, guard.service),
            access_log=[*observing.of_listener(plain), *observing.of_listener(secured)],
            traffic_direction=m.base.INBOUND,
            listener_filters=looking,
            listener_filters_timeout=m.duration(_LOOK_MS),
            continue_on_listener_filters_timeout=True,
            # The proxy dials the application from within the pod: what arrives comes from outside of it.
            filter_chains=[chains.of_a_pod(each, "") for each in filter_chains],
            filter_chain_matcher=_tree(guard, has_unread=has_unread),
        )
    )


def pod_name(client: Client) -> str:
    return f"arrivals|{client.key}|{client.uid}"


def pod(
    client: Client,
    netns_dir: Path,
    body: bytes,
    origins: Iterable[Origin],
    patched_by: tuple[Origin, ...] = (),
) -> Resource:
    """The listener inside one pod; the objects that ask for it hold once it runs, and are not to blame."""
    name = pod_name(client)
    place = m.socket(_EVERYWHERE, POD_PORT, str(netns_dir / client.uid))
    head = m.listener.Listener(name=name, address=place)
    encoded = wire.encode(head) + body
    origin = Origin("Pod", client.key.namespace, client.key.name, client.uid)
    return Resource(name, wire.digest(encoded), encoded, (origin, *patched_by), tuple(origins))


def _http(
    name: str, guard: Guard, policy: WorkloadPolicy, observation: Observation
) -> m.listener_components.FilterChain:
    """A chain that reads HTTP, asks the policies about each request, and hands it to the application."""
    is_mutual = name == _MUTUAL_HTTP
    forward = m.hcm.HttpConnectionManager.SANITIZE_SET if is_mutual else m.hcm.HttpConnectionManager.SANITIZE
    manager = m.hcm.HttpConnectionManager(
        stat_prefix=f"arrivals.{guard.namespace}/{guard.workload}",
        route_config=_onwards(),
        http_filters=[
            *([statistics.heard()] if is_mutual else []),
            statistics.grpc_messages(),
            *(_slot(guard, index) for index in range(SLOTS)),
            m.hcm.HttpFilter(name="envoy.filters.http.router", typed_config=m.any_of(m.router.Router())),
        ],
        use_remote_address=m.boolean(False),
        forward_client_cert_details=forward,
        stream_idle_timeout=m.duration(0),
        http_protocol_options=m.protocol.Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10=chains.NO_HOST
        ),
        proxy_100_continue=True,
        upgrade_configs=[m.hcm.HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        access_log=observing.of_requests(observation),
        generate_request_id=m.boolean(False),
        preserve_external_request_id=True,
    )
    if is_mutual:
        m.parse({"uri": True, "subject": True, "dns": True}, manager.set_current_client_cert_details)
    manager.server_header_transformation = m.hcm.HttpConnectionManager.PASS_THROUGH
    harden(manager, policy)
    carrier = m.listener_components.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=m.any_of(manager)
    )
    return m.listener_components.FilterChain(name=name, filters=[carrier])


def _slot(guard: Guard, index: int) -> m.hcm.HttpFilter:
    source = m.sources.ExtensionConfigSource(config_source=m.from_ads(), type_urls=_ALLOWED)
    return m.hcm.HttpFilter(name=slot(guard, index), config_discovery=source)


def _onwards() -> m.route.RouteConfiguration:
    """Where the connection was going; once more where the application hung up before it was told anything."""
    route = {
        "match": {"prefix": "/"},
        "route": {
            "cluster": clusters.ARRIVALS,
            "timeout": "0s",
            "retryPolicy": {"retryOn": "reset-before-request", "numRetries": _SAFE_RETRIES},
        },
    }
    table = m.route.RouteConfiguration()
    hosts = [{"name": "arrivals", "domains": ["*"], "routes": [route]}]
    m.parse({"name": "arrivals", "virtualHosts": hosts, "validateClusters": False}, table)
    return table


def _tcp(
    name: str, decides: Sequence[m.listener_components.Filter], observation: Observation
) -> m.listener_components.FilterChain:
    """A chain that carries bytes to the application, which is dialled for nobody who may not come in."""
    is_mutual = name in (_MUTUAL_TCP, _MUTUAL_UNREAD)
    chain = chains.tcp(name, clusters.ARRIVALS, observation)
    chooser = dialled.chooser(decides, has_identity=is_mutual)
    filters = [*([chooser] if chooser is not None else []), *decides, *chain.filters]
    return m.listener_components.FilterChain(name=name, filters=filters)


def _tree(guard: Guard, *, has_unread: bool) -> m.matcher.Matcher:
    """By destination port: nowhere for the listener's own, else by what the port takes and speaks."""
    numbers = {*(port for port, _ in guard.ports), *guard.modes.ports}
    ports = {port: _port(guard, port, has_unread=has_unread) for port in sorted(numbers)}
    ports[POD_PORT] = chains.take(clusters.BLACKHOLE)
    matcher = m.matcher.Matcher(on_no_match=_port(guard, 0, has_unread=has_unread))
    matcher.matcher_tree.input.CopyFrom(m.typed("destination_port", m.inputs.DestinationPortInput()))
    for port, match in ports.items():
        matcher.matcher_tree.exact_match_map.map[str(port)].CopyFrom(match)
    return matcher


def _port(guard: Guard, port: int, *, has_unread: bool) -> m.matcher.Matcher.OnMatch:
    """First what is mutual TLS; then, where the mode lets it in, whatever else comes."""
    mode = Mode.PERMISSIVE if guard.is_open else guard.modes.mode(port)
    declared = dict(guard.ports).get(port, Protocol.SNIFFED)
    is_bytes = declared in (Protocol.TCP, Protocol.TLS)
    refused = chains.take(clusters.BLACKHOLE)
    is_unread = has_unread and not is_bytes
    plain_tcp = refused if mode is Mode.STRICT else chains.take(_PLAIN_UNREAD if is_unread else _PLAIN_TCP)
    plain_http = refused if mode is Mode.STRICT else chains.take(_PLAIN_HTTP)
    spoken = plain_tcp if is_bytes else plain_http
    if declared is Protocol.SNIFFED:
        spoken = _by_words(dict.fromkeys(_HTTP_PROTOCOLS, plain_http), plain_tcp)
    # A caller may think otherwise of the port, and its proxy with it: what is declared here counts.
    of_bytes = _MUTUAL_UNREAD if is_unread else _MUTUAL_TCP
    if not is_bytes and declared is not Protocol.SNIFFED:
        of_bytes = _MUTUAL_HTTP
    offered = {f"'{mutual.HTTP_ALPN}'": _MUTUAL_HTTP, f"'{mutual.TCP_ALPN}'": of_bytes}
    secured = {} if mode is Mode.DISABLE else {words: chains.take(name) for words, name in offered.items()}
    matcher = m.matcher.Matcher(on_no_match=spoken)
    matcher.matcher_tree.input.CopyFrom(m.typed("transport_protocol", m.inputs.TransportProtocolInput()))
    matcher.matcher_tree.exact_match_map.map["tls"].CopyFrom(_by_words(secured, plain_tcp))
    return m.matcher.Matcher.OnMatch(matcher=matcher)


def _by_words(
    matches: Mapping[str, m.matcher.Matcher.OnMatch], otherwise: m.matcher.Matcher.OnMatch
) -> m.matcher.Matcher.OnMatch:
    """By the protocols of a hello or of the first bytes, as the matching input spells them."""
    if not matches:
        return otherwise
    matcher = m.matcher.Matcher(on_no_match=otherwise)
    matcher.matcher_tree.input.CopyFrom(m.typed("protocol", m.inputs.ApplicationProtocolInput()))
    for words, match in matches.items():
        matcher.matcher_tree.exact_match_map.map[words].CopyFrom(match)
    return m.matcher.Matcher.OnMatch(matcher=matcher)
