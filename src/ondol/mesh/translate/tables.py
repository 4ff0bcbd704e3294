"""Route tables: which virtual hosts a kind of caller sees, assembled from virtual hosts made once.

A table is made for every HTTP port of every namespace that has callers (short names mean something
else in each), split further only where rules look at the caller's labels. Ingress has a table a port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.mesh.model import istio
from ondol.mesh.model.kube import Service
from ondol.mesh.translate import clusters, hosts, matches, routes, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.matches import MESH, Caller
from ondol.mesh.translate.memo import Memo
from ondol.mesh.translate.registry import Gateway, Registry, VirtualService, cluster_name
from ondol.mesh.xds.types import Origin, Resource

DEFAULT_PORT: Final = 80
"""Where hosts without a service are served."""
_DIRECT_BODY_BYTES_MAX: Final = 1 << 20
_VIRTUAL_HOSTS: Final = m.route.RouteConfiguration.DESCRIPTOR.fields_by_name["virtual_hosts"].number


@dataclass(frozen=True, slots=True, eq=False)
class VirtualHost:
    """Names and encoded routes; the names are added last, for a table may hold each only once."""

    name: str
    domains: tuple[str, ...]
    body: bytes
    origins: tuple[Origin, ...] = ()


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
        settings = policy.traffic(destination.subset, port).load_balancer
        if settings is None or settings.consistent_hash is None:
            return None
        self.origins.update(dict.fromkeys(policy.origins))
        return settings.consistent_hash


class Tables:
    """Makes tables over one registry; what was made for the same inputs before is taken from `memo`."""

    def __init__(self, registry: Registry, memo: Memo) -> None:
        self._registry = registry
        self._memo = memo

    def mesh(self, name: str, caller: Caller, rules: Mapping[str, VirtualService]) -> Resource:
        """The table of callers between pods."""
        found = list(self._mesh_hosts(caller, rules))
        found.append(self._allow_any())
        return self._memo.get(("table", name, tuple(map(id, found))), lambda: _table(name, found), found)

    def _mesh_hosts(self, caller: Caller, rules: Mapping[str, VirtualService]) -> Iterator[VirtualHost]:
        registry = self._registry
        for service in registry.services.values():
            port = service.port(caller.port)
            if port is not None and port.is_http:
                yield self._service_host(service, caller, hosts.best(service.host, rules))
        for host, rule in rules.items():
            if host not in registry.services and caller.port == DEFAULT_PORT:
                names = hosts.aliases(host, caller.namespace, registry.cluster_domain)
                yield self._rule_host(host, names, rule, caller)

    def _service_host(self, service: Service, caller: Caller, rule: VirtualService | None) -> VirtualHost:
        names = hosts.domains(service, caller.namespace, self._registry.cluster_domain)
        if rule is not None:
            return self._rule_host(service.host, names, rule, caller)
        policy = self._registry.policy(service.host)

        def make() -> VirtualHost:
            settings = policy.traffic("", caller.port).load_balancer
            hashing = settings.consistent_hash if settings else None
            made = routes.default(cluster_name(service.host, caller.port), hashing)
            return VirtualHost(service.host, names, _body([made]), policy.origins if hashing else ())

        key = ("service-host", service.host, names, caller.port, policy.origins)
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

    def _rule_body(self, rule: VirtualService, caller: Caller) -> tuple[bytes, tuple[Origin, ...]]:
        """A rule's routes, made anew only when the rule or something it refers to changed."""

        def make() -> tuple[bytes, tuple[Origin, ...]]:
            destinations = _Destinations(self._registry, rule.namespace, caller.port)
            made = routes.translate(rule.spec, rule.namespace, caller, destinations)
            return _body(made), (rule.origin, *destinations.origins)

        key = ("rule", rule.origin, _relevant(rule, caller), self._facts(rule))
        return self._memo.get(key, make, rule)

    def _facts(self, rule: VirtualService) -> tuple[Any, ...]:
        """Everything the routes of a rule depend on besides the rule and its caller."""
        named = dict.fromkeys(
            self._registry.qualified(destination.host, rule.namespace)
            for destination in destinations(rule.spec)
        )
        return tuple(
            (
                host,
                service.ports if (service := self._registry.services.get(host)) else None,
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


def _relevant(rule: VirtualService, caller: Caller) -> tuple[Any, ...]:
    """What of the caller the rule looks at: callers that agree in it share its routes."""
    asks = [match for route in rule.spec.http for match in route.match]
    clauses = {matches.clause(match.source_labels) for match in asks if match.source_labels}
    return (
        caller.port,
        caller.gateways,
        caller.namespace if any(match.source_namespace for match in asks) else "",
        frozenset(clauses & caller.clauses),
    )


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


def label_clauses(rules: Iterable[VirtualService]) -> frozenset[matches.Clause]:
    """Every set of caller labels that some rule asks for."""
    return frozenset(
        matches.clause(match.source_labels)
        for rule in rules
        for route in rule.spec.http
        for match in route.match
        if match.source_labels
    )


def table_name(port: int, namespace: str, clauses: Iterable[matches.Clause]) -> str:
    held = sorted(str(sorted(clause)) for clause in clauses)
    return f"{port}|{namespace}" + (f"|{wire.label(held)}" if held else "")


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
            head = wire.encode(m.routes.VirtualHost(name=host.name, domains=free))
            parts.append(wire.field(_VIRTUAL_HOSTS, head + host.body))
    body = b"".join(parts)
    made_of = dict.fromkeys(origin for host in found for origin in host.origins)
    return Resource(name, wire.digest(body), body, (*origins, *made_of))
