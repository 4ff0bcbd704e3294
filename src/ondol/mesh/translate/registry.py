"""What the translation looks things up in: services, their policies, their endpoints, pods' labels.

Built anew for each translation from typed views; views are made once per version of an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.mesh.model import istio
from ondol.mesh.model.kube import Endpoint, Service
from ondol.mesh.translate import hosts
from ondol.mesh.xds.types import Origin

S = TypeVar("S", bound=istio.Struct)


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
    """The destination rules that govern one host: the first's policy, everyone's subsets."""

    rules: tuple[DestinationRule, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        return tuple(found.origin for found in self.rules)

    @property
    def subsets(self) -> Mapping[str, istio.Subset]:
        found: dict[str, istio.Subset] = {}
        for each in self.rules:
            for subset in each.spec.subsets:
                found.setdefault(subset.name, subset)
        return found

    def traffic(self, subset: str, port: int) -> istio.TrafficPolicy:
        """The policy in force: the subset's over the host's; what either says of the port is all it says."""
        whole = next((r.spec.traffic_policy for r in self.rules if r.spec.traffic_policy), None)
        own = self.subsets[subset].traffic_policy if subset in self.subsets else None
        found = istio.TrafficPolicy()
        for policy in (whole, own):
            if policy is not None:
                found = _over(found, policy, port)
        return found


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
    policies: dict[str, Policy] = field(default_factory=dict)
    """As written: by full name or wildcard."""
    _in_force: dict[str, Policy] = field(default_factory=dict)

    def qualified(self, host: str, namespace: str) -> str:
        return hosts.qualified(host, namespace, self.cluster_domain, self.services)

    def policy(self, host: str) -> Policy:
        found = self._in_force.get(host)
        if found is None:
            found = self._in_force[host] = hosts.best(host, self.policies) or _NO_POLICY
        return found

    def traffic(self, host: str, subset: str, port: int) -> istio.TrafficPolicy:
        """The policy in force for a destination, the service's own session affinity included."""
        found = self.policy(host).traffic(subset, port)
        service = self.services.get(host)
        if service is None or not service.sticky or found.load_balancer is not None:
            return found
        return msgspec.structs.replace(found, load_balancer=_BY_CLIENT)

    def pods_behind(self, service: Key) -> set[Key]:
        """The pods that are endpoints of a service."""
        views = self.slices.get(service, ())
        return {endpoint.pod for view in views for _, endpoint in view if endpoint.pod is not None}

    def add_policies(self, rules: Sequence[DestinationRule]) -> None:
        """Group rules by host: those of the service's own namespace first, then the oldest."""
        grouped: dict[str, list[DestinationRule]] = {}
        for each in rules:
            grouped.setdefault(self.qualified(each.spec.host, each.namespace), []).append(each)
        for host, found in grouped.items():
            service = self.services.get(host)
            home = service.key.namespace if service else ""

            def rank(each: DestinationRule, home: str = home) -> tuple[bool, tuple[str, str, str]]:
                return (each.namespace != home, each.age)

            self.policies[host] = Policy(tuple(sorted(found, key=rank)))


def cluster_name(host: str, port: int, subset: str = "") -> str:
    """Istio's name for a destination."""
    return f"outbound|{port}|{subset}|{host}"
