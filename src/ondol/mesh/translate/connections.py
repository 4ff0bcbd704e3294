"""Rules for connections between pods: `tcp` and `tls` of VirtualServices, decided for one kind of caller.

All that a match asks is known here (port, gateways, the caller's labels and namespace, the address),
except the name that TLS asks for: that one the proxy reads, where a rule wants to know it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ondol.mesh.model import istio
from ondol.mesh.model.kube import Protocol, Service, ServicePort
from ondol.mesh.translate import callers, hosts, matches, reach
from ondol.mesh.translate.chains import Way
from ondol.mesh.translate.destinations import Destinations
from ondol.mesh.translate.registry import Registry, VirtualService, blaming
from ondol.mesh.translate.rules import MeshRules
from ondol.mesh.xds.types import Origin

_Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What of a caller rules look at: callers of one profile have the same layout."""

    namespace: str = reach.ANYBODY
    labels: frozenset[_Labels] = frozenset()
    """Of the sets of labels that rules ask for, those that the caller has."""
    who: str = reach.ANYBODY
    """As whom it calls, as `callers` writes it."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Where connections to an address of a service go, under the name of its chain."""

    name: str
    way: Way
    origin: Origin
    names: tuple[str, ...] = ()
    """Only those that ask for one of these names by TLS."""


class Connections:
    """The rules of one era."""

    def __init__(self, registry: Registry, rules: MeshRules, all_rules: Iterable[VirtualService]) -> None:
        self._registry = registry
        self._rules = rules
        spoken = [
            rule
            for rule in all_rules
            if (rule.spec.tcp or rule.spec.tls)
            and matches.MESH in matches.gateway_names(rule.spec.gateways, rule.namespace)
        ]
        asked = [match for rule in spoken for route in _routes(rule.spec) for match in route.match]
        self._is_any = bool(spoken)
        self._asked_labels = {tuple(sorted(m.source_labels.items())) for m in asked if m.source_labels}
        self._namespaces = {match.source_namespace for match in asked if match.source_namespace}

    def profile(self, caller: str, labels: Mapping[str, str]) -> Profile:
        who = self._registry.caller(caller)
        heard = callers.parse(who).namespace
        if not self._is_any:
            return Profile(heard, who=who)
        namespace = callers.parse(caller).namespace
        if self._rules.caller(namespace) or namespace in self._namespaces:
            heard = namespace
        labelled = frozenset(each for each in self._asked_labels if set(each) <= labels.items())
        return Profile(heard, labelled, who)

    def carried(
        self, service: Service, port: ServicePort, address: str, profile: Profile
    ) -> tuple[Carried, ...]:
        """What rules say of connections to the address and port; nothing where none speaks of them.

        `address` may be a network, or empty for connections to whatever address.
        More than one, or one with names, where TLS' name decides: then no others are carried.
        """
        if not self._is_any or port.protocol not in (Protocol.TCP, Protocol.TLS, Protocol.SNIFFED):
            return ()
        of_tls = port.protocol is Protocol.TLS
        heard_as = self._rules.caller(profile.namespace)
        rule = self._rules.rule(service.host, heard_as, "tls" if of_tls else "tcp")
        if rule is None:
            return ()
        call = _Call(rule, port.number, address, profile)
        return tuple(self._by_name(call) if of_tls else self._first(call))

    def within(self, service: Service, port: ServicePort, profile: Profile) -> Iterator[Carried]:
        """What rules say of TLS to single names of a service whose host is a wildcard."""
        if not self._is_any or port.protocol is not Protocol.TLS or not service.host.startswith("*"):
            return
        heard_as = self._rules.caller(profile.namespace)
        for name in self._rules.named():
            if name == service.host or not hosts.covers(service.host, name):
                continue
            rule = self._rules.exact(name, heard_as, "tls")
            for each in self._by_name(_Call(rule, port.number, "", profile)) if rule is not None else ():
                own = tuple(asked for asked in each.names if hosts.covers(service.host, asked))
                if own:
                    yield replace(each, names=own)

    def _first(self, call: _Call) -> Iterator[Carried]:
        for index, route in enumerate(call.rule.spec.tcp):
            if route.route and (not route.match or any(map(call.fits, route.match))):
                yield self._carried(call, f"tcp-{index}", route.route)
                return

    def _by_name(self, call: _Call) -> Iterator[Carried]:
        taken: set[str] = set()
        for index, route in enumerate(call.rule.spec.tls):
            asked = {
                name.lower() for match in route.match if call.fits(match) for name in match.sni_hosts
            } - taken
            if asked and route.route:
                taken |= asked
                yield self._carried(call, f"tls-{index}", route.route, tuple(sorted(asked)))

    def _carried(
        self,
        call: _Call,
        route: str,
        shares: Iterable[istio.L4RouteDestination],
        names: tuple[str, ...] = (),
    ) -> Carried:
        rule = call.rule
        destinations = Destinations(self._registry, rule.namespace, call.port, call.profile.who)
        with blaming([rule.origin]):
            way = destinations.way(shares)
        return Carried(f"{rule.namespace}/{rule.origin.name}|{route}|{call.port}", way, rule.origin, names)


@dataclass(frozen=True, slots=True)
class _Call:
    """A connection to an address or network, or any, and port of a service, by the rule that governs it."""

    rule: VirtualService
    port: int
    address: str
    profile: Profile

    def fits(self, match: istio.L4MatchAttributes | istio.TLSMatchAttributes) -> bool:
        of = self.profile
        if match.port is not None and match.port != self.port:
            return False
        if match.gateways and matches.MESH not in matches.gateway_names(match.gateways, self.rule.namespace):
            return False
        if match.source_namespace and match.source_namespace != of.namespace:
            return False
        if match.source_labels and tuple(sorted(match.source_labels.items())) not in of.labels:
            return False
        return not match.destination_subnets or any(map(self._is_in, match.destination_subnets))

    def _is_in(self, subnet: str) -> bool:
        if not self.address:
            return False
        where, network = (ipaddress.ip_network(each, strict=False) for each in (self.address, subnet))
        if isinstance(where, ipaddress.IPv4Network):
            return isinstance(network, ipaddress.IPv4Network) and where.subnet_of(network)
        return isinstance(network, ipaddress.IPv6Network) and where.subnet_of(network)


def _routes(spec: istio.VirtualServiceSpec) -> Iterator[istio.TCPRoute | istio.TLSRoute]:
    yield from spec.tcp
    yield from spec.tls
