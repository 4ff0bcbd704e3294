"""Which nodes a pod may run on, and which of them is best. Pure.

Each filter answers with Kubernetes' own words for why a node will not do; they are counted and shown
in the pod's condition and in its FailedScheduling event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, labels, node_selectors, objects, pods
from ondol.api.objects import Object
from ondol.base import host_ports
from ondol.base.host_ports import HostPort
from ondol.controllers.scheduler.accounts import (
    PODS,
    Accounts,
    Demand,
    Usage,
    allocatable,
    demand,
)
from ondol.controllers.scheduler.volumes import Needs

_NO_VOLUMES: Final = Needs()
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
NO_PORT: Final = "node(s) didn't have free ports for the requested pod ports"
_BLOCKING: Final = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Choice:
    """The node chosen, or none and the reason why."""

    node: str = ""
    reason: str = ""


def choose(
    pod: Object,
    nodes: Sequence[Object],
    accounts: Accounts,
    namespaces: Namespaces,
    in_use: Callable[[], Collection[HostPort]] = frozenset,
    *,
    volumes: Needs = _NO_VOLUMES,
) -> Choice:
    """The best node the pod fits on; among equals the one whose name comes first.

    `in_use` is asked for the ports of the nodes' machine that others than pods have, if the pod asks
    for any. `volumes` are what the pod needs of claims.
    """
    if not nodes:
        return Choice(reason="no nodes available to schedule pods")
    if volumes.problem:
        return Choice(reason=f"0/{len(nodes)} nodes are available: {volumes.problem}.")
    needs = demand(pod)
    fitting: list[Object] = []
    refusals: Counter[str] = Counter()
    peers = Peers(pod, nodes, accounts, namespaces)
    taken = in_use() if needs.ports else ()
    for node in nodes:
        usage = accounts.usage(objects.name(node))
        against = [*refusal(pod, needs, node, usage, taken), *peers.refusal(node), *volumes.refusal(node)]
        refusals.update(against)
        if not against:
            fitting.append(node)
    if fitting:
        best = min(fitting, key=lambda node: (-_score(pod, needs, node, accounts), objects.name(node)))
        return Choice(objects.name(best))
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in refusals.items()))
    return Choice(reason=f"0/{len(nodes)} nodes are available: {reasons}.")


def refusal(
    pod: Object, needs: Demand, node: Object, usage: Usage, in_use: Collection[HostPort] = ()
) -> list[str]:
    """Why the pod cannot run there; the first filter that refuses speaks, resources all at once."""
    if objects.spec(node).get("unschedulable") and not _tolerates_unschedulable(pod):
        return ["node(s) were unschedulable"]
    if not _selected(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if untolerated(pod, node):
        return ["node(s) had untolerated taint(s)"]
    if not conditions.is_true(node, "Ready"):
        return ["node(s) were not ready"]
    if host_ports.clash(needs.ports, (*usage.ports, *in_use)):
        return [NO_PORT]
    return _lacking(needs, node, usage)


def _lacking(needs: Demand, node: Object, usage: Usage) -> list[str]:
    room = allocatable(node)
    lacking = [
        name
        for name, amount in needs.resources.items()
        if amount and usage.resources[name] + amount > room[name] and (name != PODS or name in room)
    ]
    return ["Too many pods" if name == PODS else f"Insufficient {name}" for name in lacking]


def _score(pod: Object, needs: Demand, node: Object, accounts: Accounts) -> float:
    """Room left after the pod, preferred labels, and distance from its siblings."""
    usage, room = accounts.usage(objects.name(node)), allocatable(node)
    shares = [
        1 - (usage.resources[name] + needs.resources.get(name, 0)) / room[name]
        for name in ("cpu", "memory")
        if room[name]
    ]
    owner = objects.controller_of(pod)
    siblings = sum(
        1 for each in usage.pods.values() if owner and objects.is_controlled_by(each, {"metadata": owner})
    )
    return sum(shares) / max(len(shares), 1) + _preference(pod, node) - siblings


def _preference(pod: Object, node: Object) -> float:
    terms = _node_affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(
        int(term.get("weight") or 0) / 100
        for term in terms
        if node_selectors.term_matches(term["preference"], node)
    )


def _node_affinity(pod: Object) -> Mapping[str, Any]:
    affinity: Mapping[str, Any] = (objects.spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    return affinity


def _selected(pod: Object, node: Object) -> bool:
    selector, node_labels = objects.spec(pod).get("nodeSelector") or {}, objects.labels(node)
    if any(node_labels.get(key) != value for key, value in selector.items()):
        return False
    required = _node_affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or node_selectors.matches(required, node)


def untolerated(
    pod: Mapping[str, Any], node: Mapping[str, Any], effects: Iterable[str] = _BLOCKING
) -> Mapping[str, Any] | None:
    """The first taint with one of these effects that the pod does not tolerate."""
    tolerations = objects.spec(pod).get("tolerations") or ()
    for taint in objects.spec(node).get("taints") or ():
        if taint.get("effect") in effects and not any(pods.tolerates(each, taint) for each in tolerations):
            untolerated: Mapping[str, Any] = taint
            return untolerated
    return None


def _tolerates_unschedulable(pod: Object) -> bool:
    taint = {"key": UNSCHEDULABLE, "effect": "NoSchedule"}
    return any(pods.tolerates(each, taint) for each in objects.spec(pod).get("tolerations") or ())


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The labels of namespaces, for affinity terms that choose namespaces by label."""

    labels: Mapping[str, Mapping[str, str]]

    def of(self, term: Mapping[str, Any], own: str) -> frozenset[str]:
        named = set(term.get("namespaces") or ())
        selector = term.get("namespaceSelector")
        if selector is not None:
            chosen = labels.from_document(selector)
            named |= {
                name for name, namespace_labels in self.labels.items() if chosen.matches(namespace_labels)
            }
        elif not named:
            named = {own}
        return frozenset(named)


class Peers:
    """Affinity to and from other pods, and their spread: looked up once a pod, asked for each node."""

    def __init__(
        self, pod: Object, nodes: Sequence[Object], accounts: Accounts, namespaces: Namespaces
    ) -> None:
        self._pod = pod
        self._namespaces = namespaces
        self._labels_of = {objects.name(node): objects.labels(node) for node in nodes}
        affinity = objects.spec(pod).get("affinity") or {}
        self._near = _required(affinity.get("podAffinity"))
        self._far = _required(affinity.get("podAntiAffinity"))
        self._spread = [
            each
            for each in objects.spec(pod).get("topologySpreadConstraints") or ()
            if (each.get("whenUnsatisfiable") or "DoNotSchedule") == "DoNotSchedule"
        ]
        self._bound = list(accounts.pods())
        self._against = [
            (term, node, other)
            for node, other in self._bound
            for term in _required((objects.spec(other).get("affinity") or {}).get("podAntiAffinity"))
        ]

    def refusal(self, node: Object) -> Iterator[str]:
        node_labels = objects.labels(node)
        if not all(self._is_near(term, node_labels) for term in self._near):
            yield "node(s) didn't match pod affinity rules"
        elif any(self._in_domain(term, node_labels, self._pod) for term in self._far):
            yield "node(s) didn't match pod anti-affinity rules"
        elif any(self._is_unwelcome(term, node_labels, where, other) for term, where, other in self._against):
            yield "node(s) didn't satisfy existing pods anti-affinity rules"
        elif not all(self._is_level(constraint, node_labels) for constraint in self._spread):
            yield "node(s) didn't match pod topology spread constraints"

    def _is_near(self, term: Mapping[str, Any], node_labels: Mapping[str, str]) -> bool:
        """A pod of that kind is in the node's domain; the first of a family may be its own company."""
        if term.get("topologyKey") not in node_labels:
            return False
        if self._in_domain(term, node_labels, self._pod):
            return True
        alone = not any(self._means(term, self._pod, other) for _, other in self._bound)
        return alone and self._means(term, self._pod, self._pod)

    def _in_domain(self, term: Mapping[str, Any], node_labels: Mapping[str, str], owner: Object) -> bool:
        domain = node_labels.get(str(term.get("topologyKey")))
        return domain is not None and any(
            self._labels_of.get(node, {}).get(str(term.get("topologyKey"))) == domain
            and self._means(term, owner, other)
            for node, other in self._bound
        )

    def _is_unwelcome(
        self, term: Mapping[str, Any], node_labels: Mapping[str, str], where: str, other: Object
    ) -> bool:
        key = str(term.get("topologyKey"))
        domain = node_labels.get(key)
        same = domain is not None and self._labels_of.get(where, {}).get(key) == domain
        return same and self._means(term, other, self._pod)

    def _means(self, term: Mapping[str, Any], owner: Object, other: Object) -> bool:
        namespaces = self._namespaces.of(term, objects.namespace(owner))
        if objects.namespace(other) not in namespaces:
            return False
        return labels.from_document(term.get("labelSelector")).matches(objects.labels(other))

    def _is_level(self, constraint: Mapping[str, Any], node_labels: Mapping[str, str]) -> bool:
        """Whether one more here keeps the difference to the emptiest domain within `maxSkew`."""
        key = str(constraint.get("topologyKey"))
        if key not in node_labels:
            return False
        selector = labels.from_document(constraint.get("labelSelector"))
        counted = Counter({labels_[key]: 0 for labels_ in self._labels_of.values() if key in labels_})
        for node, other in self._bound:
            domain = self._labels_of.get(node, {}).get(key)
            own = objects.namespace(other) == objects.namespace(self._pod)
            if domain is not None and own and selector.matches(objects.labels(other)):
                counted[domain] += 1
        one = int(selector.matches(objects.labels(self._pod)))
        return counted[node_labels[key]] + one - min(counted.values()) <= int(constraint.get("maxSkew") or 1)


def _required(affinity: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    terms: Sequence[Mapping[str, Any]] = (affinity or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or ()
    return terms
