"""What one change may concern, by the names that rules mention.

What is made of a host for callers between pods depends on its service, on the rules that name it and on what
stands under the names those mention; nothing else is looked up on the way, but for the Gateways and
DestinationRules, which may be of wildcards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ondol.mesh.model import istio
from ondol.mesh.translate import hosts
from ondol.mesh.translate.registry import Registry, Rule, VirtualService
from ondol.mesh.xds.types import Origin


@dataclass(frozen=True, slots=True)
class Concerned:
    """What must be made anew; all else is as it was."""

    hosts: frozenset[str]
    rules: frozenset[Origin]


Named = tuple[Rule[Any], tuple[str, ...]]
"""A rule and its `names`."""


def destinations(spec: istio.VirtualServiceSpec) -> Iterable[istio.Destination]:
    """Everything a rule refers to."""
    for route in spec.http:
        yield from (each.destination for each in route.route)
        yield from (each.destination for each in route.mirrors)
        if route.mirror is not None:
            yield route.mirror
    for carried in (*(each.route for each in spec.tcp), *(each.route for each in spec.tls)):
        yield from (each.destination for each in carried)


def names(rule: VirtualService, cluster_domain: str) -> tuple[str, ...]:
    """Every full name by which anything may be looked up for the rule."""
    mentioned = dict.fromkeys([*rule.spec.hosts, *(each.host for each in destinations(rule.spec))])
    full = (hosts.completions(host, rule.namespace, cluster_domain) for host in mentioned)
    return tuple(dict.fromkeys(name for completed in full for name in completed))


def concerned(
    registries: tuple[Registry, Registry],
    rules: tuple[Sequence[Named], Sequence[Named]],
) -> Concerned | None:
    """Whom a change of services and rules, before and after, concerns; None for everybody.

    A service that changed concerns its own host and the rules that mention it; a rule, all its names.
    """
    before, after = (each.by_host() for each in registries)
    changed = {host for host in before.keys() | after.keys() if before.get(host) != after.get(host)}
    stayed = {rule.identity for rule, _ in rules[0]} & {rule.identity for rule, _ in rules[1]}
    touched = [
        (rule, mentioned)
        for rule, mentioned in (*rules[0], *rules[1])
        if rule.identity not in stayed or not changed.isdisjoint(mentioned)
    ]
    reached = changed.union(*(mentioned for _, mentioned in touched))
    if any(host.startswith("*") for host in reached):
        return None
    return Concerned(frozenset(reached), frozenset(rule.origin for rule, _ in touched))
