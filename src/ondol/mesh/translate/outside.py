"""Clusters of what is outside: by names that the proxy resolves, or to where the caller was going.

Each turns a service's cluster, with its policies already in it, into one whose endpoints are known otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ondol.contracts.proxy import Destination
from ondol.mesh import bootstrap
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import istio
from ondol.mesh.model.kube import Resolution, Service, ServicePort
from ondol.mesh.translate import clusters
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.locality import Group

_CACHE: Final = "outside"
_REFRESH_MS: Final = 60_000
"""How long a name counts that does not say so itself, as in Istio."""


def turn(
    cluster: m.cluster.Cluster,
    service: Service,
    port: ServicePort,
    *,
    groups: Iterable[Group],
    traffic: istio.TrafficPolicy,
    config: MeshConfig,
) -> None:
    """Make a cluster of a service one of its resolution, which carries the mark of what a user chose."""
    if service.is_outside or service.resolution is Resolution.CALLER:
        m.parse(bootstrap.bind_config(config.passthrough_mark), cluster.upstream_bind_config)
    is_checked = False
    if traffic.tls is not None and follows_names(service, port, traffic):
        is_checked = _follow_names(cluster, traffic.tls)
    if cluster.type != m.cluster.Cluster.ORIGINAL_DST:  # a policy may have left it to the caller already
        _turn(cluster, service, port, groups, config.resolvers)
    if service.resolution is Resolution.DYNAMIC and not is_checked:
        _let_names_go_unchecked(cluster)


def _let_names_go_unchecked(cluster: m.cluster.Cluster) -> None:
    """Where there is no TLS, or a policy says otherwise; the proxy asks for such words."""
    config = m.dynamic_cluster.ClusterConfig()
    packed = cluster.cluster_type.typed_config
    if packed.Unpack(config):
        config.allow_insecure_cluster_options = True
        packed.CopyFrom(m.any_of(config))


def _turn(
    cluster: m.cluster.Cluster,
    service: Service,
    port: ServicePort,
    groups: Iterable[Group],
    resolvers: tuple[str, ...],
) -> None:
    resolution = service.resolution
    if resolution.is_listed:
        return
    cluster.ClearField("eds_cluster_config")
    if resolution is Resolution.CALLER:
        cluster.type = m.cluster.Cluster.ORIGINAL_DST
        cluster.lb_policy = m.cluster.Cluster.CLUSTER_PROVIDED
        _clear_balancing(cluster)
        if port.target and port.target != port.number:
            cluster.original_dst_lb_config.upstream_port_override.value = int(port.target)
        return
    if resolution is Resolution.DYNAMIC:
        cluster.ClearField("type")
        config = m.dynamic_cluster.ClusterConfig(dns_cache_config=dns_cache(resolvers))
        cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
        cluster.cluster_type.typed_config.CopyFrom(m.any_of(config))
        cluster.lb_policy = m.cluster.Cluster.CLUSTER_PROVIDED
        _clear_balancing(cluster)
        return
    assignment = _assignment(cluster.name, groups)
    # Envoy takes exactly one name for it.
    by_turns = resolution is Resolution.DNS_ROUND_ROBIN and len(assignment.endpoints) == 1
    by_turns &= all(len(each.lb_endpoints) == 1 for each in assignment.endpoints)
    cluster.type = m.cluster.Cluster.LOGICAL_DNS if by_turns else m.cluster.Cluster.STRICT_DNS
    cluster.dns_lookup_family = m.cluster.Cluster.V4_ONLY
    cluster.respect_dns_ttl = True
    cluster.dns_refresh_rate.CopyFrom(m.duration(_REFRESH_MS))
    # A name that nobody answers for keeps nothing else from its turn.
    cluster.wait_for_warm_on_init.value = False
    if resolvers:
        cluster.typed_dns_resolver_config.CopyFrom(_resolver(resolvers))
    cluster.load_assignment.CopyFrom(assignment)


def _clear_balancing(cluster: m.cluster.Cluster) -> None:
    for field in ("ring_hash_lb_config", "maglev_lb_config", "round_robin_lb_config"):
        cluster.ClearField(field)
    cluster.ClearField("least_request_lb_config")


def _assignment(name: str, groups: Iterable[Group]) -> m.endpoint.ClusterLoadAssignment:
    assignment = clusters.load_assignment(name, groups)
    if not any(locality.lb_endpoints for locality in assignment.endpoints):
        assignment.ClearField("endpoints")
    return assignment


def dns_cache(resolvers: tuple[str, ...]) -> m.dns_cache.DnsCacheConfig:
    """One for all: who shares it by its name has to describe it alike."""
    cache = m.dns_cache.DnsCacheConfig(name=_CACHE, dns_lookup_family=m.cluster.Cluster.V4_ONLY)
    if resolvers:
        cache.typed_dns_resolver_config.CopyFrom(_resolver(resolvers))
    return cache


def _resolver(resolvers: tuple[str, ...]) -> m.extension.TypedExtensionConfig:
    config = m.cares.CaresDnsResolverConfig(resolvers=[m.upstream(each) for each in resolvers])
    config.dns_resolver_options.no_default_search_domain = True
    return m.extension.TypedExtensionConfig(
        name="envoy.network.dns_resolver.cares", typed_config=m.any_of(config)
    )


def follows_names(service: Service, port: ServicePort, traffic: istio.TrafficPolicy) -> bool:
    """A wildcard names no server: whom a request is for is asked for, and has to be in the certificate."""
    tls = traffic.tls
    begins_tls = tls is not None and tls.mode in ("SIMPLE", "MUTUAL") and not tls.sni
    return begins_tls and port.is_http and service.host.startswith("*")


def trusted(service: Service, traffic: istio.TrafficPolicy) -> istio.TrafficPolicy:
    """Where TLS begins here, the names of an entry are those that its servers' certificates have.

    Unless the policy says others.
    """
    if traffic.tls is None or traffic.tls.subject_alt_names or not service.server_names:
        return traffic
    tls = msgspec.structs.replace(traffic.tls, subject_alt_names=service.server_names)
    return msgspec.structs.replace(traffic, tls=tls)


def _follow_names(cluster: m.cluster.Cluster, tls: istio.ClientTLSSettings) -> bool:
    """Returns whether the name that is asked for has to be in the certificate: if no other is wanted."""
    options = m.http_options.HttpProtocolOptions()
    packed = cluster.typed_extension_protocol_options[clusters.HTTP_OPTIONS]
    packed.Unpack(options)
    is_checked = not (tls.insecure_skip_verify or tls.subject_alt_names)
    options.upstream_http_protocol_options.auto_sni = True
    options.upstream_http_protocol_options.auto_san_validation = is_checked
    packed.CopyFrom(m.any_of(options))
    return is_checked


def statistic_name(destination: Destination) -> str:
    """By which the proxy counts a cluster of the outside: an end is put to the host, where dots go on."""
    name = f"outbound|{destination.port}|{destination.subset}|{destination.host}"
    return f"{name}|{destination.scope}"
