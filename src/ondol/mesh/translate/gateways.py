"""Listeners and tables of the ingress: what the servers of Gateways ask for, port by port.

A port of requests or of bytes has one chain. A port of TLS has chains by the name in the hello: each name has
one, that of the oldest who asks for it (`_Names`); HTTPS servers have a table each, so that no host of one
leaks to another. A server whose credentials lack has a chain that ends connections, lest its names fall to
others' wildcards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ondol.api.objects import Key
from ondol.contracts import ingress as contract
from ondol.contracts import telemetry
from ondol.contracts.proxy import cluster_name
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import istio
from ondol.mesh.translate import (
    chains,
    clusters,
    credentials,
    hosts,
    listeners,
    observing,
    reach,
    servers,
    statistics,
    tables,
    termination,
    wire,
)
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.chains import Way
from ondol.mesh.translate.credentials import Credentials
from ondol.mesh.translate.destinations import Destinations
from ondol.mesh.translate.observing import Identity, Observation
from ondol.mesh.translate.registry import Gateway, Registry, VirtualService, blaming
from ondol.mesh.translate.rules import Admission
from ondol.mesh.translate.servers import Carriage, Servers
from ondol.mesh.translate.telemetry import Observed
from ondol.mesh.translate.termination import Termination
from ondol.mesh.xds.types import Origin, Resource

ANY: Final = "*"
_ISTIO_ALPN: Final = ("istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What sidecars of Istio say: a port that leads to whatever cluster is named is for them alone."""
_CLOSED: Final = Way(((clusters.BLACKHOLE, 1),))
_Chain: TypeAlias = m.listener_components.FilterChain


@dataclass(slots=True)
class Ingress:
    """What is made for the ingress, and the Secrets that it names."""

    listeners: dict[str, Resource] = field(default_factory=dict)
    tables: dict[str, Resource] = field(default_factory=dict)
    certificates: dict[Key, None] = field(default_factory=dict)
    authorities: dict[Key, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What `ingress` is made from, beside the tables."""

    gateways: Mapping[int, Servers]
    """Those that fit, by port."""
    rules: Sequence[VirtualService]
    """Those that the ingress hears."""
    terminations: Sequence[Termination]
    credentials: Credentials
    tls_port: int = 443
    """Where HTTPS is, from outside."""
    spiffe: str = ""
    """The identity as which the ingress calls."""


def listener_name(port: int) -> str:
    return termination.NAME if port == servers.INGRESS_TLS_PORT else listeners.ingress_name(port)


def ingress(
    config: MeshConfig,
    observed: Observed,
    maker: tables.Tables,
    asked: Asked,
    port_problem: Callable[[int], str],
) -> Ingress:
    """Everything of the ingress; `port_problem` says of a port why it is not opened, or nothing."""
    parts = Ingress()
    identity = _identity(config.ingress_namespace, asked.spiffe)
    binds = {servers.INGRESS_PORT: config.ingress_port, servers.INGRESS_TLS_PORT: config.ingress_tls_port}
    for number, here in asked.gateways.items():
        if not here or port_problem(number):
            continue  # of a version that was served before this was refused
        place = listeners.IngressPort(config.ingress_address, binds.get(number, number), number)
        _Port(place, here, asked, maker, parts, identity, observed).make()
    return parts


def _identity(namespace: str, spiffe: str) -> Identity:
    """Statistics call the ingress as they call Istio's, which has a workload of its own."""
    described = telemetry.Workload(
        reach.INGRESS_WORKLOAD,
        reach.ISTIO_SYSTEM,
        spiffe,
        app=reach.INGRESS_WORKLOAD,
        canonical_service=reach.INGRESS_WORKLOAD,
        canonical_revision="latest",
    )
    return Identity(reach.INGRESS_WORKLOAD, namespace, "latest", spiffe=spiffe, described=described.packed())


@dataclass(slots=True)
class _Port:
    """One port of the ingress in the making."""

    place: listeners.IngressPort
    servers: Servers
    asked: Asked
    maker: tables.Tables
    parts: Ingress
    identity: Identity
    observed: Observed
    origins: dict[Origin, None] = field(default_factory=dict)
    admissions: Sequence[Admission] = ()
    lost: AbstractSet[tuple[Origin, str]] = frozenset()
    """By Gateway, the hosts of which only others' rules are served."""

    @property
    def name(self) -> str:
        return listener_name(self.place.number)

    @property
    def observation(self) -> Observation:
        return self.observed.outbound

    def make(self) -> None:
        self.origins = dict.fromkeys(gateway.origin for gateway, _ in self.servers)
        self.origins.update(dict.fromkeys(self.observed.origins))
        every = self.maker.admissions(self.name, self.servers, self.asked.rules)
        self.admissions = [each for each in every if not each.holder]
        served = {(each.gateway.origin, each.host) for each in self.admissions}
        self.lost = {(each.gateway.origin, each.host) for each in every if each.holder} - served
        first = self.servers[0][1]
        if servers.is_tls(first):
            self._tls()
        elif servers.carriage(first) is Carriage.HTTP:
            listener = listeners.ingress(self.place, self.identity, self.observation, self.origins)
            self.parts.listeners[self.name] = listener
            table = self.maker.ingress(self.name, self.servers, self.admissions, self.asked.tls_port)
            self.parts.tables[self.name] = table
        else:
            ways = (self._way(gateway, server) for gateway, server in self.servers)
            name, way = next(filter(None, ways), ("closed", _CLOSED))
            self._listen([chains.carry(f"{self.name}|{name}", way, self.observation)])

    def _listen(self, filter_chains: Sequence[_Chain], *, looks: bool = False) -> None:
        message = m.listener.Listener(
            name=self.name,
            stat_prefix=self.name.replace("|", "_").replace("-", "_"),
            metadata=statistics.workload(self.identity.described),
            access_log=observing.of_listener(self.observation),
            traffic_direction=m.base.OUTBOUND,
            address=m.socket(self.place.address, self.place.bind),
            # Shared, two platforms on this machine would take each other's calls at random: better refused.
            enable_reuse_port=m.boolean(False),
            filter_chains=[chains.on_the_host(each, self.identity.spiffe) for each in filter_chains],
        )
        if looks:
            message.listener_filters.append(listeners.tls_inspector())
        encoded = wire.encode(message)
        self.parts.listeners[self.name] = Resource(
            self.name, wire.digest(encoded), encoded, tuple(self.origins)
        )

    # Bytes

    def _way(self, gateway: Gateway, server: istio.Server) -> tuple[str, Way] | None:
        """The first `tcp` route that holds at a server, by a name, and where its connections go."""
        name = f"{gateway.namespace}/{gateway.origin.name}"
        for rule in self._rules(gateway, server):
            for at, route in enumerate(rule.spec.tcp):
                holds = [
                    servers.applies(match, name, server.port.number, rule.namespace) for match in route.match
                ]
                if route.route and (any(holds) or not holds):
                    name_of = f"{rule.namespace}/{rule.origin.name}|tcp-{at}"
                    return name_of, self._leads(rule, server, route.route)
        return None

    def _rules(self, gateway: Gateway, server: istio.Server) -> Iterator[VirtualService]:
        """The rules that are served for some host at a server, the oldest first."""
        here = (each for each in self.admissions if each.gateway is gateway and each.server is server)
        yield from dict.fromkeys(each.rule for each in here)

    def _leads(
        self, rule: VirtualService, server: istio.Server, shares: Sequence[istio.L4RouteDestination]
    ) -> Way:
        destinations = Destinations(self.maker.registry, rule.namespace, server.port.number, at_ingress=True)
        with blaming([rule.origin]):
            way = destinations.way(shares)
        self.origins.update(dict.fromkeys((rule.origin, *destinations.origins)))
        return way

    # TLS

    def _tls(self) -> None:
        names = _Names(self.maker.registry)
        for index, (gateway, server) in enumerate(self.servers):
            if gateway.origin.name == contract.HTTPS_GATEWAY:
                self._of_ingresses(names, gateway, server)
            elif servers.carriage(server) is Carriage.NAMES:
                self._passed_on(names, index, gateway, server)
            elif servers.carriage(server) is Carriage.CLUSTERS:
                self._by_clusters(names, gateway, server)
            else:
                self._terminated(names, index, gateway, server)
        filter_chains = names.chains()
        is_asked = any(gateway.origin.name != contract.HTTPS_GATEWAY for gateway, _ in self.servers)
        if not filter_chains and is_asked:
            filter_chains = [self._closed(f"{self.name}|closed")]
        if filter_chains:
            self._listen(filter_chains, looks=True)

    def _of_ingresses(self, names: _Names, gateway: Gateway, server: istio.Server) -> None:
        if not self.asked.terminations:
            return
        for each in self.asked.terminations:
            chain = chains.http(
                f"tls|{each.certificate.name}", self.name, self.identity, self.observation, ingress=True
            )
            _secure(chain, termination.context([each.certificate]))
            namespace = each.certificate.name.partition("/")[0]
            for host, created in each.since:
                if (gateway.origin, host) in self.lost:
                    continue
                names.ask(_Claim(host, namespace, (created, namespace, ""), chain))
        pairs = [(gateway, server)]
        self.parts.tables[self.name] = self.maker.ingress(self.name, pairs, self._served(pairs))

    def _served(self, pairs: Servers) -> list[Admission]:
        return [
            each for each in self.admissions if any(each.gateway is g and each.server is s for g, s in pairs)
        ]

    def _terminated(self, names: _Names, index: int, gateway: Gateway, server: istio.Server) -> None:
        """TLS ends here: with what the server's Secrets hold, or at once.

        A name whose requests would only be answered that there is nothing is left to whoever has the host.
        """
        asked = [host for host in servers.bare_hosts(server) if (gateway.origin, host) not in self.lost]
        if not asked:
            return
        tls = server.tls or istio.ServerTLSSettings(mode="SIMPLE")
        shown = credentials.resolved(tls, gateway.namespace, self.asked.credentials)
        name = f"{self.name}|{gateway.namespace}/{gateway.origin.name}|{server.port.name}"
        is_http = servers.carriage(server) is Carriage.HTTP
        way = None if is_http or not shown.is_served else self._way(gateway, server)
        suffix, leads = way or ("closed", _CLOSED)
        chain = chains.carry(f"{name}|{suffix}", leads, self.observation)
        if shown.is_served and is_http:
            chain = self._requests(name, gateway, server, tells_client=shown.authorities is not None)
        if shown.is_served and (is_http or way):
            alpn = termination.ALPN if is_http else ()
            context = termination.context(
                shown.certificates, alpn=alpn, tls=tls, authorities=shown.authorities
            )
            _secure(chain, context)
            self.parts.certificates.update((_key(each.name), None) for each in shown.certificates)
            if shown.authorities is not None:
                self.parts.authorities[_key(shown.authorities.name)] = None
        for host in asked:
            names.ask(_Claim(host, gateway.namespace, (*gateway.age, index), chain))

    def _requests(self, name: str, gateway: Gateway, server: istio.Server, *, tells_client: bool) -> _Chain:
        """A chain with a table of the server's own."""
        pairs = [(gateway, server)]
        self.parts.tables[name] = self.maker.ingress(name, pairs, self._served(pairs))
        return chains.http(
            name, name, self.identity, self.observation, ingress=True, tells_client=tells_client
        )

    def _closed(self, name: str) -> _Chain:
        return chains.carry(name, _CLOSED, self.observation)

    def _passed_on(self, names: _Names, index: int, gateway: Gateway, server: istio.Server) -> None:
        """Each match of a `tls` route has a chain, for the names that the server lets it have."""
        of = f"{gateway.namespace}/{gateway.origin.name}"
        for rule in self._rules(gateway, server):
            admitted = [each.host for each in self._served([(gateway, server)]) if each.rule is rule]
            for at, route in enumerate(rule.spec.tls):
                asked = dict.fromkeys(
                    host
                    for match in route.match
                    if servers.applies(match, of, server.port.number, rule.namespace)
                    for sni in match.sni_hosts
                    for host in hosts.overlap(admitted, sni.lower())
                )
                if not asked or not route.route:
                    continue
                name = f"{self.name}|{of}|{server.port.name}|{rule.namespace}/{rule.origin.name}|tls-{at}"
                chain = chains.carry(name, self._leads(rule, server, route.route), self.observation)
                chain.filter_chain_match.transport_protocol = "tls"
                for host in asked:
                    names.ask(_Claim(host, gateway.namespace, (*gateway.age, index, *rule.age, at), chain))

    def _by_clusters(self, names: _Names, gateway: Gateway, server: istio.Server) -> None:
        """A name is a cluster's, of Services that the Gateway's namespace may rule and the hosts admit.

        What is outside is not among them, as in Istio: nobody passes through here to there.
        """
        registry = self.maker.registry
        patterns = list(servers.bare_hosts(server))
        for service in registry.services.values():
            level = reach.level(gateway.namespace, reach.ANYBODY, registry.host(service.host), registry.roots)
            is_elsewhere = bool(service.origins) or not service.resolution.is_listed
            if level is None or is_elsewhere or not hosts.overlap(patterns, service.host):
                continue
            for port in service.ports:
                for subset in ("", *registry.policy(service.host).subsets):
                    cluster = cluster_name(service.host, port.number, subset)
                    name = f"outbound_.{port.number}_.{subset}_.{service.host}"
                    chain = chains.tcp(f"{self.name}|{cluster}", cluster, self.observation)
                    chain.filter_chain_match.transport_protocol = "tls"
                    chain.filter_chain_match.application_protocols.extend(_ISTIO_ALPN)
                    names.ask(_Claim(name, gateway.namespace, gateway.age, chain))


def _secure(chain: _Chain, context: m.tls.DownstreamTlsContext) -> None:
    chain.transport_socket.name = "envoy.transport_sockets.tls"
    chain.transport_socket.typed_config.CopyFrom(m.any_of(context))


def _key(name: str) -> Key:
    namespace, _, own = name.partition("/")
    return Key(namespace, own)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Somebody asks for a name; `age` sorts the oldest first."""

    host: str
    namespace: str
    age: tuple[object, ...]
    chain: _Chain


class _Names:
    """Which chain has a name: that of the namespace whose name it bears, else of the oldest to ask."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._claims: dict[str, _Claim] = {}
        self._order: list[_Chain] = []

    def ask(self, claim: _Claim) -> None:
        if not any(claim.chain is chain for chain in self._order):
            self._order.append(claim.chain)
        holder = self._claims.get(claim.host)
        if holder is None or self._rank(claim) < self._rank(holder):
            self._claims[claim.host] = claim

    def _rank(self, claim: _Claim) -> tuple[object, ...]:
        owner = reach.owner(claim.host, self._registry.cluster_domain)
        return (claim.namespace != owner, *map(str, claim.age))

    def chains(self) -> list[_Chain]:
        """One for its names, one for whatever else: there its names would give way to others' wildcards."""
        listed = []
        for chain in self._order:
            own = sorted(host for host, claim in self._claims.items() if claim.chain is chain)
            if named := [host for host in own if host != ANY]:
                of_names = m.listener_components.FilterChain()
                of_names.CopyFrom(chain)
                of_names.filter_chain_match.server_names.extend(named)
                listed.append(of_names)
            if ANY in own:
                of_all = m.listener_components.FilterChain()
                of_all.CopyFrom(chain)
                of_all.name = f"{chain.name}|{ANY}"
                listed.append(of_all)
        return listed
