"""DestinationRule: how calls to one service are made. Its definition and its findings.

Its validation is in `model.validation`, its translation in `translate.registry` and `translate.clusters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ondol.contracts import mesh
from ondol.mesh import descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import NOT_OWN, not_own, selects
from ondol.mesh.kinds.kind import Column, Finding, Kind
from ondol.mesh.model import istio, validation
from ondol.mesh.translate import hosts, reach
from ondol.mesh.translate.registry import DestinationRule, Registry


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    registry = dependencies.translation.registry
    for rule in dependencies.world.destination_rules:
        host = registry.qualified(rule.spec.host, rule.namespace)
        matched = _matched(host, registry)
        if not matched:
            yield Finding(rule.origin, "KIA0202", f"no service matches host {rule.spec.host}")
            continue
        governing = registry.policy(matched[0], rule.namespace).origins
        if rule.origin in governing[1:]:
            other = f"{governing[0].namespace}/{governing[0].name}"
            yield Finding(
                rule.origin, "KIA0201", f"host {rule.spec.host} already has the DestinationRule {other}"
            )
        of = registry.host(host)
        if of.owner and reach.level(rule.namespace, reach.ANYBODY, of, registry.roots) is None:
            yield Finding(rule.origin, NOT_OWN, not_own(f"host {rule.spec.host}", of.owner, rule.namespace))
        yield from _subsets(rule, matched, registry)


def _matched(host: str, registry: Registry) -> list[str]:
    if "*" not in host:
        return [host] if host in registry.services else []
    return [name for name in registry.services if hosts.covers(host, name)]


def _subsets(rule: DestinationRule, matched: Iterable[str], registry: Registry) -> Iterator[Finding]:
    """Only services with pods behind them can be judged: one at zero has no labels to look at."""
    if not rule.spec.subsets:
        return
    pods = {pod for name in matched for pod in registry.pods_behind(registry.services[name].key)}
    for subset in rule.spec.subsets if pods else ():
        if not selects(subset, matched, registry):
            yield Finding(
                rule.origin, "KIA0203", f"subset {subset.name}: no pod of {rule.spec.host} has its labels"
            )


KIND: Final = Kind(
    resource=mesh.DESTINATION_RULE,
    short_name="dr",
    description="How calls to one service are made: its subsets, load balancing, limits and TLS.",
    spec=istio.DestinationRuleSpec,
    fields=descriptions.FIELDS,
    columns=(Column("Host", ".spec.host"),),
    validate=validation.destination_rule,
    survey=_survey,
)
