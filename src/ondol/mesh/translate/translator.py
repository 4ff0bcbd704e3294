"""The whole translation: everything the mesh is made from, in; one consistent snapshot, out.

`Translator.translate` is a function of its argument; what it remembers only saves work, so that a
pod's change makes that pod's resources and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import istio, kube
from ondol.mesh.model.kube import Client, Endpoint, Service
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


class Translator:
    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self.memo = Memo()
        self._observation = Observation(
            config.observe_address, config.trace_sampling_percent, config.access_log
        )

    def translate(self, world: World) -> Translation:
        found = self._registry(world)
        clients = self._clients(world)
        listening, table, plans = self._pods(world, found, clients)
        ingress_listeners, ingress_tables = self._ingress(world, found)
        made = {**self._clusters(found), **self._fixed_clusters()}
        snapshot = Snapshot(
            {
                types.CLUSTER: made,
                types.ENDPOINTS: self._endpoints(found),
                types.LISTENER: {**listening, **ingress_listeners},
                types.ROUTES: {**table, **ingress_tables},
            }
        )
        self.memo.sweep()
        return Translation(snapshot, plans, found)

    # What there is

    def _registry(self, world: World) -> Registry:
        found = Registry(self._config.cluster_domain)
        for obj in world.services:
            key = ("service", objects.key(obj), objects.resource_version(obj))
            service = self._view(key, obj, lambda o: kube.service(o, self._config.cluster_domain))
            if service is not None:
                found.services[service.host] = service
        for slice_ in world.endpoint_slices:
            name = objects.labels(slice_).get(kube.SERVICE_NAME_LABEL, "")
            owner = Key(objects.namespace(slice_), name)
            key = ("slice", objects.key(slice_), objects.resource_version(slice_))
            for port, endpoint in self._view(key, slice_, lambda o: tuple(kube.endpoints(o))):
                found.endpoints.setdefault((owner, port), []).append(endpoint)
        found.labels = {objects.key(pod): objects.labels(pod) for pod in world.pods}
        found.add_policies(world.destination_rules)
        return found

    def _view(self, key: tuple[Any, ...], obj: Object, make: Any) -> Any:
        return self.memo.get(key, lambda: make(obj))

    def _clients(self, world: World) -> list[Client]:
        namespaces = {objects.name(namespace): namespace for namespace in world.namespaces}
        found = []
        for pod in world.pods:
            namespace = namespaces.get(objects.namespace(pod))
            mode = objects.labels(namespace) if namespace else {}
            key = ("client", objects.key(pod), objects.resource_version(pod), tuple(sorted(mode.items())))
            client = self.memo.get(key, lambda pod=pod, ns=namespace: kube.client(pod, ns))  # type: ignore[misc] # defaults bind the loop's values
            if client is not None:
                found.append(client)
        return found

    # Clusters and endpoints

    def _clusters(self, found: Registry) -> dict[str, Resource]:
        made = {}
        for service in found.services.values():
            policy = found.policy(service.host)
            for port in service.ports:
                for subset in ("", *policy.subsets):
                    name = registry.cluster_name(service.host, port.number, subset)
                    key = ("cluster", name, port.protocol, policy.origins)

                    def make(
                        name: str = name,
                        service: Service = service,
                        port: kube.ServicePort = port,
                        policy: registry.Policy = policy,
                        subset: str = subset,
                    ) -> Resource:
                        traffic = policy.traffic(subset, port.number)
                        body = wire.encode(clusters.cluster(name, port.protocol, traffic, service.host))
                        return Resource(name, wire.digest(body), body, policy.origins)

                    made[name] = self.memo.get(key, make)
        return made

    def _fixed_clusters(self) -> dict[str, Resource]:
        def make() -> dict[str, Resource]:
            found = [clusters.passthrough(), clusters.blackhole()]
            if self._config.observe_address:
                host, _, port = self._config.observe_address.rpartition(":")
                found.append(clusters.otlp(host, int(port)))
            encoded = [(each.name, wire.encode(each)) for each in found]
            return {name: Resource(name, wire.digest(body), body) for name, body in encoded}

        return self.memo.get(("fixed-clusters",), make)

    def _endpoints(self, found: Registry) -> dict[str, Resource]:
        made = {}
        for service in found.services.values():
            policy = found.policy(service.host)
            for port in service.ports:
                behind = found.endpoints.get((service.key, port.name), [])
                for subset in ("", *policy.subsets):
                    wanted = policy.subsets[subset].labels if subset else {}
                    name = registry.cluster_name(service.host, port.number, subset)
                    chosen = clusters.in_subset(behind, wanted, found.labels)
                    made[name] = self._assignment(name, chosen)
        return made

    def _assignment(self, name: str, chosen: Sequence[Endpoint]) -> Resource:
        def make() -> Resource:
            body = wire.encode(clusters.load_assignment(name, chosen))
            return Resource(name, wire.digest(body), body)

        addresses = tuple((endpoint.address, endpoint.port) for endpoint in chosen)
        return self.memo.get(("endpoints", name, addresses), make)

    # Pods

    def _pods(
        self, world: World, found: Registry, clients: Iterable[Client]
    ) -> tuple[dict[str, Resource], dict[str, Resource], dict[Key, PodPlan]]:
        layout = listeners.layout(found.services.values(), _HTTP_PORTS)
        layout_key = (layout.http_ports, layout.sniffed_ports, *map(_items, (layout.tcp, layout.sniffed)))
        rules = tables.by_host(found, world.virtual_services)
        asked = tables.label_clauses(rules.values())
        maker = tables.Tables(found, self.memo)
        made: dict[str, Resource] = {}
        table: dict[str, Resource] = {}
        plans: dict[Key, PodPlan] = {}
        for client in clients:
            held = frozenset(clause for clause in asked if clause <= client.labels.items())
            names = {port: tables.table_name(port, client.key.namespace, held) for port in layout.http_ports}
            for port, name in names.items():
                if name not in table:
                    caller = Caller(port, frozenset({MESH}), client.key.namespace, held)
                    table[name] = maker.mesh(name, caller, rules)
            listener = self._pod_listener(client, layout, layout_key, names)
            made[listener.name] = listener
            plans[client.key] = PodPlan(client.key, listener.name, tuple(names.values()))
        return made, table, plans

    def _pod_listener(
        self, client: Client, layout: Layout, layout_key: tuple[Any, ...], names: dict[int, str]
    ) -> Resource:
        identity = Identity(client.workload, client.key.namespace, client.revision)
        shared_key = ("listener", layout_key, identity, tuple(names.values()))
        body = self.memo.get(shared_key, lambda: listeners.shared(layout, identity, names, self._observation))
        key = ("pod-listener", client.key, client.uid, id(body))
        return self.memo.get(key, lambda: listeners.pod(client, self._config.netns_dir, body), body)

    # Ingress

    def _ingress(self, world: World, found: Registry) -> tuple[dict[str, Resource], dict[str, Resource]]:
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
        maker = tables.Tables(found, self.memo)
        made, table = {}, {}
        for number, here in servers.items():
            name = listeners.ingress_name(number)
            origins = tuple(dict.fromkeys(gateway.origin for gateway, _ in here))
            port = listeners.IngressPort(self._config.ingress_address, self._bind(number), number)
            made[name] = self.memo.get(
                ("ingress", port, origins),
                lambda port=port, origins=origins: listeners.ingress(  # type: ignore[misc] # defaults bind the loop's values
                    port, identity, self._observation, origins
                ),
            )
            table[name] = maker.ingress(name, number, here, bound)
        return made, table

    def _bind(self, number: int) -> int:
        """Port 80 of a Gateway is the ingress port of this machine; others are what they say."""
        return self._config.ingress_port if number == 80 else number


def _items(found: Mapping[tuple[int, str], str]) -> tuple[Any, ...]:
    return tuple(sorted(found.items()))
