"""The whole translation: everything the mesh is made from, in; one consistent snapshot, out.

`Translator.translate` is a function of its argument; what it remembers only saves work, so that a
pod's change makes that pod's resources and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import istio, kube
from ondol.mesh.model.kube import Client, Service
from ondol.mesh.translate import clusters, listeners, matches, registry, tables, wire
from ondol.mesh.translate.chains import Identity, Layout, Observation
from ondol.mesh.translate.matches import MESH, Caller
from ondol.mesh.translate.memo import Memo
from ondol.mesh.translate.registry import DestinationRule, Gateway, Registry, VirtualService
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource, Snapshot

INGRESS_SELECTOR: Final = {"istio": "ingressgateway"}
"""The labels of the one ingress gateway: a Gateway that selects others has nowhere to go."""
_INGRESS_WORKLOAD: Final = "istio-ingressgateway"
_HTTP_PORTS: Final = (80,)
"""Ports that have an HTTP chain though no service may have them."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything the mesh is made from; the Istio kinds already read and found sound."""

    namespaces: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    services: Sequence[Object] = ()
    endpoint_slices: Sequence[Object] = ()
    virtual_services: Sequence[VirtualService] = ()
    destination_rules: Sequence[DestinationRule] = ()
    gateways: Sequence[Gateway] = ()


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What must run before a pod's calls are carried."""

    pod: Key
    listener: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Translation:
    snapshot: Snapshot = field(default_factory=Snapshot)
    pods: Mapping[Key, PodPlan] = field(default_factory=dict)
    registry: Registry = field(default_factory=lambda: Registry(""))


@dataclass(slots=True)
class _Era:
    """What stays as it is while services and rules do, however pods and endpoints change."""

    key: tuple[Any, ...]
    layout: Layout
    maker: tables.Tables
    tables: dict[str, Resource] = field(default_factory=dict)
    ingress: tuple[dict[str, Resource], dict[str, Resource]] = ({}, {})


class Translator:
    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self.memo = Memo()
        self.route_memo = Memo()
        self._era: _Era | None = None
        self._observation = Observation(
            config.observe_address, config.trace_sampling_percent, config.access_log
        )

    def translate(self, world: World) -> Translation:
        found = self._registry(world)
        era = self._era_of(world, found)
        listening, table, plans = self._pods(world, era)
        ingress_listeners, ingress_tables = era.ingress
        made, assigned = self._clusters(found)
        snapshot = Snapshot(
            {
                types.CLUSTER: {**made, **self._fixed_clusters()},
                types.ENDPOINTS: assigned,
                types.LISTENER: {**listening, **ingress_listeners},
                types.ROUTES: {**table, **ingress_tables},
            }
        )
        self.memo.sweep()
        return Translation(snapshot, plans, found)

    # What there is. Documents do not change while they live, so their identity stands for them.

    def _registry(self, world: World) -> Registry:
        found = Registry(self._config.cluster_domain)
        domain = self._config.cluster_domain
        for obj in world.services:
            service = self.memo.get(("service", id(obj)), partial(kube.service, obj, domain), obj)
            if service is not None:
                found.services[service.host] = service
        for slice_ in world.endpoint_slices:
            owner = Key(objects.namespace(slice_), objects.labels(slice_).get(kube.SERVICE_NAME_LABEL, ""))
            view = self.memo.get(("slice", id(slice_)), partial(_slice, slice_), slice_)
            found.slices.setdefault(owner, []).append(view)
        found.labels = {objects.key(pod): objects.labels(pod) for pod in world.pods}
        found.add_policies(world.destination_rules)
        return found

    def _era_of(self, world: World, found: Registry) -> _Era:
        rules = (world.virtual_services, world.destination_rules, world.gateways)
        origins = tuple(tuple(rule.origin for rule in each) for each in rules)
        key = (tuple(found.services.values()), *origins)
        if self._era is not None and self._era.key == key:
            return self._era
        self.route_memo.sweep()
        by_host = tables.by_host(found, world.virtual_services)
        maker = tables.Tables(found, by_host, self.route_memo)
        layout = listeners.layout(found, _HTTP_PORTS)
        if self._era is not None and self._era.layout == layout:
            layout = self._era.layout
        self._era = _Era(key, layout, maker)
        self._era.ingress = self._ingress(world, maker)
        return self._era

    # Clusters and endpoints

    def _clusters(self, found: Registry) -> tuple[dict[str, Resource], dict[str, Resource]]:
        """Clusters and their endpoints, service by service."""
        made: dict[str, Resource] = {}
        assigned: dict[str, Resource] = {}
        for service in found.services.values():
            policy = found.policy(service.host)
            key = ("clusters", id(service), policy.origins)
            made.update(self.memo.get(key, partial(_service_clusters, found, service, policy), service))
            views = found.slices.get(service.key, [])
            labels = _labels(found, service) if policy.subsets else []
            seen = ("endpoints", id(service), policy.origins, *map(id, (*views, *labels)))
            make = partial(_assignments, found, service, policy, views)
            assigned.update(self.memo.get(seen, make, (service, views, labels)))
        return made, assigned

    def _fixed_clusters(self) -> dict[str, Resource]:
        def make() -> dict[str, Resource]:
            found = [clusters.passthrough(self._config.passthrough_mark), clusters.blackhole()]
            if self._config.observe_address:
                found.append(clusters.otlp(self._config.observe_address))
            return {each.name: _resource(each.name, each) for each in found}

        return self.memo.get(("fixed-clusters",), make)

    # Pods

    def _pods(
        self, world: World, era: _Era
    ) -> tuple[dict[str, Resource], dict[str, Resource], dict[Key, PodPlan]]:
        namespaces = {objects.name(namespace): namespace for namespace in world.namespaces}
        made: dict[str, Resource] = {}
        used: dict[str, Resource] = {}
        plans: dict[Key, PodPlan] = {}
        named: dict[str, dict[int, str]] = {}
        for pod in world.pods:
            namespace = namespaces.get(objects.namespace(pod))
            client = self.memo.get(
                ("client", id(pod), id(namespace)), partial(kube.client, pod, namespace), (pod, namespace)
            )
            if client is None:
                continue
            names = named.get(client.key.namespace)
            if names is None:
                names = named[client.key.namespace] = self._tables(era, client.key.namespace, used)
            listener = self._pod_listener(client, era.layout, names)
            made[listener.name] = listener
            plans[client.key] = PodPlan(client.key, listener.name, tuple(names.values()))
        return made, used, plans

    def _tables(self, era: _Era, namespace: str, used: dict[str, Resource]) -> dict[int, str]:
        """The names of the tables that callers in a namespace follow, by port; the tables go into `used`."""
        names = {}
        for port in sorted(era.layout.http_ports):
            name = names[port] = tables.table_name(port, namespace)
            if name not in era.tables:
                caller = Caller(port, frozenset({MESH}), namespace)
                era.tables[name] = era.maker.mesh(name, caller)
            used[name] = era.tables[name]
        return names

    def _pod_listener(self, client: Client, layout: Layout, names: dict[int, str]) -> Resource:
        labels = matches.labels_text(client.labels)
        identity = Identity(client.workload, client.key.namespace, client.revision, labels)
        body = self.memo.get(
            ("listener", id(layout), identity, *names.values()),
            partial(listeners.shared, layout, identity, names, self._observation),
            layout,
        )
        make = partial(listeners.pod, client, self._config.netns_dir, body)
        return self.memo.get(("pod-listener", client.key, client.uid, id(body)), make, body)

    # Ingress

    def _ingress(self, world: World, maker: tables.Tables) -> tuple[dict[str, Resource], dict[str, Resource]]:
        servers: dict[int, list[tuple[Gateway, istio.Server]]] = {}
        for gateway in sorted(world.gateways, key=lambda gateway: gateway.age):
            if gateway.spec.selector.items() <= INGRESS_SELECTOR.items():
                for server in gateway.spec.servers:
                    servers.setdefault(server.port.number, []).append((gateway, server))
        bound = [
            rule
            for rule in world.virtual_services
            if matches.gateway_names(rule.spec.gateways, rule.namespace) != {MESH}
        ]
        identity = Identity(_INGRESS_WORKLOAD, self._config.ingress_namespace, "latest")
        made, table = {}, {}
        for number, here in servers.items():
            name = listeners.ingress_name(number)
            origins = tuple(dict.fromkeys(gateway.origin for gateway, _ in here))
            port = listeners.IngressPort(self._config.ingress_address, self._bind(number), number)
            made[name] = listeners.ingress(port, identity, self._observation, origins)
            table[name] = maker.ingress(name, number, here, bound)
        return made, table

    def _bind(self, number: int) -> int:
        """Port 80 of a Gateway is the ingress port of this machine; others are what they say."""
        return self._config.ingress_port if number == 80 else number


def _slice(obj: Object) -> registry.Slice:
    return tuple(kube.endpoints(obj))


def _labels(found: Registry, service: Service) -> list[Mapping[str, str]]:
    """The labels of the pods behind a service, in a stable order."""
    return [found.labels[pod] for pod in sorted(found.pods_behind(service.key)) if pod in found.labels]


def _resource(name: str, message: Any, origins: tuple[types.Origin, ...] = ()) -> Resource:
    body = wire.encode(message)
    return Resource(name, wire.digest(body), body, origins)


def _service_clusters(found: Registry, service: Service, policy: registry.Policy) -> dict[str, Resource]:
    made = {}
    for port in service.ports:
        for subset in ("", *policy.subsets):
            name = registry.cluster_name(service.host, port.number, subset)
            with registry.blaming(policy.origins):
                traffic = found.traffic(service.host, subset, port.number)
                cluster = clusters.cluster(name, port.protocol, traffic, service.host)
                made[name] = _resource(name, cluster, policy.origins)
    return made


def _assignments(
    found: Registry, service: Service, policy: registry.Policy, views: Iterable[registry.Slice]
) -> dict[str, Resource]:
    made = {}
    for port in service.ports:
        behind = [endpoint for view in views for name, endpoint in view if name == port.name]
        for subset in ("", *policy.subsets):
            wanted = policy.subsets[subset].labels if subset else {}
            name = registry.cluster_name(service.host, port.number, subset)
            chosen = clusters.in_subset(behind, wanted, found.labels)
            made[name] = _resource(name, clusters.load_assignment(name, chosen))
    return made
