"""Near and far: which endpoints a caller prefers, by region, zone and subzone, or by labels.

Pure. A place is text: `region/zone/subzone`, then `;label=value` for each label that a `failoverPriority`
compares. What is said of priorities and shares follows Istio's own loadbalancer (1.31).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ondol.mesh.model import istio
from ondol.mesh.model.kube import Endpoint

REGION: Final = "topology.kubernetes.io/region"
ZONE: Final = "topology.kubernetes.io/zone"
SUBZONE: Final = "topology.istio.io/subzone"
HOSTNAME: Final = "kubernetes.io/hostname"
LABEL: Final = "istio-locality"
"""Label of a pod that says where it is, in the place of what its node says; with dots for slashes."""
_TOPOLOGY: Final = (REGION, ZONE, SUBZONE)
_LEVELS: Final = 5
"""Priorities that localities alone can give: the same subzone, zone and region, another, any other."""

Locality: TypeAlias = tuple[str, str, str]
NOWHERE: Final[Locality] = ("", "", "")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a caller or an endpoint is, and its labels that are compared."""

    locality: Locality = NOWHERE
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints that are equally near."""

    locality: Locality
    priority: int
    endpoints: tuple[Endpoint, ...]
    weight: int = 0
    """Its share; 0 where shares are not by locality."""


def parse(text: str) -> Locality:
    """`region/zone/subzone`, of which the end may be missing."""
    parts = [*text.split("/"), "", "", ""]
    return (parts[0], parts[1], parts[2])


def of_node(labels: Mapping[str, str]) -> Locality:
    return (labels.get(REGION, ""), labels.get(ZONE, ""), labels.get(SUBZONE, ""))


def of_pod(labels: Mapping[str, str], of_its_node: Locality) -> Locality:
    own = labels.get(LABEL, "")
    return parse(own if "/" in own else own.replace(".", "/")) if own else of_its_node


def place(locality: Locality, labels: Mapping[str, str]) -> str:
    """As text; empty where nothing is known."""
    named = "/".join(locality) if any(locality) else ""
    return named + "".join(f";{key}={value}" for key, value in sorted(labels.items()))


def place_of(text: str) -> Place:
    """What `place` wrote."""
    named, *pairs = text.split(";")
    return Place(parse(named), dict(pair.partition("=")[::2] for pair in pairs))


def setting(
    traffic: istio.TrafficPolicy | istio.PortTrafficPolicy,
) -> istio.LocalityLoadBalancerSetting | None:
    """What is asked of localities, or None. By outlier detection alone the near are preferred."""
    chosen = traffic.load_balancer.locality_lb_setting if traffic.load_balancer is not None else None
    if chosen is not None and chosen.enabled is False:
        return None
    if chosen is not None and chosen.distribute:
        return chosen
    if traffic.outlier_detection is None:
        return None
    return chosen or istio.LocalityLoadBalancerSetting()


def compared(settings: Iterable[istio.LocalityLoadBalancerSetting]) -> frozenset[str]:
    """The labels of callers that are looked at, beside those of topology."""
    names = (name for each in settings if not each.distribute for name in each.failover_priority)
    return frozenset(name for name in names if "=" not in name and name not in _TOPOLOGY)


def groups(
    members: Iterable[tuple[Endpoint, Place]], asked: istio.LocalityLoadBalancerSetting, caller: Place
) -> list[Group]:
    """The endpoints in the order in which the caller prefers them; priorities count from 0 without gaps."""
    by_key: dict[tuple[int, Locality], list[Endpoint]] = {}
    for endpoint, where in members:
        rank = 0 if asked.distribute else _rank(where, asked, caller)
        by_key.setdefault((rank, where.locality), []).append(endpoint)
    ranks = sorted({rank for rank, _ in by_key})
    listed = [
        Group(locality, ranks.index(rank), tuple(endpoints))
        for (rank, locality), endpoints in sorted(by_key.items(), key=lambda item: item[0])
    ]
    return _shared(listed, asked.distribute, caller.locality) if asked.distribute else listed


def as_written(endpoints: Iterable[Endpoint]) -> list[Group]:
    """All equally near, with what was written of where those are that are no pods."""
    by_locality: dict[Locality, list[Endpoint]] = {}
    for each in endpoints:
        where = parse(each.locality) if each.labels is not None else NOWHERE
        by_locality.setdefault(where, []).append(each)
    return [Group(where, 0, tuple(those)) for where, those in sorted(by_locality.items())] or [
        Group(NOWHERE, 0, ())
    ]


def _rank(where: Place, asked: istio.LocalityLoadBalancerSetting, caller: Place) -> int:
    rank = _by_labels(where, asked.failover_priority, caller)
    if asked.failover_priority and not asked.failover:
        return rank
    return rank * _LEVELS + _by_locality(where.locality, asked.failover, caller.locality)


def _by_labels(where: Place, priorities: Sequence[str], caller: Place) -> int:
    """How many of the labels, from the first that differs, are lost."""
    own, its = _labels(caller), _labels(where)
    for index, word in enumerate(priorities):
        name, has_value, value = word.partition("=")
        if (value if has_value else own.get(name, "")) != its.get(name, ""):
            return len(priorities) - index
    return 0


def _labels(of: Place) -> dict[str, str]:
    topology = {name: value for name, value in zip(_TOPOLOGY, of.locality, strict=True) if value}
    return {**of.labels, **topology}


def _by_locality(there: Locality, failover: Iterable[istio.Failover], here: Locality) -> int:
    if there[0] == here[0]:
        return 2 if there[1] != here[1] else int(there[2] != here[2])
    stand_in = next((each.to for each in failover if each.source == here[0]), None)
    return 3 if stand_in is None or there[0] == stand_in else 4


def covers(pattern: str, locality: Locality) -> bool:
    """Whether `region/zone/*` and the like say where it is; what a pattern does not say is any."""
    for word, name in zip(pattern.split("/"), locality, strict=False):
        if word == "*":
            return True
        if word != name:
            return False
    return True


def _shared(listed: list[Group], distribute: Iterable[istio.Distribute], here: Locality) -> list[Group]:
    """With their shares, and without those that get none; as they are where nothing is said of the caller."""
    chosen = next((each for each in distribute if covers(each.source, here)), None)
    if chosen is None:
        return [Group(g.locality, g.priority, g.endpoints, len(g.endpoints)) for g in listed]
    return list(_weighted(listed, chosen.to))


def _weighted(listed: Iterable[Group], shares: Mapping[str, int]) -> Iterator[Group]:
    left = list(listed)
    for pattern, share in sorted(shares.items(), key=lambda item: (item[0].count("*"), item[0])):
        matched = [group for group in left if covers(pattern, group.locality)]
        left = [group for group in left if group not in matched]
        total = sum(len(group.endpoints) for group in matched)
        for group in matched if share else ():
            weight = math.ceil(share * len(group.endpoints) / total)
            yield Group(group.locality, group.priority, group.endpoints, weight)
