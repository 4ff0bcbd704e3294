"""What the destinations of one VirtualService are: clusters, and what policies say of calls to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ondol.contracts.proxy import cluster_name
from ondol.mesh.model import istio
from ondol.mesh.model.kube import Protocol
from ondol.mesh.translate.chains import Limits, Way
from ondol.mesh.translate.reach import ANYBODY
from ondol.mesh.translate.registry import Registry
from ondol.mesh.xds.types import Origin


@dataclass(slots=True)
class Destinations:
    """Completes names as the VirtualService's namespace sees them, and names the clusters."""

    registry: Registry
    namespace: str
    port: int
    caller: str = ANYBODY
    """Who calls, where destination rules may tell it apart."""
    at_ingress: bool = False
    """Whoever calls comes from outside, and is no pod of any namespace."""
    origins: dict[Origin, None] = field(default_factory=dict)

    def _find(self, destination: istio.Destination) -> tuple[str, int, str]:
        """The host in full, the port, and as whom it is called."""
        host = self.registry.qualified(destination.host, self.namespace)
        caller = self.caller
        if self.at_ingress:
            caller = self.registry.seen_as(host, caller, self.namespace)
        if destination.port is not None and destination.port.number:
            return host, destination.port.number, caller
        service = self.registry.service(host, caller)
        if service is not None and len(service.ports) == 1:
            return host, service.ports[0].number, caller
        return host, self.port, caller

    def cluster(self, destination: istio.Destination) -> str:
        host, port, caller = self._find(destination)
        return cluster_name(host, port, destination.subset, self.registry.scope(host, caller))

    def is_undeclared(self, destination: istio.Destination) -> bool:
        """Whether the first bytes of a call say what the destination is spoken to in."""
        host, number, caller = self._find(destination)
        service = self.registry.service(host, caller)
        port = service.port(number) if service is not None else None
        return port is not None and port.protocol is Protocol.SNIFFED

    def hash(self, destination: istio.Destination) -> istio.ConsistentHashLB | None:
        host, port, caller = self._find(destination)
        policy = self.registry.policy(host, caller)
        settings = self.registry.traffic(host, destination.subset, port, caller).load_balancer
        if settings is None or settings.consistent_hash is None:
            return None
        self.origins.update(dict.fromkeys(policy.origins))
        return settings.consistent_hash

    def way(self, shares: Iterable[istio.L4RouteDestination]) -> Way:
        """Where connections of a route go; a single destination has all, else those with a share."""
        listed = list(shares)
        weighted = listed if len(listed) == 1 else [each for each in listed if each.weight]
        clusters: dict[str, int] = {}
        for each in weighted:
            name = self.cluster(each.destination)
            clusters[name] = clusters.get(name, 0) + max(each.weight, 1)
        asked = [self._limits(each.destination) for each in weighted]
        if len({each.tunnel for each in asked}) > 1:
            raise istio.Refused("shares of connections go either all by one tunnel or by none")
        return Way(tuple(clusters.items()), asked[0])

    def _limits(self, destination: istio.Destination) -> Limits:
        host, port, caller = self._find(destination)
        self.origins.update(dict.fromkeys(self.registry.policy(host, caller).origins))
        return limits(self.registry.traffic(host, destination.subset, port, caller))


_LONGEST_MS: Final = 10 * 365 * 86_400_000


def limits(traffic: istio.TrafficPolicy) -> Limits:
    """What a policy asks of the connections themselves."""
    pool = traffic.connection_pool or istio.ConnectionPoolSettings()
    tcp = pool.tcp or istio.TCPSettings()
    hashing = traffic.load_balancer.consistent_hash if traffic.load_balancer is not None else None
    by_source = hashing is not None and hashing.use_source_ip
    idle, longest = _at_most(tcp.idle_timeout), _at_most(tcp.max_connection_duration)
    return Limits(idle, longest, by_source, traffic.tunnel)


def _at_most(text: str | None) -> int | None:
    """Milliseconds; listeners are everybody's, so none may be more than the proxy can count."""
    return None if text is None else min(istio.milliseconds(text, "connectionPool.tcp"), _LONGEST_MS)
