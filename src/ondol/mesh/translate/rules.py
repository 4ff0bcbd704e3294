"""Which VirtualService governs a host: between pods one a host and caller, at the gateway one namespace's.

Pure, over one registry. `reach` says for whom a rule holds at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ondol.mesh.model import istio
from ondol.mesh.translate import hosts, matches, reach
from ondol.mesh.translate.reach import Level
from ondol.mesh.translate.registry import Gateway, Registry, VirtualService
from ondol.mesh.translate.servers import Servers, routes_of

Speech: TypeAlias = Literal["http", "tcp", "tls"]
"""The part of a VirtualService that governs a port: what stands under that name."""
SPEECHES: Final[tuple[Speech, ...]] = ("http", "tcp", "tls")


class MeshRules:
    """The rules for calls between pods, by host and caller's namespace."""

    def __init__(self, registry: Registry, rules: Iterable[VirtualService]) -> None:
        self._registry = registry
        self.listed = tuple(rules)
        """All of them, with what was joined to each."""
        self._of: dict[str, list[VirtualService]] = {}
        concerned: set[str] = set()
        for rule in sorted(self.listed, key=lambda rule: rule.age):
            if matches.MESH in matches.gateway_names(rule.spec.gateways, rule.namespace):
                concerned.update(name for name in rule.spec.export_to if name not in ".*~")
                for host in rule.spec.hosts:
                    full = registry.qualified(host, rule.namespace)
                    self._of.setdefault(full, []).append(rule)
                    concerned.update(self._concerned(rule, full))
        self._concerned_callers = frozenset(concerned)
        self._has_wildcards = any(host.startswith("*") for host in self._of)

    def _concerned(self, rule: VirtualService, host: str) -> Iterator[str]:
        """Callers that may hear of the host's rules otherwise than anybody."""
        owner = reach.owner(host, self._registry.cluster_domain)
        if rule.spec.export_to or owner != rule.namespace:
            yield rule.namespace
            yield owner

    def named(self) -> Iterable[str]:
        """Every host that some rule names, in full."""
        return self._of

    def at(self, host: str) -> Sequence[VirtualService]:
        """The rules that name just this host, the oldest first."""
        return self._of.get(host, ())

    def caller(self, namespace: str) -> str:
        """As whom a namespace calls: itself if rules may tell it apart, else anybody."""
        return namespace if namespace in self._concerned_callers else reach.ANYBODY

    def rule(self, host: str, caller: str, of: Speech = "http") -> VirtualService | None:
        """What governs calls to `host`: by the closest name, the caller's own first, then the oldest.

        Rules that say nothing of such calls govern none of them.
        """
        for pattern in hosts.patterns(host, wildcards=self._has_wildcards):
            candidates = self._of.get(pattern)
            chosen = candidates and self._choose(candidates, self._registry.host(host), caller, of)
            if chosen:
                return chosen
        return None

    def exact(self, host: str, caller: str, of: Speech = "http") -> VirtualService | None:
        """The same of a host that no service has: only rules that name it."""
        return self._choose(self.at(host), self._registry.host(host), caller, of)

    def _choose(
        self, candidates: Iterable[VirtualService], host: reach.Host, caller: str, of: Speech
    ) -> VirtualService | None:
        first = None
        for rule in candidates:
            if not getattr(rule.spec, of):
                continue
            level = reach.level(rule.namespace, caller, host, self._registry.roots)
            if level is None or not reach.exported(rule.spec.export_to, rule.namespace, caller):
                continue
            if level is Level.CALLER:
                return rule
            first = first or rule
        return first


@dataclass(frozen=True, slots=True)
class Admission:
    """A host of a rule at a server of the ingress: whether it is served, and if not, who has the host."""

    rule: VirtualService
    gateway: Gateway
    server: istio.Server
    host: str
    holder: str = ""
    """The namespace that has the host, if the rule is not served for it."""


def admissions(registry: Registry, servers: Servers, rules: Iterable[VirtualService]) -> list[Admission]:
    """What asks to be served at one port, the oldest rule first.

    A host is held by the namespace in its name, else by that of the oldest rule for it; rules of
    other namespaces are served beside only where a Gateway of the holder's or of a root namespace
    names theirs (`hosts: [theirs/host]`).
    """
    ordered = sorted(rules, key=lambda rule: rule.age)
    return judged(registry, [each for rule in ordered for each in requested(registry, servers, rule)])


def judged(registry: Registry, listed: Sequence[Admission]) -> list[Admission]:
    """Those who ask, in order of age, with the holder where another namespace has the host.

    What was made of Routes claims for the namespace of their Gateway. A holder's has those of root
    namespaces in it, so that these are left out by themselves.
    """
    holders: dict[str, str] = {}
    for each in listed:
        if each.host not in holders:
            holders[each.host] = reach.owner(each.host, registry.cluster_domain) or each.rule.claimant
    of_routes = [each for each in listed if each.rule.is_of_gateway_api]
    joined = {(e.gateway.origin, e.host) for e in of_routes if e.rule.claimant == holders[e.host]}
    repeated = {
        id(each)
        for each in of_routes
        if each.rule.claimant in registry.roots
        and each.rule.claimant != holders[each.host]
        and (each.gateway.origin, each.host) in joined
    }
    return [_judged(each, holders[each.host], registry.roots) for each in listed if id(each) not in repeated]


def requested(registry: Registry, servers: Servers, rule: VirtualService) -> Iterator[Admission]:
    """What one rule asks for, as if it were alone."""
    names = matches.gateway_names(rule.spec.gateways, rule.namespace)
    full = (
        rule.spec.hosts
        if rule.has_plain_hosts
        else [registry.qualified(host, rule.namespace) for host in rule.spec.hosts]
    )
    for gateway, server in servers:
        if f"{gateway.namespace}/{gateway.origin.name}" not in names or not routes_of(rule, server):
            continue
        patterns = dict(admitted(gateway, server, rule.namespace))
        for host in full:
            for each in hosts.overlap(patterns, host):
                yield Admission(rule, gateway, server, each)


def _judged(admission: Admission, holder: str, roots: frozenset[str]) -> Admission:
    namespace = admission.rule.claimant
    if namespace == holder or namespace in roots:
        return admission
    speaks = admission.gateway.namespace == holder or admission.gateway.namespace in roots
    patterns = dict(admitted(admission.gateway, admission.server, namespace))
    if speaks and any(by_name and hosts.covers(p, admission.host) for p, by_name in patterns.items()):
        return admission
    return Admission(admission.rule, admission.gateway, admission.server, admission.host, holder)


def admitted(gateway: Gateway, server: istio.Server, namespace: str) -> Iterator[tuple[str, bool]]:
    """Host patterns of a server for rules of a namespace, and whether it is called by name there.

    `./host` is for the gateway's own namespace, `*/host` for all, as is `host`.
    """
    for host in server.hosts:
        scope, slash, pattern = host.rpartition("/")
        allowed = gateway.namespace if scope == "." else scope
        if not slash or allowed == "*":
            yield pattern.lower(), False
        elif allowed == namespace:
            yield pattern.lower(), True


def heard_at_ingress(rule: VirtualService, registry: Registry) -> bool:
    """Whether `exportTo` lets the ingress hear a rule: it stands in the root namespaces, as in Istio."""
    return any(reach.exported(rule.spec.export_to, rule.namespace, root) for root in registry.roots)
