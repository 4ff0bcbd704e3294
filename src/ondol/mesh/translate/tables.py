"""Route tables: which virtual hosts a kind of caller sees, assembled from virtual hosts made once.

A table is made for every HTTP port of every namespace that has callers (short names mean something
else in each). Ingress has a table a port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ondol.contracts.proxy import cluster_name
from ondol.mesh.model.kube import Service
from ondol.mesh.translate import changes, clusters, hosts, matches, routes, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.cache import ByName, Cache
from ondol.mesh.translate.destinations import Destinations
from ondol.mesh.translate.matches import Caller
from ondol.mesh.translate.registry import Registry, VirtualService, blaming
from ondol.mesh.translate.rules import Admission, MeshRules, judged, requested
from ondol.mesh.translate.servers import Servers, bare_hosts, redirects
from ondol.mesh.translate.views import EVERYTHING, View
from ondol.mesh.xds.types import Origin, Resource

DEFAULT_PORT: Final = 80
"""Where hosts without a service are served."""
_DIRECT_BODY_BYTES_MAX: Final = 1 << 20
_VIRTUAL_HOSTS: Final = m.route.RouteConfiguration.DESCRIPTOR.fields_by_name["virtual_hosts"].number


@dataclass(frozen=True, eq=False)
class VirtualHost:
    """Names and encoded routes; shared by all tables in which its names are free."""

    name: str
    domains: tuple[str, ...]
    body: bytes
    origins: tuple[Origin, ...] = ()

    @cached_property
    def encoded(self) -> bytes:
        """As a field of a table."""
        return self.limited_to(self.domains)

    def limited_to(self, domains: Sequence[str]) -> bytes:
        head = wire.encode(m.routes.VirtualHost(name=self.name, domains=domains))
        return wire.field(_VIRTUAL_HOSTS, head + self.body)


@dataclass(frozen=True, slots=True)
class _Routes:
    """The encoded routes of a rule for a kind of caller."""

    some: bytes
    """Those that look at the request."""
    rest: bytes
    """What takes every request that is left; always the last."""
    origins: tuple[Origin, ...]

    @property
    def body(self) -> bytes:
        return self.some + self.rest


class Remembered:
    """What tables of one era leave to those of the next, in the translator's cache."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.hosts: ByName[Caller, str, VirtualHost | None] = cache.by_host()
        """None where no rule speaks of a host that no service has."""
        self.routes: ByName[Caller, Origin, _Routes] = cache.by_rule()
        """Those at the ingress."""
        self.admissions: ByName[str, Origin, list[Admission]] = cache.by_rule()
        """What a rule asks for at a port of the ingress, by the name of its table."""


class Tables:
    """Makes the tables of one era; what was made of the same before is found in the cache.

    What many tables ask for (the rule of a host, its names, what a rule depends on) is found once.
    """

    def __init__(self, registry: Registry, rules: MeshRules, remembered: Remembered) -> None:
        self.registry = registry
        self._rules = rules
        self._remembered = remembered
        self._get = remembered.cache.of_era.get
        self._facts_of: dict[tuple[Origin, str], tuple[Any, ...]] = {}
        self._looks_of: dict[Origin, bool] = {}
        self._shared_hosts: dict[tuple[Any, ...], VirtualHost] = {}
        self._rule_of: dict[tuple[str, str], VirtualService | None] = {}
        self._by_port = _at_ports(registry.services.values())
        self._own_by_port = {name: _at_ports(own.values()) for name, own in registry.own.items()}

    def mesh(self, name: str, caller: Caller) -> Resource:
        """The table of callers between pods."""
        virtual_hosts = list(self._mesh_hosts(caller))
        virtual_hosts.append(self._for_unknown(caller))
        sidecar = caller.view.sidecar
        origins = (sidecar.origin,) if sidecar is not None else ()
        return self._get(
            ("table", name, origins, tuple(map(id, virtual_hosts))),
            lambda: _table(name, virtual_hosts, origins),
            virtual_hosts,
        )

    def _services(self, caller: Caller) -> Iterator[Service]:
        """Those that speak HTTP at the caller's port, its namespace's own after everybody's."""
        own = self.registry.own.get(caller.namespace, {})
        listed = [each for each in self._by_port.get(caller.port, ()) if each.host not in own]
        listed += self._own_by_port.get(caller.namespace, {}).get(caller.port, ())
        return (each for each in listed if caller.view.admits(each, caller.port))

    def _mesh_hosts(self, caller: Caller) -> Iterator[VirtualHost]:
        heard_as = self._rules.caller(caller.namespace)
        by_name = self._remembered.hosts.of(caller)
        for service in self._services(caller):
            host = by_name.get(service.host)
            if host is None:
                host = by_name[service.host] = self._served_host(service, heard_as, caller)
            yield host
        if caller.port == DEFAULT_PORT:
            yield from self._other_hosts(caller, heard_as, by_name)

    def _served_host(self, service: Service, heard_as: str, caller: Caller) -> VirtualHost:
        rule = self._governing(service.host, heard_as)
        own = caller.namespace if service.key.namespace == caller.namespace else ""
        # Names differ for the service's own namespace alone; routes by what the rule looks at.
        looked = (rule.identity, *self._relevant(rule, caller)) if rule else (caller.port,)
        key = (service.host, own, looked, self.registry.scope(service.host, caller.as_whom))
        host = self._shared_hosts.get(key)
        if host is None:
            host = self._shared_hosts[key] = self._service_host(service, own, rule, caller)
        return host

    def _other_hosts(
        self, caller: Caller, heard_as: str, by_name: dict[str, VirtualHost | None]
    ) -> Iterator[VirtualHost]:
        """Hosts that rules name and no service has."""
        for name in self._rules.named():
            if self.registry.service(name, caller.namespace) is not None:
                continue
            if name not in by_name:
                by_name[name] = self._named_host(name, heard_as, caller)
            if (host := by_name[name]) is not None:
                yield host

    def _named_host(self, host: str, heard_as: str, caller: Caller) -> VirtualHost | None:
        rule = self._rules.exact(host, heard_as)
        if rule is None or not caller.view.admits_rule(rule, host, caller.port):
            return None
        names = hosts.aliases(host, caller.namespace, self.registry.cluster_domain)
        return self._rule_host(host, names, rule, caller)

    def _governing(self, host: str, heard_as: str) -> VirtualService | None:
        key = (host, heard_as)
        if key not in self._rule_of:
            self._rule_of[key] = self._rules.rule(host, heard_as)
        return self._rule_of[key]

    def _service_host(
        self, service: Service, own: str, rule: VirtualService | None, caller: Caller
    ) -> VirtualHost:
        names = hosts.domains(service, own, self.registry.cluster_domain)
        if rule is not None:
            return self._rule_host(service.host, names, rule, caller)
        scope = self.registry.scope(service.host, caller.as_whom)
        policy = self.registry.policy(service.host, scope)

        def make() -> VirtualHost:
            settings = self.registry.traffic(service.host, "", caller.port, scope).load_balancer
            hashing = settings.consistent_hash if settings else None
            table = routes.default(cluster_name(service.host, caller.port, scope=scope), hashing)
            return VirtualHost(service.host, names, _body([table]), policy.origins if hashing else ())

        key = ("service-host", service.host, service.sticky, names, caller.port, scope, policy.origins)
        return self._get(key, make)

    def _rule_host(
        self,
        host: str,
        names: tuple[str, ...],
        rule: VirtualService,
        caller: Caller,
    ) -> VirtualHost:
        routes_of_rule = self._rule_routes(rule, caller)
        key = ("rule-host", host, names, id(routes_of_rule))
        return self._get(
            key, lambda: VirtualHost(host, names, routes_of_rule.body, routes_of_rule.origins), routes_of_rule
        )

    def _relevant(self, rule: VirtualService, caller: Caller) -> tuple[Any, ...]:
        """What of the caller the rule looks at: callers that agree in it share its routes."""
        looks = self._looks_of.get(rule.origin)
        if looks is None:
            looks = self._looks_of[rule.origin] = _looks_at_namespace(rule)
        return (
            caller.port,
            caller.gateways,
            caller.namespace if looks else "",
            self._facts(rule, caller.as_whom),
        )

    def _rule_routes(self, rule: VirtualService, caller: Caller) -> _Routes:
        """A rule's routes, made anew only when the rule or something it refers to changed."""

        def make() -> _Routes:
            destinations = Destinations(
                self.registry,
                rule.namespace,
                caller.port,
                caller.as_whom,
                at_ingress=matches.MESH not in caller.gateways,
            )
            with blaming([rule.origin]):
                table = routes.translate(rule.spec, rule.namespace, caller, destinations)
                some = [each for each in table if not routes.takes_all(each.match)]
                rest = [each for each in table if routes.takes_all(each.match)]
                return _Routes(_body(some), _body(rest), (*rule.identity, *destinations.origins))

        key = ("rule", rule.identity, self._relevant(rule, caller))
        return self._get(key, make, rule)

    def _ingress_routes(self, rule: VirtualService, caller: Caller) -> _Routes:
        by_rule = self._remembered.routes.of(caller)
        routes_at_ingress = by_rule.get(rule.origin)
        if routes_at_ingress is None:
            routes_at_ingress = by_rule[rule.origin] = self._rule_routes(rule, caller)
        return routes_at_ingress

    def _facts(self, rule: VirtualService, caller: str) -> tuple[Any, ...]:
        """Everything the routes of a rule depend on besides the rule and what it looks at of its caller."""
        caller = self.registry.caller(caller)
        facts = self._facts_of.get((rule.origin, caller))
        if facts is None:
            facts = self._facts_of[rule.origin, caller] = self._find_facts(rule, caller)
        return facts

    def _find_facts(self, rule: VirtualService, caller: str) -> tuple[Any, ...]:
        named = dict.fromkeys(
            self.registry.qualified(destination.host, rule.namespace)
            for destination in changes.destinations(rule.spec)
        )
        return tuple(
            (
                host,
                (service.ports, service.sticky)
                if (service := self.registry.service(host, seen := self._seen_as(host, caller, rule)))
                else None,
                scope := self.registry.scope(host, seen),
                self.registry.policy(host, scope).origins,
            )
            for host in named
        )

    def _seen_as(self, host: str, caller: str, rule: VirtualService) -> str:
        return self.registry.seen_as(host, caller, rule.namespace)

    def _for_unknown(self, caller: Caller) -> VirtualHost:
        """What becomes of requests to hosts that are nobody's."""
        if caller.view.registry_only:
            refused = routes.blocked()
            return self._get(("block-all",), lambda: VirtualHost("block_all", ("*",), _body([refused])))
        cluster = unknown_cluster(self.registry, caller.view, caller.as_whom)
        route = routes.passthrough(cluster)
        return self._get(("allow-any", cluster), lambda: VirtualHost("allow_any", ("*",), _body([route])))

    def admissions(self, name: str, servers: Servers, rules: Iterable[VirtualService]) -> list[Admission]:
        """What asks to be served at the port of a listener, the oldest rule first."""
        listed = [
            each
            for rule in sorted(rules, key=lambda rule: rule.age)
            for each in self._admissions_of(name, servers, rule)
        ]
        return judged(self.registry, listed)

    def ingress(
        self, name: str, servers: Servers, admissions: Iterable[Admission], tls_port: int = 443
    ) -> Resource:
        """A table of the ingress gateway: of a port, or of one server where TLS tells servers apart.

        Rules for one host are joined, oldest first, what takes every request after all else: so no
        rule hides another that is younger and more particular. Where a server redirects to HTTPS, nothing
        else is answered: `tls_port` is where that is.
        """
        joined: dict[str, dict[_Routes, None]] = {}
        redirected: dict[str, dict[Origin, None]] = {}
        for each in admissions:
            if redirects(each.server):
                origins = redirected.setdefault(each.host, {each.gateway.origin: None})
                origins[each.rule.origin] = None
                continue
            gateway_name = f"{each.gateway.namespace}/{each.gateway.origin.name}"
            caller = Caller(each.server.port.number, frozenset({gateway_name}))
            joined.setdefault(each.host, {})[self._ingress_routes(each.rule, caller)] = None
        for gateway, server in servers:
            # A host that somebody's rules have is for them to redirect.
            for host in set(bare_hosts(server)) - joined.keys() if redirects(server) else ():
                redirected.setdefault(host, {})[gateway.origin] = None
        virtual_hosts = [
            self._ingress_host(host, tuple(of_host))
            for host, of_host in joined.items()
            if host not in redirected
        ]
        for host, origins in sorted(redirected.items()):
            virtual_hosts.append(VirtualHost(host, (host,), _body([_redirect(tls_port)]), tuple(origins)))
        return _table(name, virtual_hosts, tuple(dict.fromkeys(gateway.origin for gateway, _ in servers)))

    def _admissions_of(self, name: str, servers: Servers, rule: VirtualService) -> list[Admission]:
        by_rule = self._remembered.admissions.of(name)
        admissions = by_rule.get(rule.origin)
        if admissions is None:
            admissions = by_rule[rule.origin] = list(requested(self.registry, servers, rule))
        return admissions

    def _ingress_host(self, host: str, joined: tuple[_Routes, ...]) -> VirtualHost:
        def make() -> VirtualHost:
            body = b"".join((*(each.some for each in joined), *(each.rest for each in joined)))
            origins = dict.fromkeys(origin for each in joined for origin in each.origins)
            return VirtualHost(host, (host,), body, tuple(origins))

        return self._get(("ingress-host", host, *map(id, joined)), make, joined)


def unknown_cluster(registry: Registry, view: View, who: str) -> str:
    """Where a caller's connections to what the mesh does not know go."""
    if view.registry_only:
        return clusters.BLACKHOLE
    if view.proxy is None or view.sidecar is None:
        return clusters.PASSTHROUGH
    destinations = Destinations(registry, view.sidecar.namespace, 0, who)
    return destinations.cluster(view.proxy)


def _at_ports(services: Iterable[Service]) -> dict[int, list[Service]]:
    by_port: dict[int, list[Service]] = {}
    for service in services:
        for port in service.ports:
            if port.is_http:
                by_port.setdefault(port.number, []).append(service)
    return by_port


def _looks_at_namespace(rule: VirtualService) -> bool:
    return any(match.source_namespace for route in rule.spec.http for match in route.match)


def table_name(port: int, caller: str, view: View = EVERYTHING) -> str:
    return f"{port}|{caller}{view.suffix}"


def _body(envoy_routes: Sequence[m.routes.Route]) -> bytes:
    return wire.encode(m.routes.VirtualHost(routes=envoy_routes, include_request_attempt_count=True))


def _redirect(tls_port: int) -> m.routes.Route:
    """Every request asks again at the port of HTTPS."""
    route = m.routes.Route(name="https-redirect", match=matches.anything())
    route.redirect.https_redirect = True
    route.redirect.port_redirect = tls_port
    return route


def _table(name: str, virtual_hosts: Sequence[VirtualHost], origins: tuple[Origin, ...] = ()) -> Resource:
    """Envoy refuses a table in which a name stands twice: the first host to have it keeps it."""
    taken: set[str] = set()
    parts = [
        wire.encode(
            m.route.RouteConfiguration(
                name=name,
                # A missing cluster answers 503 by itself and is a condition on its rule; it must not
                # keep the other rules of the table from taking effect.
                validate_clusters=m.boolean(False),
                ignore_port_in_host_matching=True,
                max_direct_response_body_size_bytes=m.number(_DIRECT_BODY_BYTES_MAX),
            )
        )
    ]
    for host in virtual_hosts:
        free = [domain for domain in host.domains if domain not in taken]
        if free:
            taken.update(free)
            parts.append(host.encoded if len(free) == len(host.domains) else host.limited_to(free))
    body = b"".join(parts)
    sources = dict.fromkeys(origin for host in virtual_hosts for origin in host.origins)
    return Resource(name, wire.digest(body), body, (*origins, *sources))
