"""What is legal but cannot be meant: hosts and subsets that do not exist, rules that never win.

Pure. Each finding carries the code by which users of Kiali or Istio know it. Findings are
warnings: the configuration is served all the same, except that a version whose destinations are
`missing` waits while an earlier one can serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ondol.mesh.model import istio
from ondol.mesh.translate import hosts, matches, tables
from ondol.mesh.translate.registry import DestinationRule, Registry, VirtualService
from ondol.mesh.translate.translator import INGRESS_SELECTOR, Translation, World
from ondol.mesh.xds.types import Origin


class Finding(NamedTuple):
    origin: Origin
    code: str
    message: str


def findings(world: World, translation: Translation) -> list[Finding]:
    """Everything that is odd about the Istio objects of this world."""
    registry = translation.registry
    return [
        *_virtual_services(world, registry),
        *_destination_rules(world, registry),
        *_gateways(world),
    ]


def missing(rules: Iterable[VirtualService], registry: Registry) -> list[Finding]:
    """The destinations that rules name and that do not exist."""
    return [
        finding
        for rule in rules
        for destination in dict.fromkeys(tables.destinations(rule.spec))
        for finding in _destination(rule, destination, registry)
    ]


def _virtual_services(world: World, registry: Registry) -> Iterator[Finding]:
    winners = tables.by_host(registry, world.virtual_services)
    gateways = {f"{gateway.namespace}/{gateway.origin.name}" for gateway in world.gateways}
    for rule in world.virtual_services:
        for name in sorted(matches.gateway_names(rule.spec.gateways, rule.namespace) - {matches.MESH}):
            if name not in gateways:
                yield Finding(rule.origin, "KIA1102", f"gateway {name} does not exist")
        yield from _losing(rule, winners, registry)
        yield from _without_port(rule, registry)
        yield from _unreachable(rule)
    yield from missing(world.virtual_services, registry)


def _losing(
    rule: VirtualService, winners: dict[str, VirtualService], registry: Registry
) -> Iterator[Finding]:
    if matches.MESH not in matches.gateway_names(rule.spec.gateways, rule.namespace):
        return
    for host in rule.spec.hosts:
        winner = winners[registry.qualified(host, rule.namespace)]
        if winner.origin != rule.origin:
            other = f"{winner.namespace}/{winner.origin.name}"
            yield Finding(
                rule.origin,
                "KIA1106",
                f"host {host} already has the VirtualService {other}, which is older and wins",
            )


def _unreachable(rule: VirtualService) -> Iterator[Finding]:
    """Routes are tried in order: after one without a match none is."""
    for index, route in enumerate(rule.spec.http[:-1]):
        if not route.match:
            yield Finding(
                rule.origin,
                "IST0130",
                f"spec.http[{index}] takes every request: no route after it is reached",
            )
            return


def _without_port(rule: VirtualService, registry: Registry) -> Iterator[Finding]:
    """A call at a gateway does not say which port of the service it is for, as one between pods does."""
    if matches.gateway_names(rule.spec.gateways, rule.namespace) == {matches.MESH}:
        return
    for destination in dict.fromkeys(tables.destinations(rule.spec)):
        service = registry.services.get(registry.qualified(destination.host, rule.namespace))
        if (
            service is not None
            and len(service.ports) > 1
            and not (destination.port and destination.port.number)
        ):
            yield Finding(
                rule.origin,
                "IST0112",
                f"destination {destination.host} has several ports: at a gateway port.number must choose",
            )


def _destination(
    rule: VirtualService, destination: istio.Destination, registry: Registry
) -> Iterator[Finding]:
    host = registry.qualified(destination.host, rule.namespace)
    service = registry.services.get(host)
    if service is None:
        yield Finding(rule.origin, "KIA1101", f"destination {destination.host}: no service {host}")
        return
    number = destination.port.number if destination.port else 0
    if number and service.port(number) is None:
        yield Finding(rule.origin, "IST0101", f"destination {destination.host} has no port {number}")
    if destination.subset and destination.subset not in registry.policy(host).subsets:
        yield Finding(
            rule.origin,
            "KIA1107",
            f"destination {destination.host}: no DestinationRule has a subset {destination.subset}",
        )


def _destination_rules(world: World, registry: Registry) -> Iterator[Finding]:
    for rule in world.destination_rules:
        host = registry.qualified(rule.spec.host, rule.namespace)
        matched = _matched(host, registry)
        if not matched:
            yield Finding(rule.origin, "KIA0202", f"no service matches host {rule.spec.host}")
            continue
        governing = registry.policy(matched[0]).origins
        if rule.origin in governing[1:]:
            other = f"{governing[0].namespace}/{governing[0].name}"
            yield Finding(
                rule.origin, "KIA0201", f"host {rule.spec.host} already has the DestinationRule {other}"
            )
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
        wanted = subset.labels.items()
        if not any(wanted <= registry.labels.get(pod, {}).items() for pod in pods):
            yield Finding(
                rule.origin, "KIA0203", f"subset {subset.name}: no pod of {rule.spec.host} has its labels"
            )


def _gateways(world: World) -> Iterator[Finding]:
    taken: dict[tuple[int, str], Origin] = {}
    for gateway in sorted(world.gateways, key=lambda gateway: gateway.age):
        if not gateway.spec.selector.items() <= INGRESS_SELECTOR.items():
            yield Finding(
                gateway.origin,
                "KIA0302",
                f"no workload has the labels {dict(gateway.spec.selector)}; "
                f"the ingress gateway has {INGRESS_SELECTOR}",
            )
            continue
        for server in gateway.spec.servers:
            for host in server.hosts:
                other = taken.setdefault((server.port.number, host), gateway.origin)
                if other != gateway.origin:
                    yield Finding(
                        gateway.origin,
                        "KIA0301",
                        f"port {server.port.number} already has host {host} "
                        f"from Gateway {other.namespace}/{other.name}",
                    )
