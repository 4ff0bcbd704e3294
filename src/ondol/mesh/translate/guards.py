"""Which pods are guarded, and by what: policies select workloads, and Services say what their ports speak.

A pod is guarded from when something is asked of the calls that arrive at it, for as long as it lives. Pods
that share namespace, labels, account and ports are one workload here and share what is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from ondol.api.objects import Key, Object
from ondol.mesh.identity import spiffe
from ondol.mesh.model.kube import Client, Endpoint, Protocol, Service
from ondol.mesh.policy import Mode, Policies, Workload, WorkloadPolicy
from ondol.mesh.translate import matches, mutual, wire
from ondol.mesh.translate.arrivals import Guard

Selecting: TypeAlias = Callable[[str, Mapping[str, str]], tuple[Service, ...]]
"""The Services that select pods, by their namespace and labels."""
_REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Guarded:
    """A pod with what stands before it."""

    client: Client
    guard: Guard
    policy: WorkloadPolicy


@dataclass(frozen=True)
class Guards:
    """All guarded pods, and how they are called."""

    pods: Mapping[Key, Guarded] = field(default_factory=dict)
    coming: Mapping[Key, WorkloadPolicy] = field(default_factory=dict)
    """By Service, what pods that come when it is called will be guarded by."""

    def is_mutual(self, endpoint: Endpoint, of: Service) -> bool:
        """Whether an endpoint of a service is dialled with mutual TLS."""
        if endpoint.stands_for_pods:
            policy, port = self.coming.get(of.key), of.coming.port if of.coming is not None else 0
            return policy is not None and policy.peers.mode(port) is not Mode.DISABLE
        guarded = self.behind(endpoint)
        return guarded is not None and guarded.policy.peers.mode(endpoint.port) is not Mode.DISABLE

    def behind(self, endpoint: Endpoint) -> Guarded | None:
        """The pod that an endpoint names or, where it names none, whose address it is: if that is turned."""
        if endpoint.pod is not None:
            return self._turned.get(endpoint.pod)
        return self.by_address.get(endpoint.address)

    @cached_property
    def _turned(self) -> Mapping[Key, Guarded]:
        return {key: each for key, each in self.pods.items() if each.client.is_turned}

    @cached_property
    def by_address(self) -> Mapping[str, Guarded]:
        """Those that are turned."""
        return {each.client.address: each for each in self._turned.values() if each.client.address}

    @cached_property
    def addresses(self) -> tuple[mutual.Address, ...]:
        """How those that are turned are dialled by whoever calls their addresses."""
        listed = []
        for address, each in sorted(self.by_address.items()):
            peers = each.policy.peers
            is_mutual = peers.default is not Mode.DISABLE
            others = (
                port for port, mode in sorted(peers.ports.items()) if (mode is Mode.DISABLE) is is_mutual
            )
            namespace, asks = each.client.key.namespace, each.policy.looks_at_callers
            listed.append(mutual.Address(address, namespace, is_mutual, tuple(others), asks))
        return tuple(listed)

    def state(self, endpoints: Iterable[Endpoint], of: Key) -> tuple[tuple[Key, object], ...]:
        """What changes how these endpoints of a service are dialled."""
        if (coming := self.coming.get(of)) is not None:
            return ((of, coming.peers.key), *self._state(endpoints))
        return self._state(endpoints)

    def _state(self, endpoints: Iterable[Endpoint]) -> tuple[tuple[Key, object], ...]:
        if not self._turned:
            return ()
        behind = {each.client.key: each for each in map(self.behind, endpoints) if each is not None}
        return tuple((pod, behind[pod].policy.peers.key) for pod in sorted(behind))

    @property
    def any_mutual(self) -> bool:
        """Whether some endpoint may be dialled with mutual TLS."""
        return bool(self._turned or self.coming)


class Selector:
    """Which Services select a workload, remembered for as long as there are the same Services."""

    def __init__(self) -> None:
        self.services: tuple[Service, ...] = ()
        """The same object for as long as they are the same."""
        self._by_namespace: dict[str, list[Service]] = {}
        self._selecting: dict[tuple[str, str], tuple[Service, ...]] = {}

    def use(self, services: Iterable[Service]) -> None:
        listed = tuple(services)
        if listed == self.services:
            return
        self.services, self._by_namespace, self._selecting = listed, {}, {}
        for service in listed:
            if service.selector:
                self._by_namespace.setdefault(service.key.namespace, []).append(service)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> tuple[Service, ...]:
        """Those that select pods of these labels, in the order of their names."""
        key = (namespace, matches.labels_text(labels))
        selecting = self._selecting.get(key)
        if selecting is None:
            candidates = self._by_namespace.get(namespace, ())
            chosen = (each for each in candidates if each.selector.items() <= labels.items())
            if len(self._selecting) >= _REMEMBERED_MAX:  # each Job has labels of its own
                self._selecting = {}
            selecting = self._selecting[key] = tuple(sorted(chosen, key=lambda each: each.key))
        return selecting


def find(
    clients: Iterable[Client],
    policies: Policies,
    selecting: Selecting,
    trust_domain: str,
    *,
    opening: frozenset[str],
    closed: frozenset[str],
) -> Guards:
    """The guarded among these pods; `opening` are the uids of pods that run and are not turned yet.

    `closed` are slots whose filters are in force: their workloads stay so, whoever joins them.
    """
    asked: list[tuple[Client, tuple[Service, ...], WorkloadPolicy]] = []
    for client in clients:
        if policies.is_empty and not client.is_guarded:
            continue
        services = selecting(client.key.namespace, client.labels)
        policy = policies.of(_workload(client.key.namespace, client.labels, services))
        if client.is_guarded or not policy.is_empty:
            asked.append((client, services, policy))
    shut = {each.rpartition("|")[0] for each in closed}
    open_ = {_prefix(client) for client, _, _ in asked if client.uid in opening} - shut
    return Guards(
        {
            client.key: Guarded(client, _guard(client, services, policy, open_, trust_domain), policy)
            for client, services, policy in asked
        }
    )


def coming(
    selector: Selector, policies: Policies, guarded: Guards, namespaces: Mapping[str, Object]
) -> dict[Key, WorkloadPolicy]:
    """By Service, what pods that come when it is called will be guarded by.

    None while there are some that run unguarded: what stands before them would hand on to these, too.
    """
    if policies.is_empty:
        return {}
    running = [each.client for each in guarded.pods.values() if each.client.is_programmed]
    open_ = [(each.key.namespace, each.labels.items()) for each in running if not each.is_turned]
    listed = {}
    for service in selector.services:
        pods, namespace = service.coming, service.key.namespace
        if pods is None or not pods.in_mesh(namespaces.get(namespace)):
            continue
        if any(where == namespace and pods.labels.items() <= labels for where, labels in open_):
            continue
        selecting = selector.selecting(namespace, pods.labels)
        policy = policies.of(_workload(namespace, pods.labels, selecting))
        if not policy.is_empty:
            listed[service.key] = policy
    return listed


def _workload(namespace: str, labels: Mapping[str, str], selecting: Iterable[Service]) -> Workload:
    return Workload.of(namespace, labels, frozenset(service.key.name for service in selecting))


def _guard(
    client: Client,
    services: tuple[Service, ...],
    policy: WorkloadPolicy,
    opening: set[str],
    trust_domain: str,
) -> Guard:
    prefix = _prefix(client)
    namespace = client.key.namespace
    identity = spiffe.identity(trust_domain, namespace, client.account)
    return Guard(
        namespace,
        client.workload,
        identity,
        trust_domain,
        tuple(sorted(_ports(client, services).items())),
        policy.peers,
        prefix in opening,
        prefix,
        client.described._replace(principal=identity).packed(),
        services[0].host if services else "",
    )


def _prefix(client: Client) -> str:
    text = f"{matches.labels_text(client.labels)}\0{client.account}".encode()
    return f"arrivals|{client.key.namespace}/{client.workload}|{wire.digest(text)}"


def _ports(client: Client, services: Iterable[Service]) -> dict[int, Protocol]:
    """What Services say that its ports speak; where they disagree, the first bytes tell."""
    ports: dict[int, Protocol] = {}
    for service in services:
        for port in service.ports:
            number = client.ports.get(port.target, 0) if isinstance(port.target, str) else port.target
            if number:
                same = ports.setdefault(number, port.protocol) is port.protocol
                ports[number] = port.protocol if same else Protocol.SNIFFED
    return ports
