"""The lookup tables of the translation: services, their policies, their endpoints, pods' labels.

Built anew for each translation from typed views; views are made once per version of an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.mesh.model import istio, security
from ondol.mesh.model.kube import Client, Endpoint, Service, Slice
from ondol.mesh.translate import callers, hosts, locality, reach
from ondol.mesh.xds.types import Origin

S = TypeVar("S", bound=istio.Struct)


_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
OF_INGRESS: Final = "ingress:"
"""Before the host in the name of a rule that is made of Ingresses; no object's name has a colon."""
OF_GATEWAY_API: Final = "gateway-api:"
"""The same for what is made of Gateway API's objects."""


FAILURES: Final = (istio.Refused, ValueError, TypeError, OverflowError)
"""What goes wrong where something is made of an object."""


class Failed(errors.OndolError):
    """The translation could not make something of this object, though it had been found sound."""

    def __init__(self, origin: Origin, message: str) -> None:
        super().__init__(message)
        self.origin = origin


@contextmanager
def blaming(origins: Sequence[Origin] | Callable[[], Sequence[Origin]]) -> Iterator[None]:
    """What goes wrong inside is the fault of the first of these objects, if there is one.

    A function is asked for them when something went wrong.
    """
    try:
        yield
    except FAILURES as error:
        listed = origins() if callable(origins) else origins
        if not listed:
            raise
        raise Failed(listed[0], str(error)) from error


def version(obj: Object) -> str:
    """Changes with what an object says, not with its status."""
    generation = objects.generation(obj)
    base = f"{objects.uid(obj)}:{generation}" if generation else objects.resource_version(obj)
    return f"{base}:dry-run" if is_dry_run(obj) else base


def is_dry_run(obj: Object) -> bool:
    """Whether an annotation, which has no generation, says that the object is to decide nothing."""
    return objects.annotations(obj).get(security.DRY_RUN, "") in _TRUE


@dataclass(frozen=True, slots=True, eq=False)
class Rule(Generic[S]):
    """A typed Istio object; equal only to itself, for it is made once per version."""

    origin: Origin
    created: str
    spec: S
    is_dry_run: bool = False
    joined: tuple[tuple[str, Origin], ...] = ()
    """Which of its routes, by name, came from which other object (`delegation`)."""
    on_behalf: str = ""
    """The namespace for which it claims hosts at the ingress, where that is not its own: a Gateway's."""

    @property
    def identity(self) -> tuple[Origin, ...]:
        """Itself and what was joined to it: the same as long as it says the same."""
        return (self.origin, *dict.fromkeys(origin for _, origin in self.joined))

    @property
    def namespace(self) -> str:
        return self.origin.namespace

    @property
    def has_plain_hosts(self) -> bool:
        """Whether its hosts are names as they stand, which nothing completes: of Ingresses and Routes."""
        return self.origin.name.startswith((OF_INGRESS, OF_GATEWAY_API))

    @property
    def is_of_gateway_api(self) -> bool:
        """Whether it was made of Routes, and of them for all that may share its host."""
        return self.origin.name.startswith(OF_GATEWAY_API)

    @property
    def claimant(self) -> str:
        """The namespace that holds its hosts at the ingress, if it is the first to ask for them."""
        return self.on_behalf or self.namespace

    @property
    def age(self) -> tuple[str, str, str]:
        """Sorts the oldest first, as Istio settles conflicts."""
        return (self.created, self.claimant, self.origin.name)


VirtualService = Rule[istio.VirtualServiceSpec]
DestinationRule = Rule[istio.DestinationRuleSpec]
Gateway = Rule[istio.GatewaySpec]


def rule(kind: str, spec: type[S], obj: Object) -> Rule[S]:
    """The typed view of an Istio object; `Refused` when it says something impossible."""
    return Rule(
        Origin(kind, objects.namespace(obj), objects.name(obj), version(obj)),
        str(objects.metadata(obj).get("creationTimestamp") or ""),
        istio.read(spec, obj),
        is_dry_run(obj),
    )


_Settings: TypeAlias = istio.TrafficPolicy | istio.PortTrafficPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """The destination rules that govern one host for some callers: the first's policy, everyone's subsets."""

    rules: tuple[DestinationRule, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        return tuple(rule.origin for rule in self.rules)

    def credentials(self, subset: str) -> str:
        """The namespace of the rule that says by which TLS a subset is called: its credentials are there."""
        for rule in self.rules:
            if any(each.name == subset and _has_tls(each.traffic_policy) for each in rule.spec.subsets):
                return rule.namespace
        whole = next((rule for rule in self.rules if rule.spec.traffic_policy), None)
        return whole.namespace if whole is not None else ""

    @property
    def subsets(self) -> Mapping[str, istio.Subset]:
        subsets: dict[str, istio.Subset] = {}
        for each in self.rules:
            for subset in each.spec.subsets:
                subsets.setdefault(subset.name, subset)
        return subsets

    @property
    def policies(self) -> Iterator[_Settings]:
        """Everything that is said in them, wherever it holds."""
        for rule in self.rules:
            for policy in (rule.spec.traffic_policy, *(each.traffic_policy for each in rule.spec.subsets)):
                if policy is not None:
                    yield policy
                    yield from policy.port_level_settings

    @property
    def prefers(self) -> tuple[istio.LocalityLoadBalancerSetting, ...]:
        """What is asked of localities, for any part of the host."""
        return tuple(filter(None, map(locality.setting, self.policies)))

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
            return msgspec.structs.replace(
                _whole(below, policy),
                load_balancer=settings.load_balancer,
                connection_pool=settings.connection_pool,
                outlier_detection=settings.outlier_detection,
                tls=settings.tls,
            )
    return msgspec.structs.replace(
        _whole(below, policy),
        load_balancer=policy.load_balancer or below.load_balancer,
        connection_pool=policy.connection_pool or below.connection_pool,
        outlier_detection=policy.outlier_detection or below.outlier_detection,
        tls=policy.tls or below.tls,
    )


def _has_tls(policy: istio.TrafficPolicy | None) -> bool:
    if policy is None:
        return False
    return policy.tls is not None or any(port.tls for port in policy.port_level_settings)


def _whole(below: istio.TrafficPolicy, policy: istio.TrafficPolicy) -> istio.TrafficPolicy:
    """What no port can say otherwise."""
    return istio.TrafficPolicy(
        proxy_protocol=policy.proxy_protocol or below.proxy_protocol,
        retry_budget=policy.retry_budget or below.retry_budget,
        tunnel=policy.tunnel or below.tunnel,
    )


def _selector(rule: DestinationRule) -> Mapping[str, str]:
    """The labels of the pods for which it holds; none where it holds for all."""
    return rule.spec.workload_selector.match_labels if rule.spec.workload_selector is not None else {}


def _namespace(caller: str) -> str:
    return callers.parse(caller).namespace


_NO_POLICY = Policy()
_NO_NAMESPACES = frozenset({".", "*", "~"})
"""What `exportTo` may hold besides names of namespaces."""
_BY_CLIENT = istio.LoadBalancerSettings(consistent_hash=istio.ConsistentHashLB(use_source_ip=True))


@dataclass(slots=True)
class Registry:
    """Services by full name and what belongs to them."""

    cluster_domain: str
    services: dict[str, Service] = field(default_factory=dict)
    own: dict[str, dict[str, Service]] = field(default_factory=dict)
    """By namespace, services for its calls alone; they come before those of everybody."""
    slices: dict[Key, list[Slice]] = field(default_factory=dict)
    """Views of EndpointSlices by service."""
    labels: dict[Key, Mapping[str, str]] = field(default_factory=dict)
    """Of pods."""
    workloads: dict[Key, str] = field(default_factory=dict)
    """Of pods, as statistics have them (`contracts.telemetry.Workload`)."""
    roots: frozenset[str] = frozenset({reach.ISTIO_SYSTEM})
    """Namespaces whose rules hold for every host and caller."""
    calls_out: bool = False
    """Whether a part of the platform calls services: one with `proxy.CALLS_OUT` is there."""
    nodes: Mapping[str, locality.Locality] = field(default_factory=dict)
    """Where each node is, by its name."""
    filters: Any = None
    """The EnvoyFilters (`filters.Filters`), of which some choose callers by their labels."""
    places: tuple[str, ...] = ()
    """Where callers are, as far as rules ask; see `locality`."""
    _rules: dict[str, list[DestinationRule]] = field(default_factory=dict)
    """By full name or wildcard as written, the oldest first."""
    _selecting: dict[str, list[DestinationRule]] = field(default_factory=dict)
    """The same of those that choose the pods of their namespace for which they hold."""
    _compared: frozenset[str] | None = None
    """Labels of callers that rules compare; None where none asks where callers are."""
    _has_wildcards: bool = False
    _in_force: dict[tuple[str, str], Policy] = field(default_factory=dict)
    _scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _apart: set[str] = field(default_factory=set)
    """Namespaces that may be governed otherwise than anybody somewhere: few, and a bound for the search."""

    def qualified(self, host: str, namespace: str) -> str:
        return hosts.qualified(host, namespace, self.cluster_domain, self.services)

    def service(self, host: str, caller: str = reach.ANYBODY) -> Service | None:
        """What a full name is to callers of a namespace."""
        own = self._own_of(caller)
        return (own.get(host) if own else None) or self.services.get(host)

    def _own_of(self, caller: str) -> Mapping[str, Service]:
        return self.own.get(callers.parse(caller).namespace, {}) if self.own else {}

    def visible(self, caller: str = reach.ANYBODY) -> Iterator[Service]:
        """All services that callers of a namespace may have, those of Kubernetes first."""
        own = self._own_of(caller)
        yield from (service for host, service in self.services.items() if host not in own)
        yield from own.values()

    def everything(self) -> Iterator[Service]:
        """The services of everybody, and those of single namespaces."""
        yield from self.services.values()
        for own in self.own.values():
            yield from own.values()

    def by_host(self) -> dict[str, tuple[int, ...]]:
        """Which services stand under each name: as long as these are alive, equal for the same ones."""
        ids: dict[str, tuple[int, ...]] = {host: (id(service),) for host, service in self.services.items()}
        for own in self.own.values():
            for host, service in own.items():
                ids[host] = (*ids.get(host, ()), id(service))
        return ids

    def add(self, service: Service) -> None:
        """Beside those that are there; it begins to tell callers apart if it is not for everybody."""
        if service.scope:
            self.own.setdefault(service.scope, {})[service.host] = service
            self._apart.add(service.scope)
        else:
            self.services[service.host] = service

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

    def _origins(self) -> tuple[Any, ...]:
        listed = (self._rules, self._selecting)
        named = [{name: [rule.origin for rule in rules] for name, rules in each.items()} for each in listed]
        own = {namespace: frozenset(hosts_) for namespace, hosts_ in self.own.items()}
        return (*named, self.places, own)

    def policy(self, host: str, caller: str = reach.ANYBODY) -> Policy:
        """What governs calls to `host` from the namespace `caller`."""
        policy = self._in_force.get((host, caller))
        if policy is None:
            policy = self._in_force[host, caller] = self._find_policy(host, caller)
        return policy

    def _find_policy(self, host: str, caller: str) -> Policy:
        """The rules of the strongest level, of these the ones that name the host most closely.

        A rule that chooses its callers is all that they hear.
        """
        who = callers.parse(caller)
        if (chosen := self._chosen(host, who)) is not None:
            return Policy((chosen,))
        caller = who.namespace
        ranked: dict[tuple[int, int], list[DestinationRule]] = {}
        of: reach.Host | None = None
        for closeness, pattern in enumerate(hosts.patterns(host, wildcards=self._has_wildcards)):
            for rule in self._rules.get(pattern, ()):
                of = of or self.host(host)
                level = reach.level(rule.namespace, caller, of, self.roots)
                if rule.spec.workload_selector is not None and level is not reach.Level.CALLER:
                    continue
                if level is not None and reach.exported(rule.spec.export_to, rule.namespace, caller):
                    ranked.setdefault((level, closeness), []).append(rule)
        return Policy(tuple(ranked[min(ranked)])) if ranked else _NO_POLICY

    def _chosen(self, host: str, who: callers.Who) -> DestinationRule | None:
        """The rule for the host that chooses the caller by its labels; of several the closest, the oldest."""
        if not who.groups:
            return None
        chosen = (
            rule
            for pattern in hosts.patterns(host, wildcards=self._has_wildcards)
            for rule in self._selecting.get(pattern, ())
            if rule.namespace == who.namespace and rule.origin.name in who.groups
        )
        return next(chosen, None)

    @property
    def asks_for_places(self) -> bool:
        """Whether a rule asks where callers are."""
        return self._compared is not None

    @property
    def _is_plain(self) -> bool:
        """Whether nobody calls anything otherwise than anybody."""
        return not (self._apart or self._selecting or self.places)

    def scopes(self, host: str) -> tuple[str, ...]:
        """The callers whose calls to `host` are governed otherwise than anybody's."""
        if self._is_plain:
            return ()
        scopes = self._scopes.get(host)
        if scopes is None:
            scopes = self._scopes[host] = tuple(self._find_scopes(host))
        return scopes

    def callers_of(self, service: Service) -> tuple[str, ...]:
        """As whom a service is called: anybody or the namespace that it is for, and who is told apart."""
        scopes = (service.scope, *self.scopes(service.host))
        if service.scope:
            return tuple(dict.fromkeys(each for each in scopes if _namespace(each) == service.scope))
        own = {namespace for namespace, hosts_ in self.own.items() if service.host in hosts_}
        return tuple(each for each in scopes if _namespace(each) not in own)

    def _find_scopes(self, host: str) -> Iterator[str]:
        patterns = tuple(hosts.patterns(host, wildcards=self._has_wildcards))
        concerned = {
            name
            for pattern in patterns
            for rule in self._rules.get(pattern, ())
            for name in (rule.namespace, *rule.spec.export_to)
        } & self._apart
        anybody = self.policy(host).origins
        bases = [name for name in sorted(concerned) if self.policy(host, name).origins != anybody]
        bases += [
            callers.text(rule.namespace, (rule.origin.name,))
            for pattern in patterns
            for rule in self._selecting.get(pattern, ())
        ]
        bases += [name for name, own in self.own.items() if host in own and name not in bases]
        yield from bases
        for base in (reach.ANYBODY, *bases) if self.places else ():
            if self.policy(host, base).prefers:
                yield from (callers.at(base, place) for place in self.places)

    def scope(self, host: str, caller: str) -> str:
        """As whom `caller` calls `host`: itself, as far as it is governed otherwise than anybody."""
        if self._is_plain:
            return reach.ANYBODY
        who = callers.parse(caller)
        base = reach.ANYBODY
        if (chosen := self._chosen(host, who)) is not None:
            base = callers.text(who.namespace, (chosen.origin.name,))
        elif host in self.own.get(who.namespace, ()) or (
            who.namespace in self._apart and who.namespace in self.scopes(host)
        ):
            base = who.namespace
        return callers.at(base, who.place) if who.place and self.policy(host, base).prefers else base

    def seen_as(self, host: str, caller: str, namespace: str) -> str:
        """As whom a rule of `namespace` calls a host for `caller`: at the ingress, its own as itself."""
        is_own = caller == reach.ANYBODY and host not in self.services and host in self.own.get(namespace, ())
        return namespace if is_own else caller

    def caller(self, caller: str) -> str:
        """As whom one calls: itself if some rule may tell it apart, else anybody."""
        who = callers.parse(caller)
        rules = [group for group in who.groups if not group.startswith(callers.FILTER)]
        is_apart = who.namespace in self._apart or rules
        return callers.text(who.namespace if is_apart else reach.ANYBODY, rules, who.place)

    def caller_of(self, client: Client) -> str:
        """As whom a pod calls."""
        namespace = client.key.namespace
        chosen = {
            rule.origin.name
            for rules in self._selecting.values()
            for rule in rules
            if rule.namespace == namespace and _selector(rule).items() <= client.labels.items()
        }
        if self.filters is not None:
            chosen.update(self.filters.groups(namespace, client.labels))
        return callers.text(namespace, sorted(chosen), self.place_of(client))

    def place_of(self, client: Client) -> str:
        """Where a pod is, as far as rules ask."""
        if self._compared is None:
            return ""
        labels = {name: client.labels[name] for name in self._compared if name in client.labels}
        if locality.HOSTNAME in self._compared:
            labels[locality.HOSTNAME] = client.node
        of_node = self.nodes.get(client.node, locality.NOWHERE)
        return locality.place(locality.of_pod(client.labels, of_node), labels)

    def place_of_endpoint(self, endpoint: Endpoint) -> locality.Place:
        """Where an endpoint is: by its pod's label, its node, or its own word."""
        labels = endpoint.labels_among(self.labels)
        of_node = self.nodes.get(endpoint.node, locality.NOWHERE)
        if not any(of_node):
            of_node = locality.parse(endpoint.locality)
        return locality.Place(locality.of_pod(labels, of_node), {**labels, locality.HOSTNAME: endpoint.node})

    def by_place(self, part: tuple[str, str, int, str], chosen: Iterable[Endpoint]) -> list[locality.Group]:
        """Endpoints in the order of a caller's preference: all alike, where rules do not ask where it is.

        `part`: their host, subset and port, and as whom they are called.
        """
        place = callers.parse(part[3]).place
        asked = locality.setting(self.traffic(*part)) if place else None
        if asked is None:
            return locality.as_written(chosen)
        members = [(endpoint, self.place_of_endpoint(endpoint)) for endpoint in chosen]
        return locality.groups(members, asked, locality.place_of(place))

    def subset(self, host: str, caller: str, name: str) -> istio.Subset | None:
        """A subset of the host that some pods of the namespace `caller` know."""
        subset = self.policy(host, caller).subsets.get(name)
        if subset is not None or not self._selecting:
            return subset
        subsets = (
            each
            for pattern in hosts.patterns(host, wildcards=self._has_wildcards)
            for rule in self._selecting.get(pattern, ())
            if rule.namespace == caller
            for each in rule.spec.subsets
        )
        return next((each for each in subsets if each.name == name), None)

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

    def endpoints_of(self, service: Service) -> Iterator[Endpoint]:
        """All that stand behind a service, whatever their port."""
        yield from (endpoint for view in self.slices.get(service.key, ()) for _, endpoint in view)
        yield from (endpoint for _, endpoint in service.targets)

    def add_policies(self, rules: Sequence[DestinationRule]) -> None:
        """Group rules by the host they name, the oldest first."""
        for each in sorted(rules, key=lambda rule: rule.age):
            host = self.qualified(each.spec.host, each.namespace)
            self._has_wildcards |= host.startswith("*")
            if prefers := Policy((each,)).prefers:
                self._compared = (self._compared or frozenset()) | locality.compared(prefers)
            if _selector(each):
                self._selecting.setdefault(host, []).append(each)
                continue
            self._rules.setdefault(host, []).append(each)
            if (
                each.spec.workload_selector
                or each.spec.export_to
                or reach.owner(host, self.cluster_domain) != each.namespace
            ):
                self._apart |= {each.namespace, *each.spec.export_to} - _NO_NAMESPACES
