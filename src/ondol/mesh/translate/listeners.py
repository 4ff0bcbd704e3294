"""Listeners: one inside each mesh pod's network namespace, one on the host for each ingress port.

What pods of one workload share is encoded once; a pod adds its name and its namespace's path. Beside
them stands one listener inside the proxy for each workload, which looks at the first bytes of what was
not declared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.contracts.proxy import cluster_name
from ondol.mesh.model import istio
from ondol.mesh.model.istio import milliseconds
from ondol.mesh.model.kube import Client, Protocol
from ondol.mesh.translate import chains, clusters, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.chains import Identity, Layout, Limits, Observation
from ondol.mesh.translate.reach import ANYBODY
from ondol.mesh.translate.registry import Registry
from ondol.mesh.xds.types import Origin, Resource

POD_PORT: Final = 15001
_SNIFF_MS: Final = 100
"""How long an undeclared port waits for a client to speak before it is taken for something else."""
_LONGEST_MS: Final = 10 * 365 * 86_400_000


def layout(registry: Registry, always: Iterable[int], caller: str = ANYBODY) -> Layout:
    """What all services together ask of a listener, as `caller` calls them."""
    fixed = frozenset(always)
    http: set[int] = set(fixed)
    sniffed: set[int] = set()
    read: dict[int, set[str]] = {}
    headless: set[int] = set()
    declared: dict[tuple[int, str], str] = {}
    undeclared: dict[tuple[int, str], str] = {}
    limits: dict[str, Limits] = {}
    for service in registry.services.values():
        scope = registry.scope(service.host, caller)
        for port in service.ports:
            cluster = cluster_name(service.host, port.number, scope=scope)
            names = {(port.number, address): cluster for address in service.addresses}
            if port.is_http:
                http.add(port.number)
            if port.protocol is Protocol.SNIFFED:
                sniffed.add(port.number)
                undeclared.update(names)
            elif port.protocol is Protocol.TCP:
                declared.update(names)
                if not names:
                    headless.add(port.number)
            else:
                read.setdefault(port.number, set()).update(service.addresses)
            if port.protocol in (Protocol.SNIFFED, Protocol.TCP):
                bounds = _limits(registry.traffic(service.host, "", port.number, scope))
                limits.update(dict.fromkeys(names.values(), bounds) if bounds else {})
    # Pods of a headless service are called by addresses of their own, which are not known here: where
    # such a TCP port is somebody else's HTTP, only the bytes can tell.
    sniffed |= headless & http
    return Layout(
        frozenset(http),
        frozenset(sniffed),
        {port: frozenset(addresses) for port, addresses in read.items() if port in sniffed},
        declared,
        undeclared,
        limits,
        fixed,
    )


def _limits(traffic: istio.TrafficPolicy) -> Limits | None:
    pool = traffic.connection_pool or istio.ConnectionPoolSettings()
    tcp = pool.tcp or istio.TCPSettings()
    hashing = traffic.load_balancer.consistent_hash if traffic.load_balancer is not None else None
    by_source = hashing is not None and hashing.use_source_ip
    limits = Limits(_at_most(tcp.idle_timeout), _at_most(tcp.max_connection_duration), by_source)
    return None if limits == Limits() else limits


def _at_most(text: str | None) -> int | None:
    """Milliseconds; listeners are everybody's, so none may be more than the proxy can count."""
    return None if text is None else min(milliseconds(text, "connectionPool.tcp"), _LONGEST_MS)


def shared(
    layout: Layout,
    identity: Identity,
    tables: dict[int, str],
    observation: Observation,
) -> bytes:
    """Everything of a pod's listener but its name and address, encoded.

    Its listener filters are always the same: Envoy takes a listener whose filters change for a new
    one, and ends every connection of the old.
    """
    filter_chains = [
        chains.tcp(clusters.BLACKHOLE, clusters.BLACKHOLE, observation),
        chains.tcp(chains.PASSTHROUGH, clusters.PASSTHROUGH, observation),
    ]
    if layout.sniffed_ports:
        filter_chains.append(chains.inspect(inspector_name(identity)))
    ports = filter(layout.is_read_at_once, sorted(layout.http_ports))
    filter_chains += [
        chains.http(chains.http_name(port), tables[port], identity, observation) for port in ports
    ]
    filter_chains += _carrying(layout.tcp.values(), layout, observation)
    return wire.encode(
        m.listener.Listener(
            stat_prefix="pods",
            traffic_direction=m.base.OUTBOUND,
            listener_filters=[_original_dst()],
            filter_chains=[chains.of_a_pod(each) for each in filter_chains],
            filter_chain_matcher=chains.tree(layout, POD_PORT),
        )
    )


def inspector_name(identity: Identity) -> str:
    """Of the listener, and of the cluster that leads to it."""
    text = f"{identity.revision}\0{identity.labels}".encode()
    return f"inspect|{identity.namespace}/{identity.workload}|{wire.digest(text)}"


def inspector(
    layout: Layout, identity: Identity, tables: dict[int, str], observation: Observation
) -> Resource:
    """The listener inside the proxy that takes a workload's undeclared connections."""
    filter_chains = [chains.tcp(chains.PASSTHROUGH, clusters.PASSTHROUGH, observation)]
    ports = sorted(layout.sniffed_ports & layout.http_ports)
    filter_chains += [
        chains.http(chains.http_name(port), tables[port], identity, observation) for port in ports
    ]
    filter_chains += _carrying(layout.sniffed.values(), layout, observation)
    name = inspector_name(identity)
    looks = _listener_filter("envoy.filters.listener.http_inspector", m.http_inspector.HttpInspector())
    encoded = wire.encode(
        m.listener.Listener(
            name=name,
            stat_prefix="inspect",
            traffic_direction=m.base.OUTBOUND,
            internal_listener=m.listener.Listener.InternalListenerConfig(),
            listener_filters=[_original_dst(), looks],
            listener_filters_timeout=m.duration(_SNIFF_MS),
            continue_on_listener_filters_timeout=True,
            filter_chains=filter_chains,
            filter_chain_matcher=chains.inspecting_tree(layout),
        )
    )
    return Resource(name, wire.digest(encoded), encoded)


def _carrying(
    names: Iterable[str], layout: Layout, observation: Observation
) -> list[m.listener_components.FilterChain]:
    """A chain for each cluster that gets bytes."""
    return [
        chains.tcp(cluster, cluster, observation, layout.limits.get(cluster, Limits()))
        for cluster in sorted(set(names))
    ]


def _original_dst() -> m.listener_components.ListenerFilter:
    return _listener_filter("envoy.filters.listener.original_dst", m.original_dst.OriginalDst())


def _listener_filter(name: str, config: m.Message) -> m.listener_components.ListenerFilter:
    return m.listener_components.ListenerFilter(name=name, typed_config=m.any_of(config))


def pod_name(client: Client) -> str:
    """Carries the uid: a pod made again under its name has another namespace."""
    return f"pod|{client.key}|{client.uid}"


def pod(client: Client, netns_dir: Path, body: bytes) -> Resource:
    """The listener inside one pod."""
    head = m.listener.Listener(
        name=pod_name(client),
        address=m.socket("127.0.0.1", POD_PORT, str(netns_dir / client.uid)),
    )
    encoded = wire.encode(head) + body
    origin = Origin("Pod", client.key.namespace, client.key.name, client.uid)
    return Resource(head.name, wire.digest(encoded), encoded, (origin,))


def ingress_name(port: int) -> str:
    return f"ingress|{port}"


@dataclass(frozen=True, slots=True)
class IngressPort:
    """A port of the ingress gateway on the host."""

    address: str
    bind: int
    """Where it listens."""
    number: int
    """What gateways and rules call it."""


def ingress(
    port: IngressPort, identity: Identity, observation: Observation, origins: Iterable[Origin]
) -> Resource:
    name = ingress_name(port.number)
    chain = chains.http(name, name, identity, observation, ingress=True)
    listener = m.listener.Listener(
        name=name,
        stat_prefix=f"ingress_{port.number}",
        traffic_direction=m.base.OUTBOUND,
        address=m.socket(port.address, port.bind),
        # Shared, two platforms on this machine would take each other's calls at random: better refused.
        enable_reuse_port=m.boolean(False),
        filter_chains=[chain],
    )
    encoded = wire.encode(listener)
    return Resource(name, wire.digest(encoded), encoded, tuple(origins))
