"""A service with what DestinationRules say of it: its clusters, and the endpoints behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from ondol.api.objects import Key
from ondol.contracts import proxy
from ondol.mesh.config import MeshConfig
from ondol.mesh.identity import spiffe
from ondol.mesh.model import kube
from ondol.mesh.model.kube import Service, ServicePort, Slice
from ondol.mesh.translate import callers, clusters, mutual, outside, registry, statistics, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.guards import Guards
from ondol.mesh.translate.registry import Registry
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource


@dataclass(frozen=True, slots=True)
class Governed:
    """A service with its policies, by whom they govern, and where those come from."""

    service: Service
    policies: Mapping[str, registry.Policy]
    origins: tuple[tuple[str, tuple[types.Origin, ...]], ...]
    has_subsets: bool


def governed(current: Registry, service: Service) -> Governed:
    policies = {scope: current.policy(service.host, scope) for scope in current.callers_of(service)}
    origins = tuple((scope, policy.origins) for scope, policy in policies.items())
    return Governed(service, policies, origins, any(policy.subsets for policy in policies.values()))


def mutual_services(current: Registry, guards: Guards) -> dict[Key, tuple[str, ...]]:
    """Services some of whose endpoints are dialled with mutual TLS.

    With the namespaces of pods that are among these by their addresses alone, as whoever lists them has it.
    """
    listed: dict[Key, tuple[str, ...]] = {}
    for service in current.everything() if guards.any_mutual else ():
        views = current.slices.get(service.key, ())
        mutual_ = [each for view in views for _, each in view if guards.is_mutual(each, service)]
        if mutual_:
            by_address = (guards.behind(each) for each in mutual_ if each.pod is None)
            namespaces = {each.client.key.namespace for each in by_address if each is not None}
            listed[service.key] = tuple(sorted(namespaces))
    return listed


def peers(service: Service, trust_domain: str, listed: Iterable[str] = ()) -> tuple[str, ...]:
    """What the identities of a service's own workloads begin with: of the namespaces that it is made in.

    And of those whose pods are `listed` by address.
    """
    namespaces = (service.key.namespace, *(origin.namespace for origin in service.origins), *listed)
    return tuple(spiffe.of_namespace(trust_domain, each) for each in dict.fromkeys(namespaces))


def dialled_as_called(current: Registry, of: Governed) -> Iterator[str]:
    """A service's clusters whose connections go where their callers' went, with no TLS that a rule asks."""
    for scope, policy in of.policies.items():
        for port in of.service.ports:
            for subset in ("", *policy.subsets):
                traffic = current.traffic(of.service.host, subset, port.number, scope)
                balanced = traffic.load_balancer
                left = balanced is not None and balanced.simple == "PASSTHROUGH"
                left |= of.service.resolution is kube.Resolution.CALLER
                if left and not clusters.says_how(traffic):
                    yield proxy.cluster_name(of.service.host, port.number, subset, scope)


def _speaks_http(protocol: kube.Protocol) -> bool | None:
    """None where each connection tells."""
    not_http = (kube.Protocol.TCP, kube.Protocol.TLS)
    return None if protocol is kube.Protocol.SNIFFED else protocol not in not_http


def resource(name: str, message: m.Message, origins: tuple[types.Origin, ...] = ()) -> Resource:
    body = wire.encode(message)
    return Resource(name, wire.digest(body), body, origins)


def to_addresses(addresses: Iterable[mutual.Address], trust_domain: str) -> bytes:
    """What has guarded pods dialled with mutual TLS, to be read as the end of a cluster."""
    added = m.cluster.Cluster()
    mutual.to_addresses(added, addresses, trust_domain)
    return wire.encode(added)


def with_more(of: Resource, added: bytes) -> Resource:
    body = of.body + added
    return replace(of, version=wire.digest(body), body=body)


def service_clusters(
    current: Registry,
    of: Governed,
    config: MeshConfig,
    peers: tuple[str, ...],
) -> dict[str, Resource]:
    """All clusters of a service; `peers`: what the identities of its guarded endpoints begin with, if any."""
    resources = {}
    service = of.service
    for scope, policy in of.policies.items():
        for port in service.ports:
            for subset in ("", *policy.subsets):
                place = proxy.Destination(service.host, port.number, subset, scope)
                origins = (*policy.origins, *service.origins)
                with registry.blaming(origins):
                    cluster = _service_cluster(current, of, port, place, config)
                    traffic = current.traffic(service.host, subset, port.number, scope)
                    if peers and clusters.is_mutual(cluster, traffic):
                        sni = f"outbound_.{port.number}_.{subset}_.{service.host}"
                        mutual.to_guarded(cluster, peers, sni, http=_speaks_http(port.protocol))
                        if service.coming is not None:
                            clusters.wait_for(cluster, service.coming)
                        if port.is_http:
                            statistics.tell_guarded(cluster)
                    resources[cluster.name] = resource(cluster.name, cluster, origins)
    return resources


def _service_cluster(
    current: Registry,
    of: Governed,
    port: ServicePort,
    place: proxy.Destination,
    config: MeshConfig,
) -> m.cluster.Cluster:
    service, policy = of.service, of.policies[place.scope]
    host, subset, scope = service.host, place.subset, place.scope
    name = proxy.cluster_name(host, port.number, subset, scope)
    traffic = outside.trusted(service, current.traffic(host, subset, port.number, scope))
    server = "" if outside.follows_names(service, port, traffic) else host
    target = clusters.Target(name, port.protocol, server, policy.credentials(subset))
    cluster = clusters.cluster(target, traffic, config.passthrough_mark)
    named = [endpoint for name, endpoint in service.targets if name == port.name]
    labels = policy.subsets[subset].labels if subset else {}
    chosen = clusters.in_subset(named, labels, current.labels)
    near = current.by_place((host, subset, port.number, scope), chosen)
    outside.turn(cluster, service, port, groups=near, traffic=traffic, config=config)
    if service.resolution.has_places:
        clusters.share(cluster, traffic, has_place=bool(callers.parse(scope).place))
    if service.origins:
        cluster.alt_stat_name = outside.statistic_name(place)
    # Of a host outside traces have the whole name, of a Service the first label.
    namespace = service.origins[0].namespace if service.origins else ""
    clusters.call(cluster, service.canonical or (host if service.origins else ""), namespace)
    return cluster


def assignments(
    current: Registry,
    of: Governed,
    views: Iterable[Slice],
    guards: Guards,
) -> dict[str, Resource]:
    """What stands behind those whose endpoints come apart from them."""
    service = of.service
    resources: dict[str, Resource] = {}
    if not service.resolution.is_listed:
        return resources
    for scope, policy in of.policies.items():
        for port in service.ports:
            behind = [endpoint for view in views for name, endpoint in view if name == port.name]
            for subset in ("", *policy.subsets):
                labels = policy.subsets[subset].labels if subset else {}
                name = proxy.cluster_name(service.host, port.number, subset, scope)
                chosen = clusters.in_subset(behind, labels, current.labels)
                near = current.by_place((service.host, subset, port.number, scope), chosen)
                is_mutual = partial(guards.is_mutual, of=service)
                assigned = clusters.load_assignment(name, near, is_mutual, current.workloads)
                resources[name] = resource(name, assigned)
    return resources
