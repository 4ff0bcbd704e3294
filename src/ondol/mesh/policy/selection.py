"""Which objects of the security kinds are for which workload. Pure, and made anew with each change of them.

An object is for all workloads of its namespace; or, with a selector, for those that have its labels; or for
those behind what its `targetRefs` name. In a root namespace it is for those of all namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.mesh.model import mesh_options, security
from ondol.mesh.model.mesh_options import MeshOptions
from ondol.mesh.policy.peers import Layers, PeerAuthentication
from ondol.mesh.policy.workload import WorkloadPolicy
from ondol.mesh.translate.registry import Rule

AUTHORIZATION: Final = "AuthorizationPolicy"
REQUEST: Final = "RequestAuthentication"
PEER: Final = "PeerAuthentication"
TELEMETRY: Final = "Telemetry"
KINDS: Final = (AUTHORIZATION, REQUEST, PEER)
"""Those that ask something of calls that arrive."""
GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"
"""Label of a pod that is a Gateway's."""
_GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
_EVERY_CLASS: Final = "istio-waypoint"
"""The class of Gateways that stand before workloads, as every pod's own listener does here."""
_CORE: Final = ("", "core")


@dataclass(frozen=True, slots=True)
class Workload:
    """What objects select by."""

    namespace: str
    labels: Mapping[str, str]
    services: AbstractSet[str] = frozenset()
    """Names of the Services of its namespace that select it."""
    gateways: AbstractSet[str] = frozenset()
    """Names of the Gateways (of the Gateway API) of its namespace that it serves."""

    @staticmethod
    def of(namespace: str, labels: Mapping[str, str], services: AbstractSet[str] = frozenset()) -> Workload:
        """A pod of these labels, with all that they say."""
        gateway = labels.get(GATEWAY_NAME)
        return Workload(namespace, labels, services, frozenset({gateway} if gateway else ()))


class Workloads:
    """The pods of a world as `Workload`s."""

    def __init__(self, pods: Iterable[Object], services: Iterable[Object], *, names_services: bool) -> None:
        """Services are looked for only where they are named by some object: it takes a look at each pod."""
        self._selectors: dict[str, list[tuple[str, Mapping[str, str]]]] = {}
        for service in services if names_services else ():
            if selector := objects.spec(service).get("selector"):
                own = self._selectors.setdefault(objects.namespace(service), [])
                own.append((objects.name(service), selector))
        self._of: dict[str, dict[Key, Workload]] = {}
        for pod in pods:
            key, labels = objects.key(pod), objects.labels(pod)
            self._of.setdefault(key.namespace, {})[key] = self.workload(key.namespace, labels)

    def workload(self, namespace: str, labels: Mapping[str, str]) -> Workload:
        """A pod of these labels, ready or not."""
        selectors = self._selectors.get(namespace, ())
        services = frozenset(name for name, selector in selectors if selector.items() <= labels.items())
        return Workload.of(namespace, labels, services)

    def of(self, pod: Key) -> Workload:
        """`KeyError` for a pod that is not there."""
        return self._of[pod.namespace][pod]

    def selected(self, rule: Rule[Any], roots: AbstractSet[str]) -> Iterator[Key]:
        """The pods an object is for."""
        for namespace in self._of if rule.namespace in roots else (rule.namespace,):
            for key, workload in self._of.get(namespace, {}).items():
                if selects(rule.spec, rule.namespace, workload, roots):
                    yield key


def names_services(rules: Mapping[str, Sequence[Rule[Any]]]) -> bool:
    """Whether an object is for what stands behind a Service."""
    kinds = (AUTHORIZATION, REQUEST, TELEMETRY)
    return any(rule.spec.targets for kind in kinds for rule in rules.get(kind, ()))


@dataclass(slots=True)
class Policies:
    """The objects of one world, asked by workload; equal selections are one object."""

    rules: Mapping[str, Sequence[Rule[Any]]]
    """By kind: those of other kinds may be in it."""
    roots: AbstractSet[str]
    """Namespaces whose objects are for every namespace's workloads."""
    options: MeshOptions = mesh_options.DEFAULTS
    _by_namespace: dict[tuple[str, str], list[Rule[Any]]] = field(default_factory=dict)
    _policies: dict[tuple[Rule[Any], ...], WorkloadPolicy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in (AUTHORIZATION, REQUEST, PEER):
            for rule in sorted(self.rules.get(kind, ()), key=lambda rule: rule.age):
                self._by_namespace.setdefault((kind, rule.namespace), []).append(rule)

    @property
    def is_empty(self) -> bool:
        """Whether there are no such objects at all."""
        return not self._by_namespace

    def of(self, workload: Workload) -> WorkloadPolicy:
        """All that is asked of calls that arrive at a workload."""
        authorizations = tuple(self._selected(AUTHORIZATION, workload))
        tokens = tuple(self._selected(REQUEST, workload))
        peers = self._peers(workload)
        selected = (*authorizations, *tokens, *peers.rules)
        policy = self._policies.get(selected)
        if policy is None:
            policy = self._policies[selected] = WorkloadPolicy(authorizations, tokens, peers, self.options)
        return policy

    def _selected(self, kind: str, workload: Workload) -> Iterator[Rule[Any]]:
        for rule in self._heard(kind, workload.namespace):
            if selects(rule.spec, rule.namespace, workload, self.roots):
                yield rule

    def _heard(self, kind: str, namespace: str) -> Iterator[Rule[Any]]:
        """The objects of a kind that may be for a namespace's workloads: the roots', then its own."""
        for place in (*sorted(self.roots - {namespace}), namespace):
            yield from self._by_namespace.get((kind, place), ())

    def _peers(self, workload: Workload) -> Layers:
        root = self._first(rule for place in sorted(self.roots) for rule in self._plain(place))
        if workload.namespace in self.roots:
            return Layers(root)
        own = self._by_namespace.get((PEER, workload.namespace), ())
        selecting = (
            rule for rule in own if rule.spec.labels and rule.spec.labels.items() <= workload.labels.items()
        )
        return Layers(root, self._first(self._plain(workload.namespace)), self._first(selecting))

    def _plain(self, namespace: str) -> Iterator[PeerAuthentication]:
        yield from (rule for rule in self._by_namespace.get((PEER, namespace), ()) if not rule.spec.labels)

    @staticmethod
    def _first(rules: Iterable[PeerAuthentication]) -> PeerAuthentication | None:
        return min(rules, key=lambda rule: rule.age, default=None)


def selects(
    spec: security.Attached | security.PeerAuthenticationSpec,
    namespace: str,
    workload: Workload,
    roots: AbstractSet[str],
) -> bool:
    """Whether an object of a namespace, which may be a root, is for a workload."""
    if namespace != workload.namespace and namespace not in roots:
        return False
    if spec.targets:
        return any(_is_target(each, namespace, workload, roots) for each in spec.targets)
    return spec.selector is None or spec.selector.match_labels.items() <= workload.labels.items()


def _is_target(
    target: security.PolicyTargetReference, namespace: str, workload: Workload, roots: AbstractSet[str]
) -> bool:
    """Of a Service or a Gateway of the object's own namespace; of a class, in a root namespace."""
    if target.kind == "GatewayClass":
        return namespace in roots and target.group == _GATEWAY_GROUP and target.name == _EVERY_CLASS
    if namespace != workload.namespace:
        return False
    if target.kind == "Service" and target.group in _CORE:
        return target.name in workload.services
    return target.kind == "Gateway" and target.group == _GATEWAY_GROUP and target.name in workload.gateways
