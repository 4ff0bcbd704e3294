"""Affinity of a pod to and from other pods, and their spread: what is required. Pure.

Everything is counted once a pod, by domain (a key of the nodes' labels and its value), and looked up for each
node. Kubernetes' InterPodAffinity and PodTopologySpread, their filters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import labels, objects
from ondol.api.objects import Object
from ondol.controllers.scheduler import matching
from ondol.controllers.scheduler.accounts import Accounts
from ondol.controllers.scheduler.hosts import Fleet, Host

NO_AFFINITY: Final = "node(s) didn't match pod affinity rules"
NO_DOMAIN: Final = "node(s) didn't match pod topology spread constraints (missing required label)"
_ANTI_AFFINITY: Final = "node(s) didn't match pod anti-affinity rules"
_UNWELCOME: Final = "node(s) didn't satisfy existing pods anti-affinity rules"
_UNEVEN: Final = "node(s) didn't match pod topology spread constraints"
Placed = tuple[str, Object]
"""A pod and the node it is bound to."""


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


class Relation:
    """Which pods a term of `owner` is about, and in which kind of domain."""

    def __init__(self, term: Mapping[str, Any], owner: Object, namespaces: Namespaces) -> None:
        self.key = str(term.get("topologyKey"))
        self._namespaces = namespaces.of(term, objects.namespace(owner))
        self._selector = labels.from_document(term.get("labelSelector"))

    def means(self, pod: Object) -> bool:
        return objects.namespace(pod) in self._namespaces and self._selector.matches(objects.labels(pod))


class Cluster:
    """The nodes, and who is bound where, but for pods that are taken as gone."""

    def __init__(
        self,
        fleet: Fleet,
        accounts: Accounts,
        namespaces: Namespaces,
        gone: frozenset[objects.Key] = frozenset(),
    ) -> None:
        self.fleet = fleet
        self.accounts = accounts
        self.namespaces = namespaces
        self.domain = fleet.domain
        self._gone = gone

    def without(self, gone: Iterable[Object]) -> Cluster:
        keys = frozenset(objects.key(pod) for pod in gone)
        return Cluster(self.fleet, self.accounts, self.namespaces, keys)

    def bound(self) -> Iterator[Placed]:
        return (each for each in self.accounts.pods() if objects.key(each[1]) not in self._gone)

    def related(self) -> Iterator[Placed]:
        return (each for each in self.accounts.related() if objects.key(each[1]) not in self._gone)


class Peers:
    """What is required of and by other pods, for one pod."""

    def __init__(self, pod: Object, cluster: Cluster) -> None:
        self._pod = pod
        self._cluster = cluster
        affinity = objects.spec(pod).get("affinity") or {}
        self._near = self._relations(pod, affinity.get("podAffinity"))
        self._far = self._relations(pod, affinity.get("podAntiAffinity"))
        self._spread = [_Spread(each, pod, cluster) for each in constraints(pod, "DoNotSchedule")]
        self._populated = self._domains(*self._near, *self._far)
        self._unwelcome = self._unwelcoming()

    @property
    def matter(self) -> bool:
        """Whether any node could be refused for them."""
        return bool(self._near or self._far or self._spread or self._unwelcome)

    def _relations(self, owner: Object, affinity: Mapping[str, Any] | None) -> list[Relation]:
        return [Relation(term, owner, self._cluster.namespaces) for term in required(affinity)]

    def _domains(self, *relations: Relation) -> list[frozenset[str]]:
        """For each relation the domains that have a pod it is about."""
        populated: list[set[str]] = [set() for _ in relations]
        if relations:
            for node, other in self._cluster.bound():
                for domains, relation in zip(populated, relations, strict=True):
                    domain = self._cluster.domain(node, relation.key)
                    if domain is not None and domain not in domains and relation.means(other):
                        domains.add(domain)
        return [frozenset(domains) for domains in populated]

    def _unwelcoming(self) -> frozenset[tuple[str, str]]:
        """The domains with a pod that must not have this one near."""
        domains: set[tuple[str, str]] = set()
        for node, other in self._cluster.related():
            anti = (objects.spec(other).get("affinity") or {}).get("podAntiAffinity")
            for relation in self._relations(other, anti):
                domain = self._cluster.domain(node, relation.key)
                if domain is not None and relation.means(self._pod):
                    domains.add((relation.key, domain))
        return frozenset(domains)

    def refusal(self, host: Host) -> Iterator[str]:
        """Why the pod cannot be there, if so."""
        near, far = self._populated[: len(self._near)], self._populated[len(self._near) :]
        if not self._is_near(host, near):
            yield NO_AFFINITY
        elif any(
            host.labels.get(relation.key) in domains for relation, domains in zip(self._far, far, strict=True)
        ):
            yield _ANTI_AFFINITY
        elif any(host.labels.get(key) == domain for key, domain in self._unwelcome):
            yield _UNWELCOME
        else:
            yield from self._unlevel(host)

    def _is_near(self, host: Host, populated: Sequence[frozenset[str]]) -> bool:
        """A pod of each kind is in the node's domain; the first of a family may be its own company."""
        if any(relation.key not in host.labels for relation in self._near):
            return False
        if all(
            host.labels[relation.key] in domains
            for relation, domains in zip(self._near, populated, strict=True)
        ):
            return True
        return not any(populated) and all(relation.means(self._pod) for relation in self._near)

    def _unlevel(self, host: Host) -> Iterator[str]:
        for spread in self._spread:
            if spread.key not in host.labels:
                yield NO_DOMAIN
                return
            if not spread.is_level(host):
                yield _UNEVEN
                return


class _Spread:
    """One constraint: how many pods each domain has, and the fewest."""

    def __init__(self, constraint: Mapping[str, Any], pod: Object, cluster: Cluster) -> None:
        self.key = str(constraint.get("topologyKey"))
        self._skew = int(constraint.get("maxSkew") or 1)
        selector = spread_selector(constraint, pod)
        eligible = [host for host in cluster.fleet.hosts if counts(constraint, pod, host)]
        self._counted = domain_counts(self.key, selector, pod, cluster, eligible)
        fewest = min(self._counted.values(), default=0)
        self._fewest = fewest if len(self._counted) >= int(constraint.get("minDomains") or 1) else 0
        self._own = int(selector.matches(objects.labels(pod)))

    def is_level(self, host: Host) -> bool:
        """Whether one more here keeps the difference to the emptiest domain within `maxSkew`."""
        return self._counted[host.labels[self.key]] + self._own - self._fewest <= self._skew


def domain_counts(
    key: str, selector: labels.Selector, pod: Object, cluster: Cluster, eligible: Iterable[Host]
) -> Counter[str]:
    """How many pods like `pod` each domain of the eligible nodes has, zeros too."""
    names = {host.name for host in eligible if key in host.labels}
    counted: Counter[str] = Counter(
        {host.labels[key]: 0 for host in cluster.fleet.hosts if host.name in names}
    )
    namespace = objects.namespace(pod)
    for node, other in cluster.bound():
        if node not in names or objects.namespace(other) != namespace or objects.is_deleting(other):
            continue
        if selector.matches(objects.labels(other)):
            counted[str(cluster.domain(node, key))] += 1
    return counted


def spread_selector(constraint: Mapping[str, Any], pod: Object) -> labels.Selector:
    """Which pods a constraint counts: those selected that have the pod's own values of `matchLabelKeys`."""
    document = dict(constraint.get("labelSelector") or {})
    own = objects.labels(pod)
    same = {key: own[key] for key in constraint.get("matchLabelKeys") or () if key in own}
    if same:
        document["matchLabels"] = {**(document.get("matchLabels") or {}), **same}
    return labels.from_document(document if constraint.get("labelSelector") is not None or same else None)


def counts(constraint: Mapping[str, Any], pod: Object, host: Host) -> bool:
    """Whether the pods of a node are counted: by default where the pod's own node affinity lets it be."""
    if (constraint.get("nodeAffinityPolicy") or "Honor") == "Honor" and not matching.is_selected(pod, host):
        return False
    if (constraint.get("nodeTaintsPolicy") or "Ignore") == "Honor":
        return not any(
            taint.get("effect") in matching.BLOCKING and not matching.is_tolerated(pod, taint)
            for taint in host.taints
        )
    return True


def constraints(pod: Mapping[str, Any], when: str) -> list[Mapping[str, Any]]:
    """The topology spread constraints that are kept, or merely wished for (`ScheduleAnyway`)."""
    listed = objects.spec(pod).get("topologySpreadConstraints") or ()
    return [each for each in listed if (each.get("whenUnsatisfiable") or "DoNotSchedule") == when]


def required(affinity: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    terms: Sequence[Mapping[str, Any]] = (affinity or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or ()
    return terms


def preferred(affinity: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Weighted terms."""
    terms: Sequence[Mapping[str, Any]] = (affinity or {}).get(
        "preferredDuringSchedulingIgnoredDuringExecution"
    ) or ()
    return terms
