"""The lookup tables of the translation: services, their policies, their endpoints, pods' labels.

Built anew for each translation from typed views; views are made once per version of an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.mesh.model import istio
from ondol.mesh.model.kube import Endpoint, Service
from ondol.mesh.translate import hosts, reach
from ondol.mesh.xds.types import Origin

S = TypeVar("S", bound=istio.Struct)


OF_INGRESS: Final = "ingress:"
"""Before the host in the name of a rule that is made of Ingresses; no object's name has a colon."""


class Failed(errors.OndolError):
    """The translation could not make something of this object, though it had been found sound."""

    def __init__(self, origin: Origin, message: str) -> None:
        super().__init__(message)
        self.origin = origin


@contextmanager
def blaming(origins: Sequence[Origin]) -> Iterator[None]:
    """What goes wrong inside is the fault of the first of these objects, if there is one."""
    try:
        yield
    except (istio.Refused, ValueError, TypeError, OverflowError) as error:
        if not origins:
            raise
        raise Failed(origins[0], str(error)) from error


def version(obj: Object) -> str:
    """Changes with what an object says, not with its status."""
    generation = objects.generation(obj)
    return f"{objects.uid(obj)}:{generation}" if generation else objects.resource_version(obj)


@dataclass(frozen=True, slots=True, eq=False)
class Rule(Generic[S]):
    """A typed Istio object; equal only to itself, for it is made once per version."""

    origin: Origin
    created: str
    spec: S

    @property
    def namespace(self) -> str:
        return self.origin.namespace

    @property
    def has_plain_hosts(self) -> bool:
        """Whether its hosts are names as they stand, which nothing completes: those of Ingresses."""
        return self.origin.name.startswith(OF_INGRESS)

    @property
    def age(self) -> tuple[str, str, str]:
        """Sorts the oldest first, as Istio settles conflicts."""
        return (self.created, self.origin.namespace, self.origin.name)


VirtualService = Rule[istio.VirtualServiceSpec]
DestinationRule = Rule[istio.DestinationRuleSpec]
Gateway = Rule[istio.GatewaySpec]


def rule(kind: str, spec: type[S], obj: Object) -> Rule[S]:
    """The typed view of an Istio object; `Refused` when it says something impossible."""
    return Rule(
        Origin(kind, objects.namespace(obj), objects.name(obj), version(obj)),
        str(objects.metadata(obj).get("creationTimestamp") or ""),
        istio.read(spec, obj),
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """The destination rules that govern one host for some callers: the first's policy, everyone's subsets."""

    rules: tuple[DestinationRule, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        return tuple(rule.origin for rule in self.rules)

    @property
    def subsets(self) -> Mapping[str, istio.Subset]:
        subsets: dict[str, istio.Subset] = {}
        for each in self.rules:
            for subset in each.spec.subsets:
                subsets.setdefault(subset.name, subset)
        return subsets

    def traffic(self, subset: str, port: int) -> istio.TrafficPolicy:
        """The policy in force: the subset's over the host's; what either says of the port is all it says."""
        whole = next((r.spec.traffic_policy for r in self.rules if r.spec.traffic_policy), None)
        own = self.subsets[subset].traffic_policy if subset in self.subsets else None
        effective = istio.TrafficPolicy()
        for policy in (whole, own):
            if policy is not None:
                effective = _over(effective, policy, port)
        return effective


def _over(below: istio.TrafficPolicy, policy: istio.TrafficPolicy, port: int) -> istio.TrafficPolicy:
    """A policy over another, for one port."""
    for settings in policy.port_level_settings:
        if settings.port.number == port:
            return istio.TrafficPolicy(
                settings.load_balancer, settings.connection_pool, settings.outlier_detection, settings.tls
            )
    return istio.TrafficPolicy(
        policy.load_balancer or below.load_balancer,
        policy.connection_pool or below.connection_pool,
        policy.outlier_detection or below.outlier_detection,
        policy.tls or below.tls,
    )


_NO_POLICY = Policy()
_NO_NAMESPACES = frozenset({".", "*", "~"})
"""What `exportTo` may hold besides names of namespaces."""
_BY_CLIENT = istio.LoadBalancerSettings(consistent_hash=istio.ConsistentHashLB(use_source_ip=True))

Slice = tuple[tuple[str, Endpoint], ...]
"""Ready endpoints by port name."""


@dataclass(slots=True)
class Registry:
    """Services by full name and what belongs to them."""

    cluster_domain: str
    services: dict[str, Service] = field(default_factory=dict)
    slices: dict[Key, list[Slice]] = field(default_factory=dict)
    """Views of EndpointSlices by service."""
    labels: dict[Key, Mapping[str, str]] = field(default_factory=dict)
    """Of pods."""
    roots: frozenset[str] = frozenset({reach.ISTIO_SYSTEM})
    """Namespaces whose rules hold for every host and caller."""
    _rules: dict[str, list[DestinationRule]] = field(default_factory=dict)
    """By full name or wildcard as written, the oldest first."""
    _has_wildcards: bool = False
    _in_force: dict[tuple[str, str], Policy] = field(default_factory=dict)
    _scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _apart: set[str] = field(default_factory=set)
    """Namespaces that may be governed otherwise than anybody somewhere: few, and a bound for the search."""

    def qualified(self, host: str, namespace: str) -> str:
        return hosts.qualified(host, namespace, self.cluster_domain, self.services)

    def host(self, name: str) -> reach.Host:
        """Whose a full name is, and whose rules its owner admits."""
        service = self.services.get(name)
        admitted = (
            reach.guests(service.rules_from) if service is not None and service.rules_from else frozenset()
        )
        return reach.Host(reach.owner(name, self.cluster_domain), admitted)

    def is_governed_as(self, other: Registry) -> bool:
        """Whether the same rules stand under the same names: which those are depends on the services too."""
        return self._origins() == other._origins()

    def _origins(self) -> dict[str, list[Origin]]:
        return {name: [rule.origin for rule in rules] for name, rules in self._rules.items()}

    def policy(self, host: str, caller: str = reach.ANYBODY) -> Policy:
        """What governs calls to `host` from the namespace `caller`."""
        policy = self._in_force.get((host, caller))
        if policy is None:
            policy = self._in_force[host, caller] = self._find_policy(host, caller)
        return policy

    def _find_policy(self, host: str, caller: str) -> Policy:
        """The rules of the strongest level, of these the ones that name the host most closely."""
        ranked: dict[tuple[int, int], list[DestinationRule]] = {}
        of: reach.Host | None = None
        for closeness, pattern in enumerate(hosts.patterns(host, wildcards=self._has_wildcards)):
            for rule in self._rules.get(pattern, ()):
                of = of or self.host(host)
                level = reach.level(rule.namespace, caller, of, self.roots)
                if level is not None and reach.exported(rule.spec.export_to, rule.namespace, caller):
                    ranked.setdefault((level, closeness), []).append(rule)
        return Policy(tuple(ranked[min(ranked)])) if ranked else _NO_POLICY

    def scopes(self, host: str) -> tuple[str, ...]:
        """The namespaces whose calls to `host` are governed otherwise than anybody's."""
        if not self._apart:
            return ()
        callers = self._scopes.get(host)
        if callers is None:
            concerned = {
                name
                for pattern in hosts.patterns(host, wildcards=self._has_wildcards)
                for rule in self._rules.get(pattern, ())
                for name in (rule.namespace, *rule.spec.export_to)
            } & self._apart
            anybody = self.policy(host).origins
            callers = tuple(name for name in sorted(concerned) if self.policy(host, name).origins != anybody)
            self._scopes[host] = callers
        return callers

    def scope(self, host: str, caller: str) -> str:
        """As whom `caller` calls `host`: itself where it is governed otherwise than anybody."""
        return caller if caller in self._apart and caller in self.scopes(host) else reach.ANYBODY

    def caller(self, namespace: str) -> str:
        """As whom a namespace calls: itself if some rule may tell it apart, else anybody."""
        return namespace if namespace in self._apart else reach.ANYBODY

    def traffic(self, host: str, subset: str, port: int, caller: str = reach.ANYBODY) -> istio.TrafficPolicy:
        """The policy in force for a destination, the service's own session affinity included."""
        policy = self.policy(host, caller).traffic(subset, port)
        service = self.services.get(host)
        if service is None or not service.sticky or policy.load_balancer is not None:
            return policy
        return msgspec.structs.replace(policy, load_balancer=_BY_CLIENT)

    def pods_behind(self, service: Key) -> set[Key]:
        """The pods that are endpoints of a service."""
        views = self.slices.get(service, ())
        return {endpoint.pod for view in views for _, endpoint in view if endpoint.pod is not None}

    def add_policies(self, rules: Sequence[DestinationRule]) -> None:
        """Group rules by the host they name, the oldest first."""
        for each in sorted(rules, key=lambda rule: rule.age):
            host = self.qualified(each.spec.host, each.namespace)
            self._rules.setdefault(host, []).append(each)
            self._has_wildcards |= host.startswith("*")
            if each.spec.export_to or reach.owner(host, self.cluster_domain) != each.namespace:
                self._apart |= {each.namespace, *each.spec.export_to} - _NO_NAMESPACES
