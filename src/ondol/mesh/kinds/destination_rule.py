"""DestinationRule: how calls to one service are made. Its definition and its findings.

Its validation is in `model.validation`, its translation in `translate.registry` and `translate.clusters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ondol.contracts import mesh
from ondol.mesh import descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import NO_TUNNEL, NOT_OWN, not_own, selects, under
from ondol.mesh.kinds.kind import Column, Finding, Kind
from ondol.mesh.model import istio, traffic_policy
from ondol.mesh.model.kube import Protocol
from ondol.mesh.translate import hosts, origination, reach
from ondol.mesh.translate.registry import DestinationRule, Registry
from ondol.mesh.translate.world import World


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    registry = dependencies.translation.registry
    for rule in dependencies.world.destination_rules:
        host = registry.qualified(rule.spec.host, rule.namespace)
        matched = _matched(host, rule.namespace, registry)
        if not matched:
            text = f"no service matches host {rule.spec.host}"
            yield from under(rule.origin, text, "KIA0202", "IST0174")
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
        yield from _without_effect(rule, matched, registry)
        yield from _credentials(rule, dependencies.world)


def _matched(host: str, namespace: str, registry: Registry) -> list[str]:
    if "*" not in host:
        return [host] if registry.service(host, namespace) is not None else []
    return [service.host for service in registry.visible(namespace) if hosts.covers(host, service.host)]


def _subsets(rule: DestinationRule, matched: Iterable[str], registry: Registry) -> Iterator[Finding]:
    """Only services with endpoints can be judged: one at zero has no labels to look at."""
    if not rule.spec.subsets:
        return
    services = (service for name in matched if (service := registry.service(name, rule.namespace)))
    has_endpoints = any(any(registry.endpoints_of(service)) for service in services)
    for subset in rule.spec.subsets if has_endpoints else ():
        if not selects(subset, matched, registry, rule.namespace):
            text = f"subset {subset.name}: no pod of {rule.spec.host} has its labels"
            yield from under(rule.origin, text, "KIA0203", "IST0173")


def _without_effect(rule: DestinationRule, matched: Iterable[str], registry: Registry) -> Iterator[Finding]:
    """Callers that there are not, and a tunnel where nothing is carried as bytes."""
    labels = rule.spec.workload_selector.match_labels if rule.spec.workload_selector is not None else {}
    own = (of for pod, of in registry.labels.items() if pod.namespace == rule.namespace)
    if labels and not any(labels.items() <= of.items() for of in own):
        text = f"workloadSelector: no pod of namespace {rule.namespace} has its labels"
        yield Finding(rule.origin, "KIA0004", text)
    policies = (rule.spec.traffic_policy, *(subset.traffic_policy for subset in rule.spec.subsets))
    if any(policy is not None and policy.tunnel is not None for policy in policies):
        services = (registry.service(name, rule.namespace) for name in matched)
        ports = [port for service in services if service is not None for port in service.ports]
        if all(port.protocol in (Protocol.HTTP, Protocol.HTTP2) for port in ports):
            text = f"tunnel: every port of {rule.spec.host} is declared HTTP, and only bytes are tunnelled"
            yield Finding(rule.origin, NO_TUNNEL, text)


def _credentials(rule: DestinationRule, world: World) -> Iterator[Finding]:
    for name, problem in dict.fromkeys(origination.problems(rule, world.credentials)):
        yield Finding(rule.origin, problem.code, f"credentialName {name}: {problem.message}")


def _alone(rule: DestinationRule) -> Iterator[Finding]:
    """Servers whose certificates nobody looks at; here only who says so has that."""
    policy = rule.spec.traffic_policy
    if policy is None:
        return
    who = f"any server is taken for {rule.spec.host}, by tls.insecureSkipVerify"
    if policy.tls is not None and policy.tls.insecure_skip_verify:
        yield Finding(rule.origin, "IST0128", who)
    for each in policy.port_level_settings:
        if each.tls is not None and each.tls.insecure_skip_verify:
            yield Finding(rule.origin, "IST0129", f"port {each.port.number}: {who}")


KIND: Final = Kind(
    resource=mesh.DESTINATION_RULE,
    short_name="dr",
    description="How calls to one service are made: its subsets, load balancing, limits and TLS.",
    spec=istio.DestinationRuleSpec,
    fields=descriptions.FIELDS,
    columns=(Column("Host", ".spec.host"),),
    validate=traffic_policy.destination_rule,
    alone=_alone,
    survey=_survey,
)
