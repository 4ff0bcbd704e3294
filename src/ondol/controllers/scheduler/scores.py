"""Which of the nodes that a pod fits on is best. Pure.

Each criterion gives a node 0 to 100 points, which are weighed as by kube-scheduler's default plug-ins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ondol.api import node_selectors, objects
from ondol.api.objects import Object
from ondol.controllers.scheduler import matching, peers
from ondol.controllers.scheduler.accounts import Demand
from ondol.controllers.scheduler.hosts import Host
from ondol.controllers.scheduler.peers import Cluster, Relation

_FULL: Final = 100.0
_ASSUMED: Final = {"cpu": 100, "memory": 200 * 1024 * 1024 * 1000}
"""What a pod is taken to use that does not request it, in milli-units."""
_TOLERATED: Final = ("PreferNoSchedule",)
Points = Mapping[str, float]


class _Criterion(NamedTuple):
    weight: int
    points: Callable[[_Contest], Points]


class _Contest(NamedTuple):
    pod: Object
    needs: Demand
    hosts: Sequence[Host]
    cluster: Cluster


def best(pod: Object, needs: Demand, fitting: Sequence[Host], cluster: Cluster) -> Host:
    """The node with the most points; among equals the one whose name comes first."""
    if len(fitting) == 1:
        return fitting[0]
    contest = _Contest(pod, needs, fitting, cluster)
    totals: dict[str, float] = dict.fromkeys((host.name for host in fitting), 0.0)
    for criterion in _CRITERIA:
        for name, points in criterion.points(contest).items():
            totals[name] += criterion.weight * points
    return min(fitting, key=lambda host: (-totals[host.name], host.name))


def _room(contest: _Contest) -> Points:
    """Most of it left, and processor and memory used alike (LeastAllocated, BalancedAllocation)."""
    own = _assumed(contest.needs.resources)
    points: dict[str, float] = {}
    for host in contest.hosts:
        taken = contest.cluster.accounts.usage_for(contest.pod, host.name).resources
        shares = [
            min(1.0, (taken[name] + own[name]) / host.room[name]) for name in _ASSUMED if host.room.get(name)
        ]
        if shares:
            free = _FULL * (1 - sum(shares) / len(shares))
            spread = max(shares) - min(shares)
            points[host.name] = free + _FULL * (1 - spread / 2)
    return points


def _assumed(resources: Mapping[str, int]) -> Mapping[str, int]:
    return {name: resources.get(name) or least for name, least in _ASSUMED.items()}


def _tolerance(contest: _Contest) -> Points:
    """The fewest taints that would rather have the pod elsewhere."""
    if not any(host.taints for host in contest.hosts):
        return {}
    counted = {
        host.name: sum(
            taint.get("effect") in _TOLERATED and not matching.is_tolerated(contest.pod, taint)
            for taint in host.taints
        )
        for host in contest.hosts
    }
    return _reversed(counted)


def _node_affinity(contest: _Contest) -> Points:
    """What the pod would like of its node."""
    terms = peers.preferred(matching.node_affinity(contest.pod))
    if not terms:
        return {}
    weighed = {
        host.name: sum(
            int(term.get("weight") or 0)
            for term in terms
            if node_selectors.term_matches(term["preference"], host.node)
        )
        for host in contest.hosts
    }
    most = max(weighed.values())
    return {name: _FULL * weight / most for name, weight in weighed.items()} if most else {}


def _pod_affinity(contest: _Contest) -> Points:
    """Pods it would have near or far, and those that would have it."""
    weights = Counter[tuple[str, str]]()
    own = _weighed(contest.pod, contest.cluster)
    if own:
        for node, other in contest.cluster.bound():
            for relation, weight in own:
                domain = contest.cluster.domain(node, relation.key)
                if domain is not None and relation.means(other):
                    weights[relation.key, domain] += weight
    for node, other in contest.cluster.related():
        for relation, weight in _weighed(other, contest.cluster, with_required=True):
            domain = contest.cluster.domain(node, relation.key)
            if domain is not None and relation.means(contest.pod):
                weights[relation.key, domain] += weight
    if not weights:
        return {}
    summed = {
        host.name: sum(weight for (key, domain), weight in weights.items() if host.labels.get(key) == domain)
        for host in contest.hosts
    }
    least, most = min(summed.values()), max(summed.values())
    if least == most:
        return {}
    return {name: _FULL * (weight - least) / (most - least) for name, weight in summed.items()}


def _weighed(owner: Object, cluster: Cluster, *, with_required: bool = False) -> list[tuple[Relation, int]]:
    """What a pod would like of others; what it requires to be near counts for the least, if asked."""
    affinity = objects.spec(owner).get("affinity") or {}
    listed: list[tuple[Mapping[str, Any], int]] = []
    for field, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        listed += [
            (term["podAffinityTerm"], sign * int(term.get("weight") or 0))
            for term in peers.preferred(affinity.get(field))
        ]
    if with_required:
        listed += [(term, 1) for term in peers.required(affinity.get("podAffinity"))]
    return [(Relation(term, owner, cluster.namespaces), weight) for term, weight in listed]


def _spread(contest: _Contest) -> Points:
    """Even shares: as its constraints wish, or else away from pods of the same owner."""
    wishes = peers.constraints(contest.pod, "ScheduleAnyway")
    if not wishes:
        return _apart(contest)
    costs: dict[str, float] = {}
    for wish in wishes:
        key, skew = str(wish.get("topologyKey")), int(wish.get("maxSkew") or 1)
        selector = peers.spread_selector(wish, contest.pod)
        counted = peers.domain_counts(key, selector, contest.pod, contest.cluster, contest.hosts)
        weight = math.log(len(counted) + 2)
        for host in contest.hosts:
            if key in host.labels:
                cost = counted[host.labels[key]] * weight + skew - 1
                costs[host.name] = costs.get(host.name, 0.0) + cost
    if not costs:
        return {}
    least, most = min(costs.values()), max(costs.values())
    return {name: _FULL * (most + least - cost) / most if most else _FULL for name, cost in costs.items()}


def _apart(contest: _Contest) -> Points:
    owner = objects.controller_of(contest.pod)
    if owner is None:
        return {}
    parent = {"metadata": owner}
    siblings = {
        host.name: sum(
            objects.is_controlled_by(other, parent)
            for other in contest.cluster.accounts.usage(host.name).pods.values()
        )
        for host in contest.hosts
    }
    return _reversed(siblings)


def _reversed(counted: Mapping[str, int]) -> Points:
    most = max(counted.values(), default=0)
    return {name: _FULL * (most - count) / most for name, count in counted.items()} if most else {}


_CRITERIA: Final = (
    _Criterion(1, _room),
    _Criterion(3, _tolerance),
    _Criterion(2, _node_affinity),
    _Criterion(2, _pod_affinity),
    _Criterion(2, _spread),
)
