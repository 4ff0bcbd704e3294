"""NetworkPolicies compiled to what the kernel is to do: `policy_table` says it in its words. Pure.

A pod that no policy of a direction selects is free in that direction. Else what any of those that select it
allows is allowed; replies are no concern of policies.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ondol.api import labels, objects, pods
from ondol.api.objects import Key
from ondol.base import addresses
from ondol.base.host_ports import HostPort

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"


class Direction(StrEnum):
    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def peers(self) -> str:
        """The field of a rule that says with whom."""
        return "from" if self is Direction.INGRESS else "to"


class NamedPort(NamedTuple):
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class Pod:
    """What policies look at of one pod that has an address of its own."""

    namespace: str
    address: str
    labels: Mapping[str, str] | None
    """None where nobody knows them any more: whatever is selected in its namespace, this may be."""
    ports: tuple[NamedPort, ...] = ()
    has_ended: bool = False
    """By what its status says: it is nobody's peer. It stays selected, for others may write statuses."""


def pod(document: Mapping[str, Any], address: str) -> Pod:
    """Of an object as the API has it."""
    spec = objects.spec(document)
    ports = [
        NamedPort(str(each["name"]), str(each.get("protocol") or "TCP"), int(each["containerPort"]))
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for each in container.get("ports") or ()
        if each.get("name")
    ]
    return Pod(
        objects.namespace(document),
        address,
        dict(objects.labels(document)),
        tuple(ports),
        has_ended=pods.is_terminal(document),
    )


class Ports(NamedTuple):
    """Destination ports of a protocol: all of them, a range, or what each pod calls so."""

    protocol: str
    first: int = 0
    last: int = 0
    name: str = ""


class Block(NamedTuple):
    """An IPv4 network without some of its parts."""

    network: str
    excepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows what is of one of the peers and to one of the ports."""

    peers: tuple[str, ...] = ()
    """Names of sets of addresses."""
    blocks: tuple[Block, ...] = ()
    is_anybody: bool = False
    ports: tuple[Ports, ...] | None = None
    """None for every port of every protocol."""
    resolver: tuple[HostPort, ...] = ()
    """What of the platform's name server this rule allows, which is no pod and nothing but these ports."""


@dataclass(frozen=True, slots=True)
class Model:
    """By address: the pods that a policy selects, and which policies."""

    rules: Mapping[Direction, Mapping[Key, tuple[Rule, ...]]]
    """Of each policy that has that direction and selects a pod."""
    selected: Mapping[Direction, Mapping[str, tuple[Key, ...]]]
    """By address; who is here and has no policies may do nothing."""
    peers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The addresses in each set."""
    named: Mapping[tuple[str, str], frozenset[tuple[str, int]]] = field(default_factory=dict)
    """By name and protocol: the addresses of pods that have a port of that name, and its number."""


def compiled(
    policies: Iterable[Mapping[str, Any]],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
    resolver: Pod | None = None,
) -> Model:
    """`namespaces` are their labels by name; `resolver` is the name server as public policies know it."""
    world = _World(pods, namespaces, resolver)
    rules: dict[Direction, dict[Key, tuple[Rule, ...]]] = {each: {} for each in Direction}
    selected: dict[Direction, dict[str, list[Key]]] = {each: {} for each in Direction}
    for policy in sorted(policies, key=objects.key):
        key, spec = objects.key(policy), objects.spec(policy)
        selector = labels.from_document(spec.get("podSelector") or {})
        here = world.by_namespace.get(key.namespace, ())
        unknown = [each.address for each in here if each.labels is None]
        chosen = [each.address for each in here if each.labels is not None and selector.matches(each.labels)]
        for direction in directions(spec):
            if chosen:
                rules[direction][key] = tuple(world.rules(direction, key.namespace, spec))
            for address in chosen:
                selected[direction].setdefault(address, []).append(key)
            for address in unknown:
                selected[direction].setdefault(address, [])
    return Model(
        rules,
        {each: {address: tuple(keys) for address, keys in selected[each].items()} for each in Direction},
        world.peers,
        world.named,
    )


def directions(spec: Mapping[str, Any]) -> list[Direction]:
    """As the API defaults them: the first always, the second if something is said of it."""
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return [each for each in Direction if each.capitalize() in types]


class _World:
    """Who is there, and the sets that rules come to need."""

    def __init__(
        self, pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]], resolver: Pod | None
    ) -> None:
        self._namespaces = namespaces
        self._resolver = resolver
        self.by_namespace: dict[str, list[Pod]] = {}
        for each in pods:
            self.by_namespace.setdefault(each.namespace, []).append(each)
        self.peers: dict[str, frozenset[str]] = {}
        self.named: dict[tuple[str, str], frozenset[tuple[str, int]]] = {}
        self._by_port: dict[tuple[str, str], set[tuple[str, int]]] = {}
        for each in (*pods, *([resolver] if resolver else [])):
            for port in each.ports:
                self._by_port.setdefault((port.name, port.protocol), set()).add((each.address, port.number))

    def rules(self, direction: Direction, namespace: str, spec: Mapping[str, Any]) -> Iterator[Rule]:
        for rule in spec.get(direction) or ():
            ports = self._ports(rule.get("ports") or ())
            listed = rule.get(direction.peers) or ()
            blocks = [block for peer in listed if (block := _block(peer)) is not None]
            selectors = [_Selectors.of(namespace, peer) for peer in listed if peer.get("ipBlock") is None]
            resolver = self._resolver if direction is Direction.EGRESS else None
            is_resolved = resolver is not None and any(self._has(each, resolver) for each in selectors)
            yield Rule(
                peers=tuple(dict.fromkeys(self._set(each) for each in selectors)),
                blocks=tuple(dict.fromkeys(blocks)),
                is_anybody=not listed,
                ports=ports,
                resolver=tuple(self._allowed(resolver, ports)) if resolver and is_resolved else (),
            )

    def _ports(self, listed: Sequence[Mapping[str, Any]]) -> tuple[Ports, ...] | None:
        if not listed:
            return None
        ports = []
        for each in listed:
            protocol, port = str(each.get("protocol") or "TCP"), each.get("port")
            if isinstance(port, str):
                ports.append(Ports(protocol, name=port))
                self.named[port, protocol] = frozenset(self._by_port.get((port, protocol), ()))
            elif port is None:
                ports.append(Ports(protocol))
            else:
                ports.append(Ports(protocol, int(port), int(each.get("endPort") or port)))
        return tuple(dict.fromkeys(ports))

    @staticmethod
    def _allowed(resolver: Pod, ports: tuple[Ports, ...] | None) -> Iterator[HostPort]:
        for each in resolver.ports:
            if ports is None or any(_covers(one, each) for one in ports):
                yield HostPort(each.protocol, resolver.address, each.number)

    def _set(self, selectors: _Selectors) -> str:
        """The name of the set of addresses of the pods that are selected."""
        if selectors.set_name not in self.peers:
            self.peers[selectors.set_name] = frozenset(
                each.address
                for namespace in self._selected(selectors)
                for each in self.by_namespace.get(namespace, ())
                if each.labels is not None and not each.has_ended and selectors.pods.matches(each.labels)
            )
        return selectors.set_name

    def _selected(self, selectors: _Selectors) -> Iterable[str]:
        if selectors.namespaces is None:
            return (selectors.own,)
        return [name for name, own in self._namespaces.items() if selectors.namespaces.matches(own)]

    def _has(self, selectors: _Selectors, pod: Pod) -> bool:
        own = self._namespaces.get(pod.namespace, {NAMESPACE_LABEL: pod.namespace})
        if selectors.namespaces is None:
            is_there = selectors.own == pod.namespace
        else:
            is_there = selectors.namespaces.matches(own)
        return is_there and selectors.pods.matches(pod.labels or {})


def _covers(ports: Ports, port: NamedPort) -> bool:
    if ports.protocol != port.protocol:
        return False
    if ports.name:
        return ports.name == port.name
    return not ports.first or ports.first <= port.number <= ports.last


@dataclass(frozen=True, slots=True)
class _Selectors:
    """A peer that is selected: pods of a policy's own namespace, or of those selected."""

    own: str
    namespaces: labels.Selector | None
    pods: labels.Selector

    @classmethod
    def of(cls, namespace: str, peer: Mapping[str, Any]) -> _Selectors:
        elsewhere = peer.get("namespaceSelector")
        return cls(
            namespace if elsewhere is None else "",
            None if elsewhere is None else labels.from_document(elsewhere),
            labels.from_document(peer.get("podSelector") or {}),
        )

    @property
    def set_name(self) -> str:
        return f"peers-{digest(repr(self))}"


def _block(peer: Mapping[str, Any]) -> Block | None:
    """None for what is no IPv4 network: nobody here has an address in it."""
    block = peer.get("ipBlock")
    network = addresses.network(str(block.get("cidr") or "")) if block else None
    if not block or not isinstance(network, ipaddress.IPv4Network):
        return None
    parts = [addresses.network(str(text)) for text in block.get("except") or ()]
    cut = [part for part in parts if isinstance(part, ipaddress.IPv4Network)]
    return Block(str(network), tuple(map(str, ipaddress.collapse_addresses(cut))))


def digest(text: str) -> str:
    """For the names of chains and sets, which have a length."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
