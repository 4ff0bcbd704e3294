"""What the services that a view sees ask of its pods' listeners: which chain takes which connection.

Pure, over one registry; `trees` makes matchers of it. An address at a port is the first service's to have it,
and Kubernetes' Services come first: no entry of the outside takes over their addresses. What rules say of
connections to a service comes before what the service itself is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ondol.contracts import proxy
from ondol.contracts.proxy import cluster_name
from ondol.mesh.model.kube import Protocol, Resolution, Service, ServicePort
from ondol.mesh.translate import clusters, destinations
from ondol.mesh.translate.chains import INSPECT_NAMES, ByName, Layout, Limits, Way
from ondol.mesh.translate.connections import Carried, Connections, Profile
from ondol.mesh.translate.registry import Registry
from ondol.mesh.translate.views import EVERYTHING, View
from ondol.mesh.xds.types import Origin

ANYONE: Final = Profile()
_BYTES: Final = (Protocol.SNIFFED, Protocol.TCP, Protocol.TLS)


@dataclass(slots=True)
class _Ruled:
    """What rules say of connections, collected over all services."""

    rules: Connections | None
    profile: Profile
    ways: dict[str, Way] = field(default_factory=dict)
    named: dict[tuple[int, str], ByName] = field(default_factory=dict)
    origins: dict[Origin, None] = field(default_factory=dict)

    def carried(self, service: Service, port: ServicePort, place: str = "") -> tuple[Carried, ...]:
        """For an address or a network of the service; without one, for connections to whatever address."""
        if self.rules is None:
            return ()
        return self._noted(self.rules.carried(service, port, place, self.profile))

    def _noted(self, carried: Iterable[Carried]) -> tuple[Carried, ...]:
        listed = tuple(carried)
        self.ways.update((each.name, each.way) for each in listed)
        self.origins.update((each.origin, None) for each in listed)
        return listed

    def chains(
        self, service: Service, port: ServicePort, addresses: Iterable[str]
    ) -> dict[tuple[int, str], str]:
        """The chains of a service's addresses at a port, where rules speak of them."""
        listed: dict[tuple[int, str], str] = {}
        for address in addresses:
            carried = self.carried(service, port, address)
            if carried:
                listed[port.number, address] = carried[0].name
            if carried and carried[0].names:
                listed[port.number, address] = INSPECT_NAMES
                self.named[port.number, address] = tuple((each.names, each.name) for each in carried)
        return listed

    def elsewhere(self, service: Service, port: ServicePort, cluster: str, place: str = "") -> str:
        """The chain for a network, or for any address; empty where only the name of TLS leads on."""
        carried = self.carried(service, port, place)
        if not carried:
            return cluster
        return "" if carried[0].names else carried[0].name

    def server_names(self, service: Service, port: ServicePort) -> dict[str, str]:
        """Chains by the names that rules for TLS to an entry give, at whatever address it is called."""
        if self.rules is None:
            return {}
        places = ("", *service.addresses, *service.ranges)
        carried = [each for place in places for each in self.carried(service, port, place)]
        carried += self._noted(self.rules.within(service, port, self.profile))
        names: dict[str, str] = {}
        for each in carried:
            for name in each.names:
                names.setdefault(name, each.name)
        return names


@dataclass(slots=True)
class _Plan:
    """A layout in the making."""

    http: set[int]
    ruled: _Ruled
    sniffed: set[int] = field(default_factory=set)
    read: dict[int, set[str]] = field(default_factory=dict)
    headless: set[int] = field(default_factory=set)
    declared: dict[tuple[int, str], str] = field(default_factory=dict)
    undeclared: dict[tuple[int, str], str] = field(default_factory=dict)
    ranges: dict[tuple[int, str], str] = field(default_factory=dict)
    undeclared_ranges: dict[tuple[int, str], str] = field(default_factory=dict)
    anywhere: dict[int, str] = field(default_factory=dict)
    server_names: dict[int, dict[str, str]] = field(default_factory=dict)
    """By port, what entries are by their own names."""
    ruled_names: dict[int, dict[str, str]] = field(default_factory=dict)
    """The same by the names that rules give: these come first."""
    limits: dict[str, Limits] = field(default_factory=dict)
    reads_names: bool = False
    taken: dict[tuple[int, str], bool] = field(default_factory=dict)
    """Addresses that somebody has, and whether who calls there says for whom the connection is."""

    def add(self, service: Service, port: ServicePort, cluster: str, limits: Limits) -> None:
        number = port.number
        free = self._take(service, port)
        names = dict.fromkeys(((number, address) for address in free), cluster)
        names |= self.ruled.chains(service, port, free)
        ranges = {
            (number, text): chain
            for text in service.ranges
            if (chain := self.ruled.elsewhere(service, port, cluster, text))
        }
        if port.is_http:
            self.http.add(number)
            self.reads_names |= service.resolution is Resolution.DYNAMIC
        if port.protocol is Protocol.SNIFFED:
            self.sniffed.add(number)
            self.undeclared.update(names)
            self.undeclared_ranges |= ranges
        elif port.is_http:
            self.read.setdefault(number, set()).update(free)
        else:
            self.declared.update(names)
            self.ranges |= ranges
            self._add_bytes(service, port, cluster)
        if port.protocol in _BYTES and limits != Limits():
            self.limits[cluster] = limits

    def _take(self, service: Service, port: ServicePort) -> list[str]:
        """The addresses that nobody had; where several have one, those that callers name are told apart."""
        free = []
        names_server = _names_server(service, port)
        for address in service.addresses:
            place = (port.number, address)
            before = self.taken.get(place)
            if before is None:
                self.taken[place] = names_server
                free.append(address)
            elif before and names_server and place in self.declared:
                chain = self.declared.pop(place)
                if chain != INSPECT_NAMES:
                    self.undeclared[place] = chain
                else:  # only names lead on, and those are at the port as well
                    del self.ruled.named[place]
        return free

    def _add_bytes(self, service: Service, port: ServicePort, cluster: str) -> None:
        """Connections that nothing but their destination tells apart, or the server's name at their begin."""
        if not service.origins:
            if not service.addresses:
                self.headless.add(port.number)
            return
        if _names_server(service, port):
            self._add_names(service, port, cluster)
        elif not service.addresses and not service.ranges:
            self.anywhere.setdefault(port.number, self.ruled.elsewhere(service, port, cluster))

    def _add_names(self, service: Service, port: ServicePort, cluster: str) -> None:
        for name, chain in self.ruled.server_names(service, port).items():
            self.ruled_names.setdefault(port.number, {}).setdefault(name, chain)
        if not self.ruled.carried(service, port):
            self.server_names.setdefault(port.number, {}).setdefault(service.host, cluster)
        if service.resolution is Resolution.DYNAMIC:
            for address in service.addresses:
                if self.declared.get((port.number, address)) == cluster:
                    del self.declared[port.number, address]  # only the name leads on

    def by_server_name(self) -> dict[int, Mapping[str, str]]:
        ports = self.server_names.keys() | self.ruled_names.keys()
        return {
            port: self.server_names.get(port, {}) | self.ruled_names.get(port, {}) for port in sorted(ports)
        }


def _names_server(service: Service, port: ServicePort) -> bool:
    """Whether connections begin with the name of whom they are for (SNI), and go by that."""
    return bool(service.origins) and port.protocol is Protocol.TLS


def layout(
    registry: Registry,
    always: Iterable[int],
    profile: Profile = ANYONE,
    rules: Connections | None = None,
    view: View = EVERYTHING,
    *,
    unknown: str = clusters.PASSTHROUGH,
    resolvers: tuple[str, ...] = (),
) -> Layout:
    """What all services that a view sees ask of a listener together, as callers of the profile call them.

    `rules` say where bytes go; without them they go to the services that are called. `unknown` is where
    connections go that are nobody's, `resolvers` resolve what is dynamic.
    """
    fixed = frozenset(always)
    plan = _Plan(set(fixed), _Ruled(rules, profile))
    for service, ports in view.services(registry):
        scope = registry.scope(service.host, profile.who)
        for port in service.ports:
            if port.number in ports:
                cluster = cluster_name(service.host, port.number, scope=scope)
                bounds = Limits()
                if port.protocol in _BYTES:
                    bounds = destinations.limits(registry.traffic(service.host, "", port.number, scope))
                plan.add(service, port, cluster, bounds)
    # Pods of a headless service are called by addresses of their own, which are not known here: where
    # such a TCP port is somebody else's HTTP, only the bytes can tell. So where any address may be meant.
    plan.sniffed |= (plan.headless | plan.anywhere.keys()) & plan.http
    server_names = plan.by_server_name()
    inspected = plan.sniffed | server_names.keys()
    used = {
        *plan.declared.values(),
        *plan.undeclared.values(),
        *plan.ranges.values(),
        *plan.undeclared_ranges.values(),
        *plan.anywhere.values(),
        *(chain for by_name in server_names.values() for chain in by_name.values()),
    }
    led_to = used.union(cluster for way in plan.ruled.ways.values() for cluster, _ in way.clusters)
    return Layout(
        frozenset(plan.http),
        frozenset(plan.sniffed),
        {port: frozenset(addresses) for port, addresses in plan.read.items() if port in inspected},
        plan.declared,
        plan.undeclared,
        {cluster: bounds for cluster, bounds in plan.limits.items() if cluster in used},
        plan.ruled.ways,
        plan.ruled.named,
        tuple(plan.ruled.origins),
        fixed,
        ranges=plan.ranges,
        sniffed_ranges=plan.undeclared_ranges,
        anywhere=plan.anywhere,
        server_names=server_names,
        dynamic=frozenset(each for each in led_to if _is_dynamic(registry, each)),
        reads_names=plan.reads_names,
        unknown=unknown,
        resolvers=resolvers,
    )


def _is_dynamic(registry: Registry, cluster: str) -> bool:
    """Whether a cluster resolves the name with which each connection begins."""
    of = proxy.destination(cluster)
    service = registry.service(of.host, of.scope) if of is not None else None
    return service is not None and service.resolution is Resolution.DYNAMIC


def headless(registry: Registry, view: View) -> list[Service]:
    """The services a view sees whose pods are called at their own addresses."""
    return [
        service
        for service, _ in view.services(registry)
        if not service.addresses and not service.origins and service.resolution.is_listed
    ]


def with_pods(base: Layout, registry: Registry, services: Iterable[Service]) -> Layout:
    """The same, in which connections to the pods of these services pass: where nothing unknown may."""
    declared, undeclared = dict(base.tcp), dict(base.sniffed)
    for service in services:
        for port in service.ports:
            for view in registry.slices.get(service.key, ()):
                for name, endpoint in view:
                    if name == port.name and port.protocol in _BYTES:
                        of_pods = undeclared if port.protocol is Protocol.SNIFFED else declared
                        of_pods.setdefault((endpoint.port, endpoint.address), clusters.PASSTHROUGH)
    return replace(base, tcp=declared, sniffed=undeclared)
