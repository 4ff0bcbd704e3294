"""Route tables: which virtual hosts a kind of caller sees, assembled from virtual hosts made once.

A table is made for every HTTP port of every namespace that has callers (short names mean something
else in each). Ingress has a table a port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from ondol.mesh.model import istio
from ondol.mesh.model.kube import Service
from ondol.mesh.translate import clusters, hosts, matches, routes, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.matches import MESH, Caller
from ondol.mesh.translate.memo import Memo
from ondol.mesh.translate.registry import Gateway, Registry, VirtualService, blaming, cluster_name
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


@dataclass(slots=True)
class _Destinations:
    """Answers for the routes of one VirtualService, completing names as its namespace sees them."""

    registry: Registry
    namespace: str
    port: int
    origins: dict[Origin, None] = field(default_factory=dict)

    def _find(self, destination: istio.Destination) -> tuple[str, int]:
        host = self.registry.qualified(destination.host, self.namespace)
        if destination.port is not None and destination.port.number:
            return host, destination.port.number
        service = self.registry.services.get(host)
        if service is not None and len(service.ports) == 1:
            return host, service.ports[0].number
        return host, self.port

    def cluster(self, destination: istio.Destination) -> str:
        host, port = self._find(destination)
        return cluster_name(host, port, destination.subset)

    def hash(self, destination: istio.Destination) -> istio.ConsistentHashLB | None:
        host, port = self._find(destination)
        policy = self.registry.policy(host)
        settings = self.registry.traffic(host, destination.subset, port).load_balancer
        if settings is None or settings.consistent_hash is None:
            return None
        self.origins.update(dict.fromkeys(policy.origins))
        return settings.consistent_hash


class Tables:
    """Makes tables over one registry; what was made for the same inputs before is taken from `memo`.

    What many tables ask for (the rule of a host, its names, what a rule depends on) is found once.
    """

    def __init__(self, registry: Registry, rules: Mapping[str, VirtualService], memo: Memo) -> None:
        """`rules` has the rule of each host for calls between pods."""
        self._registry = registry
        self._rules = rules
        self._memo = memo
        self._facts_of: dict[Origin, tuple[Any, ...]] = {}
        self._looks_of: dict[Origin, bool] = {}
        self._made: dict[tuple[Any, ...], VirtualHost] = {}
        self._by_port: dict[int, list[tuple[Service, VirtualService | None]]] = {}
        for service in registry.services.values():
            rule = hosts.best(service.host, rules)
            for port in service.ports:
                if port.is_http:
                    self._by_port.setdefault(port.number, []).append((service, rule))

    def mesh(self, name: str, caller: Caller) -> Resource:
        """The table of callers between pods."""
        found = list(self._mesh_hosts(caller))
        found.append(self._allow_any())
        return self._memo.get(("table", name, tuple(map(id, found))), lambda: _table(name, found), found)

    def _mesh_hosts(self, caller: Caller) -> Iterator[VirtualHost]:
        for service, rule in self._by_port.get(caller.port, ()):
            own = caller.namespace if service.key.namespace == caller.namespace else ""
            # Names differ for the service's own namespace alone; routes by what the rule looks at.
            key = (service.host, own, self._relevant(rule, caller) if rule else caller.port)
            made = self._made.get(key)
            if made is None:
                made = self._made[key] = self._service_host(service, own, rule, caller)
            yield made
        for host, rule in self._rules.items():
            if host not in self._registry.services and caller.port == DEFAULT_PORT:
                names = hosts.aliases(host, caller.namespace, self._registry.cluster_domain)
                yield self._rule_host(host, names, rule, caller)

    def _service_host(
        self, service: Service, own: str, rule: VirtualService | None, caller: Caller
    ) -> VirtualHost:
        names = hosts.domains(service, own, self._registry.cluster_domain)
        if rule is not None:
            return self._rule_host(service.host, names, rule, caller)
        policy = self._registry.policy(service.host)

        def make() -> VirtualHost:
            settings = self._registry.traffic(service.host, "", caller.port).load_balancer
            hashing = settings.consistent_hash if settings else None
            made = routes.default(cluster_name(service.host, caller.port), hashing)
            return VirtualHost(service.host, names, _body([made]), policy.origins if hashing else ())

        key = ("service-host", service.host, service.sticky, names, caller.port, policy.origins)
        return self._memo.get(key, make)

    def _rule_host(
        self,
        host: str,
        names: tuple[str, ...],
        rule: VirtualService,
        caller: Caller,
    ) -> VirtualHost:
        body, origins = self._rule_body(rule, caller)
        key = ("rule-host", host, names, id(body))
        return self._memo.get(key, lambda: VirtualHost(host, names, body, origins), body)

    def _relevant(self, rule: VirtualService, caller: Caller) -> tuple[Any, ...]:
        """What of the caller the rule looks at: callers that agree in it share its routes."""
        looks = self._looks_of.get(rule.origin)
        if looks is None:
            looks = self._looks_of[rule.origin] = _looks_at_namespace(rule)
        return (
            caller.port,
            caller.gateways,
            caller.namespace if looks else "",
        )

    def _rule_body(self, rule: VirtualService, caller: Caller) -> tuple[bytes, tuple[Origin, ...]]:
        """A rule's routes, made anew only when the rule or something it refers to changed."""

        def make() -> tuple[bytes, tuple[Origin, ...]]:
            destinations = _Destinations(self._registry, rule.namespace, caller.port)
            with blaming([rule.origin]):
                made = routes.translate(rule.spec, rule.namespace, caller, destinations)
                return _body(made), (rule.origin, *destinations.origins)

        key = ("rule", rule.origin, self._relevant(rule, caller), self._facts(rule))
        return self._memo.get(key, make, rule)

    def _facts(self, rule: VirtualService) -> tuple[Any, ...]:
        """Everything the routes of a rule depend on besides the rule and its caller."""
        found = self._facts_of.get(rule.origin)
        if found is None:
            found = self._facts_of[rule.origin] = self._find_facts(rule)
        return found

    def _find_facts(self, rule: VirtualService) -> tuple[Any, ...]:
        named = dict.fromkeys(
            self._registry.qualified(destination.host, rule.namespace)
            for destination in destinations(rule.spec)
        )
        return tuple(
            (
                host,
                (service.ports, service.sticky) if (service := self._registry.services.get(host)) else None,
                self._registry.policy(host).origins,
            )
            for host in named
        )

    def _allow_any(self) -> VirtualHost:
        made = routes.passthrough(clusters.PASSTHROUGH)
        return self._memo.get(("allow-any",), lambda: VirtualHost("allow_any", ("*",), _body([made])))

    def ingress(
        self,
        name: str,
        port: int,
        servers: Sequence[tuple[Gateway, istio.Server]],
        rules: Sequence[VirtualService],
    ) -> Resource:
        """The table of a port of the ingress gateway; rules for one host are joined, oldest first."""
        found: dict[str, list[tuple[bytes, tuple[Origin, ...]]]] = {}
        redirecting: set[str] = set()
        for gateway, server in servers:
            caller = Caller(port, frozenset({f"{gateway.namespace}/{gateway.origin.name}"}))
            for host, rule in self._bound(gateway, server, caller, rules):
                bodies = found.setdefault(host, [])
                body = self._rule_body(rule, caller)
                if body not in bodies:
                    bodies.append(body)
                if server.tls is not None and server.tls.https_redirect:
                    redirecting.add(host)
        made = [
            VirtualHost(
                host,
                (host,),
                b"".join(body for body, _ in bodies) + (_require_tls() if host in redirecting else b""),
                tuple(dict.fromkeys(origin for _, origins in bodies for origin in origins)),
            )
            for host, bodies in found.items()
        ]
        return _table(name, made, tuple(gateway.origin for gateway, _ in servers))

    def _bound(
        self,
        gateway: Gateway,
        server: istio.Server,
        caller: Caller,
        rules: Sequence[VirtualService],
    ) -> Iterator[tuple[str, VirtualService]]:
        for rule in sorted(rules, key=lambda rule: rule.age):
            names = matches.gateway_names(rule.spec.gateways, rule.namespace)
            if caller.gateways.isdisjoint(names):
                continue
            for host in rule.spec.hosts:
                full = self._registry.qualified(host, rule.namespace)
                for admitted in hosts.overlap(_admitted(gateway, server, rule.namespace), full):
                    yield admitted, rule


def _admitted(gateway: Gateway, server: istio.Server, namespace: str) -> Iterator[str]:
    """Host patterns of a server for rules of a namespace: `./host` is the gateway's own, `*/host` all."""
    for host in server.hosts:
        scope, slash, pattern = host.rpartition("/")
        wanted = gateway.namespace if scope == "." else scope
        if not slash or wanted in ("*", namespace):
            yield pattern.lower()


def _looks_at_namespace(rule: VirtualService) -> bool:
    return any(match.source_namespace for route in rule.spec.http for match in route.match)


def destinations(spec: istio.VirtualServiceSpec) -> Iterator[istio.Destination]:
    """Everything a rule refers to."""
    for route in spec.http:
        yield from (each.destination for each in route.route)
        yield from (each.destination for each in route.mirrors)
        if route.mirror is not None:
            yield route.mirror


def by_host(registry: Registry, rules: Iterable[VirtualService]) -> dict[str, VirtualService]:
    """The rule of each host for calls between pods; the oldest wins."""
    found: dict[str, VirtualService] = {}
    for rule in sorted(rules, key=lambda rule: rule.age):
        if MESH not in matches.gateway_names(rule.spec.gateways, rule.namespace):
            continue
        for host in rule.spec.hosts:
            found.setdefault(registry.qualified(host, rule.namespace), rule)
    return found


def table_name(port: int, namespace: str) -> str:
    return f"{port}|{namespace}"


def _body(made: Sequence[Any]) -> bytes:
    return wire.encode(m.routes.VirtualHost(routes=made, include_request_attempt_count=True))


def _require_tls() -> bytes:
    return wire.encode(m.routes.VirtualHost(require_tls=m.routes.VirtualHost.ALL))


def _table(name: str, found: Sequence[VirtualHost], origins: tuple[Origin, ...] = ()) -> Resource:
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
    for host in found:
        free = [domain for domain in host.domains if domain not in taken]
        if free:
            taken.update(free)
            parts.append(host.encoded if len(free) == len(host.domains) else host.limited_to(free))
    body = b"".join(parts)
    made_of = dict.fromkeys(origin for host in found for origin in host.origins)
    return Resource(name, wire.digest(body), body, (*origins, *made_of))
