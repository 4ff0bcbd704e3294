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
from ondol.base.memo import Memo
from ondol.contracts import cluster, proxy
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import kube
from ondol.mesh.model.kube import Client, Service
from ondol.mesh.translate import changes, clusters, listeners, matches, reach, registry, rules, tables, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.chains import Identity, Layout, Observation
from ondol.mesh.translate.matches import MESH, Caller
from ondol.mesh.translate.reach import INGRESS_WORKLOAD
from ondol.mesh.translate.registry import DestinationRule, Gateway, Registry, VirtualService
from ondol.mesh.translate.rules import MeshRules
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource, Snapshot

INGRESS_SELECTOR: Final = {
    "app": INGRESS_WORKLOAD,
    "istio": "ingressgateway",
    "istio.io/rev": "default",
    "operator.istio.io/component": "IngressGateways",
}
"""The labels of the one ingress gateway, as Istio's has them: who selects others has nowhere to go."""
INGRESS_PORT: Final = 80
"""What the ingress port of this machine is called, whatever its number there."""
_INGRESS_PORTS: Final = (80, 8080)
"""Numbers by which Gateways mean it: Istio's own gateway listens on 8080 behind its Service's port 80."""
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
    inspector: str = ""
    """The listener inside the proxy that looks at what is undeclared, if anything is."""

    @property
    def listeners(self) -> tuple[str, ...]:
        return (self.listener, self.inspector) if self.inspector else (self.listener,)


@dataclass(frozen=True, slots=True)
class Translation:
    snapshot: Snapshot = field(default_factory=Snapshot)
    pods: Mapping[Key, PodPlan] = field(default_factory=dict)
    registry: Registry = field(default_factory=lambda: Registry(""))
    rules: MeshRules = field(default_factory=lambda: MeshRules(Registry(""), ()))
    """The same object for as long as services and the Istio objects stay what they are."""
    ingress_ports: Mapping[int, int] = field(default_factory=dict)
    """Port numbers of Gateways that are one port of the ingress, by what that is called."""


@dataclass(frozen=True, slots=True)
class _Governed:
    """A service with its policies, by whom they govern, and where those come from."""

    service: Service
    policies: Mapping[str, registry.Policy]
    origins: tuple[tuple[str, tuple[types.Origin, ...]], ...]
    has_subsets: bool


@dataclass(slots=True)
class _Era:
    """What stays as it is while services and rules do, however pods and endpoints change."""

    key: tuple[Any, ...]
    registry: Registry
    rules: MeshRules
    named: Sequence[changes.Named]
    maker: tables.Tables
    before: Mapping[str, Layout]
    """Layouts of the era before: what is equal stays the same object, for whoever goes by identity."""
    layouts: dict[str, Layout] = field(default_factory=dict)
    """By caller's namespace, where rules tell it apart; else under no name."""
    tables: dict[str, Resource] = field(default_factory=dict)
    ingress: tuple[dict[str, Resource], dict[str, Resource]] = ({}, {})
    governed: dict[str, _Governed] = field(default_factory=dict)
    """By host, every service with what DestinationRules say of it."""
    clusters: dict[str, Resource] | None = None

    def layout(self, namespace: str) -> Layout:
        """What the services ask of the listeners of a namespace's pods."""
        caller = self.registry.caller(namespace)
        layout = self.layouts.get(caller)
        if layout is None:
            layout = listeners.layout(self.registry, _HTTP_PORTS, caller)
            earlier = self.before.get(caller)
            self.layouts[caller] = layout = earlier if earlier == layout and earlier is not None else layout
        return layout


class Translator:
    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self.memo = Memo()
        self.route_memo = Memo()
        self._era: _Era | None = None
        self._observation = Observation(
            config.observe_address,
            config.trace_sampling_percent,
            config.access_log,
            config.access_log_is_text,
        )

    def translate(self, world: World) -> Translation:
        found = self._registry(world)
        era = self._era_of(world, found)
        listening, table, plans = self._pods(world, era)
        ingress_listeners, ingress_tables = era.ingress
        made, assigned = self._clusters(era), self._endpoints(era, found)
        looks = {plan.inspector for plan in plans.values() if plan.inspector}
        ways = {name: self._way_to_inspector(name) for name in sorted(looks)}
        snapshot = Snapshot(
            {
                types.CLUSTER: {**made, **ways, **self._fixed_clusters()},
                types.ENDPOINTS: assigned,
                types.LISTENER: {**listening, **ingress_listeners},
                types.ROUTES: {**table, **ingress_tables},
            }
        )
        self.memo.sweep()
        return Translation(snapshot, plans, found, era.rules, ingress_ports(self._config))

    # What there is. Documents do not change while they live, so their identity stands for them.

    def _registry(self, world: World) -> Registry:
        registry = Registry(self._config.cluster_domain, roots=roots(self._config))
        domain = self._config.cluster_domain
        for obj in world.services:
            service = self.memo.get(("service", id(obj)), partial(kube.service, obj, domain), obj)
            if service is not None:
                registry.services[service.host] = service
        for slice_ in world.endpoint_slices:
            owner = Key(objects.namespace(slice_), objects.labels(slice_).get(cluster.SERVICE_NAME_LABEL, ""))
            view = self.memo.get(("slice", id(slice_)), partial(_slice, slice_), slice_)
            registry.slices.setdefault(owner, []).append(view)
        registry.labels = {objects.key(pod): objects.labels(pod) for pod in world.pods}
        registry.add_policies(world.destination_rules)
        return registry

    def _era_of(self, world: World, found: Registry) -> _Era:
        written = (world.virtual_services, world.destination_rules, world.gateways)
        origins = tuple(tuple(rule.origin for rule in each) for each in written)
        key = (tuple(found.services.values()), *origins)
        if self._era is not None and self._era.key == key:
            return self._era
        self.route_memo.sweep()
        mesh_rules = MeshRules(found, world.virtual_services)
        named = [(rule, self._names(rule)) for rule in world.virtual_services]
        maker = tables.Tables(found, mesh_rules, self.route_memo, self._before(key, found, named))
        before = self._era.layouts if self._era is not None else {}
        era = _Era(key, found, mesh_rules, named, maker, before)
        era.governed = self._governed(found)
        era.ingress = self._ingress(world, maker)
        self._era = era
        return era

    def _names(self, rule: VirtualService) -> tuple[str, ...]:
        return self.route_memo.get(
            ("names", rule.origin), lambda: changes.names(rule, self._config.cluster_domain)
        )

    def _before(
        self, key: tuple[Any, ...], found: Registry, named: Sequence[changes.Named]
    ) -> tuple[tables.Tables, changes.Concerned] | None:
        """What was made in the era before, and what of it no longer holds; None if none of it does."""
        era = self._era
        if era is None or era.key[2:] != key[2:]:  # the DestinationRules and Gateways
            return None
        concerned = changes.concerned((era.registry.services, found.services), (era.named, named))
        return (era.maker, concerned) if concerned is not None else None

    # Clusters and endpoints

    def _governed(self, found: Registry) -> dict[str, _Governed]:
        """By host; of services that stayed as the era before had it, if the same rules govern."""
        era = self._era
        earlier = era.governed if era is not None and found.is_governed_as(era.registry) else {}
        return {
            host: before
            if (before := earlier.get(host)) is not None and before.service is service
            else _governed(found, service)
            for host, service in found.services.items()
        }

    def _clusters(self, era: _Era) -> dict[str, Resource]:
        """The clusters of all services: no pod and no endpoint changes them."""
        if era.clusters is None:
            made: dict[str, Resource] = {}
            for each in era.governed.values():
                key = ("clusters", id(each.service), each.origins)
                arguments = (era.registry, each.service, each.policies, self._config.passthrough_mark)
                made.update(self.route_memo.get(key, partial(_service_clusters, *arguments), each.service))
            era.clusters = made
        return era.clusters

    def _endpoints(self, era: _Era, found: Registry) -> dict[str, Resource]:
        """What stands behind the clusters, service by service."""
        assigned: dict[str, Resource] = {}
        for each in era.governed.values():
            service, policies = each.service, each.policies
            views = found.slices.get(service.key, [])
            labels = _labels(found, service) if each.has_subsets else []
            key = ("endpoints", id(service), each.origins, *map(id, (*views, *labels)))
            make = partial(_assignments, found, service, policies, views)
            assigned.update(self.memo.get(key, make, (service, views, labels)))
        return assigned

    def _fixed_clusters(self) -> dict[str, Resource]:
        def make() -> dict[str, Resource]:
            resources = [clusters.passthrough(self._config.passthrough_mark), clusters.blackhole()]
            if self._config.observe_address:
                resources.append(clusters.otlp(self._config.observe_address))
            return {each.name: _resource(each.name, each) for each in resources}

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
            layout = era.layout(client.key.namespace)
            listener, inspector = self._pod_listeners(client, layout, names)
            made[listener.name] = listener
            if inspector is not None:
                made[inspector.name] = inspector
            inspects = inspector.name if inspector is not None else ""
            plans[client.key] = PodPlan(client.key, listener.name, tuple(names.values()), inspects)
        return made, used, plans

    def _tables(self, era: _Era, namespace: str, used: dict[str, Resource]) -> dict[int, str]:
        """The names of the tables that callers in a namespace follow, by port; the tables go into `used`."""
        names = {}
        for port in sorted(era.layout(namespace).http_ports):
            name = names[port] = tables.table_name(port, namespace)
            if name not in era.tables:
                caller = Caller(port, frozenset({MESH}), namespace)
                era.tables[name] = era.maker.mesh(name, caller)
            used[name] = era.tables[name]
        return names

    def _pod_listeners(
        self, client: Client, layout: Layout, names: dict[int, str]
    ) -> tuple[Resource, Resource | None]:
        """The pod's own, and its workload's for what is undeclared."""
        labels = matches.labels_text(client.labels)
        identity = Identity(client.workload, client.key.namespace, client.revision, labels)
        key = (id(layout), identity, *names.values())
        arguments = (layout, identity, names, self._observation)
        body = self.memo.get(("listener", *key), partial(listeners.shared, *arguments), layout)
        make = partial(listeners.pod, client, self._config.netns_dir, body)
        own = self.memo.get(("pod-listener", client.key, client.uid, id(body)), make, body)
        if not layout.sniffed_ports:
            return own, None
        return own, self.memo.get(("inspector", *key), partial(listeners.inspector, *arguments), layout)

    def _way_to_inspector(self, name: str) -> Resource:
        return self.memo.get(("way", name), lambda: _resource(name, clusters.inspector(name)))

    # Ingress

    def _ingress(self, world: World, maker: tables.Tables) -> tuple[dict[str, Resource], dict[str, Resource]]:
        selecting = (g for g in world.gateways if g.spec.selector.items() <= INGRESS_SELECTOR.items())
        servers = rules.at_ports(selecting, ingress_ports(self._config))
        bound = [
            rule
            for rule in world.virtual_services
            if matches.gateway_names(rule.spec.gateways, rule.namespace) != {MESH}
            and rules.heard_at_ingress(rule, maker.registry)
        ]
        identity = Identity(INGRESS_WORKLOAD, self._config.ingress_namespace, "latest")
        made, table = {}, {}
        for number, here in servers.items():
            if port_problem(self._config, number):
                continue  # of a version that was served before this was refused
            name = listeners.ingress_name(number)
            origins = tuple(dict.fromkeys(gateway.origin for gateway, _ in here))
            bind = self._config.ingress_port if number == INGRESS_PORT else number
            port = listeners.IngressPort(self._config.ingress_address, bind, number)
            made[name] = listeners.ingress(port, identity, self._observation, origins)
            table[name] = maker.ingress(name, here, bound)
        return made, table


def ingress_ports(config: MeshConfig) -> dict[int, int]:
    """The port numbers of Gateways that mean the ingress port of this machine, its own among them."""
    return dict.fromkeys((*_INGRESS_PORTS, config.ingress_port), INGRESS_PORT)


def port_problem(config: MeshConfig, number: int) -> str:
    """Why no Gateway may have the port, or nothing; a number that means the ingress port takes nobody's."""
    if number in ingress_ports(config):
        return ""
    if number in config.kept_ports:
        return f"{number} is a port of the platform itself"
    if not any(number in ports for ports in config.open_ports):
        return (
            f"{number} is not among the ports that Gateways may open on this machine (setting ingress_ports)"
        )
    return ""


def roots(config: MeshConfig) -> frozenset[str]:
    """The namespaces whose rules hold everywhere: whoever may write there rules the platform."""
    return frozenset({reach.ISTIO_SYSTEM, config.ingress_namespace})


def _slice(obj: Object) -> registry.Slice:
    return tuple(kube.endpoints(obj))


def _governed(found: Registry, service: Service) -> _Governed:
    policies = {scope: found.policy(service.host, scope) for scope in ("", *found.scopes(service.host))}
    origins = tuple((scope, policy.origins) for scope, policy in policies.items())
    return _Governed(service, policies, origins, any(policy.subsets for policy in policies.values()))


def _labels(found: Registry, service: Service) -> list[Mapping[str, str]]:
    """The labels of the pods behind a service, in a stable order."""
    return [found.labels[pod] for pod in sorted(found.pods_behind(service.key)) if pod in found.labels]


def _resource(name: str, message: m.Message, origins: tuple[types.Origin, ...] = ()) -> Resource:
    body = wire.encode(message)
    return Resource(name, wire.digest(body), body, origins)


def _service_clusters(
    found: Registry, service: Service, policies: Mapping[str, registry.Policy], passthrough_mark: int
) -> dict[str, Resource]:
    made = {}
    for scope, policy in policies.items():
        for port in service.ports:
            for subset in ("", *policy.subsets):
                name = proxy.cluster_name(service.host, port.number, subset, scope)
                with registry.blaming(policy.origins):
                    traffic = found.traffic(service.host, subset, port.number, scope)
                    cluster = clusters.cluster(name, port.protocol, traffic, service.host, passthrough_mark)
                    made[name] = _resource(name, cluster, policy.origins)
    return made


def _assignments(
    found: Registry,
    service: Service,
    policies: Mapping[str, registry.Policy],
    views: Iterable[registry.Slice],
) -> dict[str, Resource]:
    made = {}
    for scope, policy in policies.items():
        for port in service.ports:
            behind = [endpoint for view in views for name, endpoint in view if name == port.name]
            for subset in ("", *policy.subsets):
                labels = policy.subsets[subset].labels if subset else {}
                name = proxy.cluster_name(service.host, port.number, subset, scope)
                chosen = clusters.in_subset(behind, labels, found.labels)
                made[name] = _resource(name, clusters.load_assignment(name, chosen))
    return made
