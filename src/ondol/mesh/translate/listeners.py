"""Listeners: one inside each mesh pod's network namespace, one on the host for each ingress port.

What pods of one workload share is encoded once; a pod adds its name and its namespace's path. Beside
them stands one listener inside the proxy for each workload, which looks at the first bytes of what was
not declared.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.contracts import proxy
from ondol.contracts.proxy import outbound_socket
from ondol.mesh.model.kube import Client
from ondol.mesh.translate import chains, clusters, observing, outside, statistics, trees, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.chains import Layout, Limits, Way
from ondol.mesh.translate.observing import Identity, Observation
from ondol.mesh.xds.types import Origin, Resource

POD_PORT: Final = 15001
_SNIFF_MS: Final = 100
"""How long an undeclared port waits for a client to speak before it is taken for something else."""


@dataclass(frozen=True, slots=True)
class Common:
    """What the listeners of all pods of a layout have in common, encoded once."""

    layout: Layout
    observation: Observation
    suffix: str
    """Tells views apart in names."""
    outer: bytes
    """Of pods' own listeners: the chains that carry bytes, and which chain takes a connection."""
    inner: bytes
    """The same of those inside the proxy."""


def common(layout: Layout, observation: Observation, suffix: str = "", spiffe: str = "") -> Common:
    """`spiffe` is the identity of the pods."""
    bytes_to = (*layout.tcp.values(), *layout.ranges.values(), *layout.anywhere.values())
    outer = m.listener.Listener(
        filter_chains=[chains.of_a_pod(each, spiffe) for each in _carrying(bytes_to, layout, observation)],
        filter_chain_matcher=trees.tree(layout, POD_PORT),
    )
    named = [cluster for by_name in layout.server_names.values() for cluster in by_name.values()]
    bytes_to = (*layout.sniffed.values(), *layout.sniffed_ranges.values(), *layout.anywhere.values(), *named)
    inner = m.listener.Listener(
        filter_chains=_carrying(bytes_to, layout, observation),
        filter_chain_matcher=trees.inspecting_tree(layout),
    )
    return Common(layout, observation, suffix, wire.encode(outer), wire.encode(inner))


def shared(common: Common, identity: Identity, tables: dict[int, str]) -> bytes:
    """Everything of a pod's listener but its name and address, encoded.

    Its listener filters are always the same: Envoy takes a listener whose filters change for a new
    one, and ends every connection of the old.
    """
    layout, observation = common.layout, common.observation
    filter_chains = [
        chains.tcp(clusters.BLACKHOLE, clusters.BLACKHOLE, observation),
        chains.tcp(chains.PASSTHROUGH, layout.unknown, observation),
    ]
    if layout.inspected_ports:
        filter_chains.append(chains.inspect(inspector_name(identity) + common.suffix))
    if layout.named:
        to_names = names_inspector_name(identity) + common.suffix
        filter_chains.append(chains.inspect(to_names, chains.INSPECT_NAMES))
    ports = filter(layout.is_read_at_once, sorted(layout.http_ports))
    filter_chains += _reading(ports, layout, identity, tables, observation)
    own = m.listener.Listener(
        stat_prefix="pods",
        access_log=observing.of_listener(common.observation),
        metadata=statistics.workload(identity.described),
        traffic_direction=m.base.OUTBOUND,
        listener_filters=[_original_dst()],
        filter_chains=[chains.of_a_pod(each, identity.spiffe) for each in filter_chains],
    )
    return wire.encode(own) + common.outer


def inspector_name(identity: Identity) -> str:
    """Of the listener, and of the cluster that leads to it."""
    text = f"{identity.revision}\0{identity.labels}\0{identity.spiffe}\0{identity.described}".encode()
    return f"inspect|{identity.namespace}/{identity.workload}|{wire.digest(text)}"


def inspector(common: Common, identity: Identity, tables: dict[int, str]) -> Resource:
    """The listener inside the proxy that takes a workload's undeclared connections."""
    layout, observation = common.layout, common.observation
    filter_chains = [chains.tcp(chains.PASSTHROUGH, layout.unknown, observation)]
    ports = sorted(layout.inspected_ports & layout.http_ports)
    filter_chains += _reading(ports, layout, identity, tables, observation)
    name = inspector_name(identity) + common.suffix
    looks = [
        tls_inspector(),
        listener_filter("envoy.filters.listener.http_inspector", m.http_inspector.HttpInspector()),
    ]
    own = wire.encode(
        m.listener.Listener(
            name=name,
            stat_prefix="inspect",
            access_log=observing.of_listener(common.observation),
            metadata=statistics.workload(identity.described),
            traffic_direction=m.base.OUTBOUND,
            internal_listener=m.listener.Listener.InternalListenerConfig(),
            listener_filters=[_original_dst(), *looks],
            listener_filters_timeout=m.duration(_SNIFF_MS),
            continue_on_listener_filters_timeout=True,
            filter_chains=filter_chains,
        )
    )
    encoded = own + common.inner
    return Resource(name, wire.digest(encoded), encoded)


def names_inspector_name(identity: Identity) -> str:
    """Of the listener that reads the names that TLS asks for, and of the cluster that leads to it."""
    return f"names|{inspector_name(identity).partition('|')[2]}"


def names_inspector(common: Common, identity: Identity) -> Resource:
    """The listener inside the proxy that takes a workload's connections where rules go by TLS' name.

    Apart from the other one, which waits for nobody long: here a name must come, and nothing else leads on.
    """
    name = names_inspector_name(identity) + common.suffix
    encoded = wire.encode(
        m.listener.Listener(
            name=name,
            stat_prefix="names",
            access_log=observing.of_listener(common.observation),
            metadata=statistics.workload(identity.described),
            traffic_direction=m.base.OUTBOUND,
            internal_listener=m.listener.Listener.InternalListenerConfig(),
            listener_filters=[_original_dst(), tls_inspector()],
            filter_chains=_named(common.layout, common.observation),
        )
    )
    return Resource(name, wire.digest(encoded), encoded)


def _named(layout: Layout, observation: Observation) -> Iterator[m.listener_components.FilterChain]:
    """A chain for each set of names at a port and address; what asks for none of them has none."""
    for (port, address), by_names in sorted(layout.named.items()):
        for names, way in by_names:
            chain = _carry(f"{address}|{way}", layout.ways[way], layout, observation)
            match = chain.filter_chain_match
            match.destination_port.value = port
            length = ipaddress.ip_address(address).max_prefixlen
            match.prefix_ranges.add(address_prefix=address).prefix_len.value = length
            match.server_names.extend(names)
            yield chain


def _reading(
    ports: Iterable[int],
    layout: Layout,
    identity: Identity,
    tables: Mapping[int, str],
    observation: Observation,
) -> Iterator[m.listener_components.FilterChain]:
    """A chain for each port that carries HTTP."""
    names = outside.dns_cache(layout.resolvers) if layout.reads_names else None
    for port in ports:
        yield chains.http(chains.http_name(port), tables[port], identity, observation, names=names)


def _carrying(
    names: Iterable[str], layout: Layout, observation: Observation
) -> Iterator[m.listener_components.FilterChain]:
    """A chain for each cluster that gets bytes, or for the clusters that share them by a rule."""
    for name in sorted(set(names) - {chains.INSPECT_NAMES}):
        way = layout.ways.get(name) or Way(((name, 1),), layout.limits.get(name, Limits()))
        yield _carry(name, way, layout, observation)


def _carry(
    name: str, way: Way, layout: Layout, observation: Observation
) -> m.listener_components.FilterChain:
    chain = chains.carry(name, way, observation)
    resolved = (proxy.destination(cluster) for cluster, _ in way.clusters if cluster in layout.dynamic)
    destination = next(resolved, None)
    if destination is None:
        return chain
    return chains.by_server_name(chain, destination.port, outside.dns_cache(layout.resolvers))


def _original_dst() -> m.listener_components.ListenerFilter:
    return listener_filter("envoy.filters.listener.original_dst", m.original_dst.OriginalDst())


def listener_filter(name: str, config: m.Message) -> m.listener_components.ListenerFilter:
    return m.listener_components.ListenerFilter(name=name, typed_config=m.any_of(config))


def tls_inspector() -> m.listener_components.ListenerFilter:
    """Reads the name that a TLS client asks for, before anything else is read."""
    return listener_filter("envoy.filters.listener.tls_inspector", m.tls_inspector.TlsInspector())


def pod_name(client: Client) -> str:
    """Carries the uid: a pod made again under its name has another namespace."""
    return f"pod|{client.key}|{client.uid}"


def pod(
    client: Client,
    netns_dir: Path,
    body: bytes,
    carries: tuple[Origin, ...] = (),
    patched_by: tuple[Origin, ...] = (),
) -> Resource:
    """The listener inside one pod."""
    head = m.listener.Listener(
        name=pod_name(client),
        address=m.socket("127.0.0.1", POD_PORT, str(netns_dir / client.uid)),
    )
    encoded = wire.encode(head) + body
    origin = Origin("Pod", client.key.namespace, client.key.name, client.uid)
    return Resource(head.name, wire.digest(encoded), encoded, (origin, *patched_by), carries)


def ingress_name(port: int) -> str:
    return f"ingress|{port}"


def outbound_name(port: int) -> str:
    return f"outbound|{port}"


def outbound(folder: Path, port: int, table: str, identity: Identity, observation: Observation) -> Resource:
    """A socket of the run folder by which the platform's own parts call services at a port."""
    name = outbound_name(port)
    chain = chains.http(name, table, identity, observation)
    listener = m.listener.Listener(
        name=name,
        stat_prefix=f"outbound_{port}",
        metadata=statistics.workload(identity.described),
        traffic_direction=m.base.OUTBOUND,
        address=m.pipe(folder / outbound_socket(port), mode=0o600),
        filter_chains=[chains.on_the_host(chain, identity.spiffe)],
    )
    encoded = wire.encode(listener)
    return Resource(name, wire.digest(encoded), encoded)


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
        metadata=statistics.workload(identity.described),
        traffic_direction=m.base.OUTBOUND,
        address=m.socket(port.address, port.bind),
        # Shared, two platforms on this machine would take each other's calls at random: better refused.
        enable_reuse_port=m.boolean(False),
        filter_chains=[chains.on_the_host(chain, identity.spiffe)],
    )
    encoded = wire.encode(listener)
    return Resource(name, wire.digest(encoded), encoded, tuple(origins))
