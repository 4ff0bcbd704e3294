"""Which pods are guarded, and by what: policies select workloads, and Services say what their ports speak.

A pod is guarded from when something is asked of the calls that arrive at it, for as long as it lives. Pods
that share namespace, labels, account and ports are one workload here and share what is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ondol.api.objects import Key
from ondol.mesh.identity import spiffe
from ondol.mesh.model.kube import Client, Endpoint, Protocol, Service
from ondol.mesh.policy import Mode, Policies, Workload, WorkloadPolicy
from ondol.mesh.translate import matches, wire
from ondol.mesh.translate.arrivals import Guard


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

    def is_mutual(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is dialled with mutual TLS."""
        guarded = self._turned.get(endpoint.pod) if endpoint.pod is not None else None
        return guarded is not None and guarded.policy.peers.mode(endpoint.port) is not Mode.DISABLE

    @cached_property
    def _turned(self) -> Mapping[Key, Guarded]:
        return {key: each for key, each in self.pods.items() if each.client.is_turned}

    def state(self, pods: Iterable[Key]) -> tuple[tuple[Key, object], ...]:
        """What of these pods changes how endpoints are dialled."""
        if not self._turned:
            return ()
        return tuple((pod, self._turned[pod].policy.peers.key) for pod in sorted(pods) if pod in self._turned)

    @property
    def any_turned(self) -> bool:
        return bool(self._turned)


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

    def selecting(self, client: Client) -> tuple[Service, ...]:
        """In the order of their names."""
        key = (client.key.namespace, matches.labels_text(client.labels))
        selecting = self._selecting.get(key)
        if selecting is None:
            candidates = self._by_namespace.get(client.key.namespace, ())
            chosen = (each for each in candidates if each.selector.items() <= client.labels.items())
            selecting = self._selecting[key] = tuple(sorted(chosen, key=lambda each: each.key))
        return selecting


def find(
    clients: Iterable[Client],
    policies: Policies,
    selecting: Callable[[Client], tuple[Service, ...]],
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
        services = selecting(client)
        names = frozenset(service.key.name for service in services)
        policy = policies.of(Workload(client.key.namespace, client.labels, names))
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
