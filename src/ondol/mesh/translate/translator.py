"""The whole translation: everything the mesh is made from, in; one consistent snapshot, out.

`Translator.translate` is a function of its argument; what it remembers only saves work, so that a
pod's change makes that pod's resources and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import cluster, proxy
from ondol.mesh.config import MeshConfig
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Kind, Kinds, Provided, no_services, rules_with_names
from ondol.mesh.model import istio, kube
from ondol.mesh.model.kube import Client, Service
from ondol.mesh.translate import (
    changes,
    clusters,
    listeners,
    matches,
    reach,
    registry,
    rules,
    tables,
    termination,
    wire,
)
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.cache import Cache
from ondol.mesh.translate.chains import Identity, Layout, Observation
from ondol.mesh.translate.matches import MESH, Caller
from ondol.mesh.translate.reach import INGRESS_WORKLOAD
from ondol.mesh.translate.registry import Registry, Rule
from ondol.mesh.translate.rules import MeshRules
from ondol.mesh.translate.world import PodPlan, Translation, World
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource, Snapshot

INGRESS_PORT: Final = 80
"""What the ingress port of this machine is called, whatever its number there."""
_INGRESS_PORTS: Final = (80, 8080)
"""Numbers by which Gateways mean it: Istio's own gateway listens on 8080 behind its Service's port 80."""
_HTTP_PORTS: Final = (80,)
"""Ports that have an HTTP chain though no service may have them."""


@dataclass(frozen=True, slots=True)
class _Governed:
    """A service with its policies, by whom they govern, and where those come from."""

    service: Service
    policies: Mapping[str, registry.Policy]
    origins: tuple[tuple[str, tuple[types.Origin, ...]], ...]
    has_subsets: bool


@dataclass(slots=True)
class _Era:
    """What stays as it is while services and the mesh's objects do, however pods and endpoints change."""

    key: tuple[Any, ...]
    registry: Registry
    rules: MeshRules
    named: Sequence[changes.Named]
    tables: tables.Tables
    layouts: dict[str, Layout] = field(default_factory=dict)
    """By caller's namespace, where rules tell it apart; else under no name."""
    tables_by_name: dict[str, Resource] = field(default_factory=dict)
    own: dict[types.TypeUrl, dict[str, Resource]] = field(default_factory=dict)
    """What was made of services and objects alone: clusters, the ingress, resources of further kinds."""
    governed: dict[str, _Governed] = field(default_factory=dict)
    """By host, every service with what DestinationRules say of it."""


class Translator:
    def __init__(self, config: MeshConfig, kinds: Kinds = KINDS) -> None:
        self._config = config
        self._kinds = kinds
        self.cache = Cache()
        self._remembered = tables.Remembered(self.cache)
        self._layouts: dict[str, Layout] = {}
        """Of the era before: one that is equal stays the same object, for whoever goes by identity."""
        self._era: _Era | None = None
        self._observation = Observation(
            config.observe_address,
            config.trace_sampling_percent,
            config.access_log,
            config.access_log_is_text,
        )

    def translate(self, world: World) -> Translation:
        current = self._registry(world)
        era = self._era_of(world, current)
        listeners_of_pods, tables_of_pods, plans = self._pods(world, era)
        inspectors = sorted({plan.inspector for plan in plans.values() if plan.inspector})
        snapshot = Snapshot(
            _joined(
                era.own,
                {
                    types.CLUSTER: {name: self._way_to_inspector(name) for name in inspectors}
                    | self._fixed_clusters(),
                    types.ENDPOINTS: self._endpoints(era, current),
                    types.LISTENER: listeners_of_pods,
                    types.ROUTES: tables_of_pods,
                    types.SECRET: {each.secret: termination.secret(each) for each in world.terminations},
                },
            )
        )
        self.cache.end_translation()
        return Translation(snapshot, plans, current, era.rules, ingress_ports(self._config))

    # What there is. Documents do not change while they live, so their identity stands for them.

    def _registry(self, world: World) -> Registry:
        registry = Registry(self._config.cluster_domain, roots=roots(self._config))
        domain = self._config.cluster_domain
        for obj in world.services:
            service = self.cache.of_translation.get(
                ("service", id(obj)), partial(kube.service, obj, domain), obj
            )
            if service is not None:
                registry.services[service.host] = service
        for slice_ in world.endpoint_slices:
            owner = Key(objects.namespace(slice_), objects.labels(slice_).get(cluster.SERVICE_NAME_LABEL, ""))
            view = self.cache.of_translation.get(("slice", id(slice_)), partial(_slice, slice_), slice_)
            registry.slices.setdefault(owner, []).append(view)
        for service, view in self._provided(world):
            if registry.services.setdefault(service.host, service) is service:
                registry.slices.setdefault(service.key, []).append(view)
        registry.labels = {objects.key(pod): objects.labels(pod) for pod in world.pods}
        registry.add_policies(world.destination_rules)
        return registry

    def _provided(self, world: World) -> Iterator[Provided]:
        """Services that objects of the mesh's kinds are."""
        for kind in self._kinds.values():
            if kind.services is not no_services:
                for rule in world.of(kind.name):
                    with registry.blaming([rule.origin]):
                        make = partial(_services, kind, rule, self._config.cluster_domain)
                        yield from self.cache.of_translation.get(("services", rule.origin), make, rule)

    def _era_of(self, world: World, current: Registry) -> _Era:
        named, wide = (
            rules_with_names(self._kinds, world.rules, named=is_named) for is_named in (True, False)
        )
        key = (
            tuple(current.services.values()),
            tuple(rule.origin for rule in named),
            tuple(each.shape for each in world.terminations),
            tuple(rule.origin for rule in wide),
        )
        if self._era is None or self._era.key != key:
            self._era = self._begin_era(world, current, key, [(rule, self._names(rule)) for rule in named])
        return self._era

    def _begin_era(
        self, world: World, current: Registry, key: tuple[Any, ...], named: Sequence[changes.Named]
    ) -> _Era:
        # A failure on the way leaves no era, so that nothing of this one is taken for an earlier one's.
        before, self._era, concerned = self._era, None, None
        self._layouts = before.layouts if before is not None else {}
        if before is not None and before.key[-1] == key[-1]:
            concerned = changes.concerned((before.registry.services, current.services), (before.named, named))
        self.cache.begin_era(concerned.hosts if concerned else None, concerned.rules if concerned else None)
        mesh_rules = MeshRules(current, world.virtual_services)
        maker = tables.Tables(current, mesh_rules, self._remembered)
        era = _Era(key, current, mesh_rules, named, maker)
        era.governed = self._governed(current, before)
        ingress_listeners, ingress_tables = self._ingress(world, maker)
        era.own = _joined(
            {types.CLUSTER: self._clusters(era)},
            {types.LISTENER: ingress_listeners, types.ROUTES: ingress_tables},
            self._resources(world, current),
        )
        return era

    def _resources(self, world: World, current: Registry) -> dict[types.TypeUrl, dict[str, Resource]]:
        """What kinds have made of their objects alone."""
        resources: dict[types.TypeUrl, dict[str, Resource]] = {}
        for kind in self._kinds.values():
            for rule in world.of(kind.name):
                with registry.blaming([rule.origin]):
                    for type_url, resource in kind.resources(rule, current):
                        resources.setdefault(type_url, {})[resource.name] = resource
        return resources

    def _names(self, rule: Rule[Any]) -> tuple[str, ...]:
        names = self._kinds[rule.origin.kind].names
        if names is None:
            return ()
        return self.cache.of_era.get(
            ("names", rule.origin), partial(names, rule, self._config.cluster_domain)
        )

    # Clusters and endpoints

    def _governed(self, current: Registry, before: _Era | None) -> dict[str, _Governed]:
        """By host; of services that stayed as the era before had it, if the same rules govern."""
        same = before is not None and current.is_governed_as(before.registry)
        earlier = before.governed if before is not None and same else {}
        return {
            host: stored
            if (stored := earlier.get(host)) is not None and stored.service is service
            else _governed(current, service)
            for host, service in current.services.items()
        }

    def _clusters(self, era: _Era) -> dict[str, Resource]:
        """The clusters of all services: no pod and no endpoint changes them."""
        resources: dict[str, Resource] = {}
        for each in era.governed.values():
            key = ("clusters", id(each.service), each.origins)
            arguments = (era.registry, each.service, each.policies, self._config.passthrough_mark)
            resources.update(self.cache.of_era.get(key, partial(_service_clusters, *arguments), each.service))
        return resources

    def _endpoints(self, era: _Era, current: Registry) -> dict[str, Resource]:
        """What stands behind the clusters, service by service."""
        assigned: dict[str, Resource] = {}
        for each in era.governed.values():
            service, policies = each.service, each.policies
            views = current.slices.get(service.key, [])
            labels = _labels(current, service) if each.has_subsets else []
            key = ("endpoints", id(service), each.origins, *map(id, (*views, *labels)))
            make = partial(_assignments, current, service, policies, views)
            assigned.update(self.cache.of_translation.get(key, make, (service, views, labels)))
        return assigned

    def _fixed_clusters(self) -> dict[str, Resource]:
        def make() -> dict[str, Resource]:
            resources = [clusters.passthrough(self._config.passthrough_mark), clusters.blackhole()]
            if self._config.observe_address:
                resources.append(clusters.otlp(self._config.observe_address))
            return {each.name: _resource(each.name, each) for each in resources}

        return self.cache.of_translation.get(("fixed-clusters",), make)

    # Pods

    def _pods(
        self, world: World, era: _Era
    ) -> tuple[dict[str, Resource], dict[str, Resource], dict[Key, PodPlan]]:
        namespaces = {objects.name(namespace): namespace for namespace in world.namespaces}
        pod_listeners: dict[str, Resource] = {}
        used: dict[str, Resource] = {}
        plans: dict[Key, PodPlan] = {}
        by_namespace: dict[str, dict[int, str]] = {}
        for pod in world.pods:
            namespace = namespaces.get(objects.namespace(pod))
            client = self.cache.of_translation.get(
                ("client", id(pod), id(namespace)), partial(kube.client, pod, namespace), (pod, namespace)
            )
            if client is None:
                continue
            names = by_namespace.get(client.key.namespace)
            if names is None:
                names = by_namespace[client.key.namespace] = self._tables(era, client.key.namespace, used)
            layout = self._layout(era, client.key.namespace)
            listener, inspector = self._pod_listeners(client, layout, names)
            pod_listeners[listener.name] = listener
            if inspector is not None:
                pod_listeners[inspector.name] = inspector
            inspects = inspector.name if inspector is not None else ""
            plans[client.key] = PodPlan(client.key, listener.name, tuple(names.values()), inspects)
        return pod_listeners, used, plans

    def _layout(self, era: _Era, namespace: str) -> Layout:
        """What the services ask of the listeners of a namespace's pods."""
        caller = era.registry.caller(namespace)
        layout = era.layouts.get(caller)
        if layout is None:
            layout = listeners.layout(era.registry, _HTTP_PORTS, caller)
            earlier = self._layouts.get(caller)
            era.layouts[caller] = layout = earlier if earlier == layout and earlier is not None else layout
        return layout

    def _tables(self, era: _Era, namespace: str, used: dict[str, Resource]) -> dict[int, str]:
        """The names of the tables that callers in a namespace follow, by port; the tables go into `used`."""
        names = {}
        for port in sorted(self._layout(era, namespace).http_ports):
            name = names[port] = tables.table_name(port, namespace)
            if name not in era.tables_by_name:
                caller = Caller(port, frozenset({MESH}), namespace)
                era.tables_by_name[name] = era.tables.mesh(name, caller)
            used[name] = era.tables_by_name[name]
        return names

    def _pod_listeners(
        self, client: Client, layout: Layout, names: dict[int, str]
    ) -> tuple[Resource, Resource | None]:
        """The pod's own, and its workload's for what is undeclared."""
        labels = matches.labels_text(client.labels)
        identity = Identity(client.workload, client.key.namespace, client.revision, labels)
        key = (id(layout), identity, *names.values())
        arguments = (layout, identity, names, self._observation)
        body = self.cache.of_translation.get(
            ("listener", *key), partial(listeners.shared, *arguments), layout
        )
        make = partial(listeners.pod, client, self._config.netns_dir, body)
        own = self.cache.of_translation.get(("pod-listener", client.key, client.uid, id(body)), make, body)
        if not layout.sniffed_ports:
            return own, None
        return own, self.cache.of_translation.get(
            ("inspector", *key), partial(listeners.inspector, *arguments), layout
        )

    def _way_to_inspector(self, name: str) -> Resource:
        return self.cache.of_translation.get(("way", name), lambda: _resource(name, clusters.inspector(name)))

    # Ingress

    def _ingress(self, world: World, maker: tables.Tables) -> tuple[dict[str, Resource], dict[str, Resource]]:
        selecting = (g for g in world.gateways if g.spec.selector.items() <= reach.INGRESS_SELECTOR.items())
        servers = rules.at_ports(selecting, ingress_ports(self._config))
        bound = [
            rule
            for rule in world.virtual_services
            if matches.gateway_names(rule.spec.gateways, rule.namespace) != {MESH}
            and rules.heard_at_ingress(rule, maker.registry)
        ]
        identity = Identity(INGRESS_WORKLOAD, self._config.ingress_namespace, "latest")
        own_listeners, own_tables = {}, {}
        secure = [pair for here in servers.values() for pair in here if _is_secure(pair[1])]
        if secure and world.terminations:
            origins = tuple(dict.fromkeys(gateway.origin for gateway, _ in secure))
            place = (self._config.ingress_address, self._config.ingress_tls_port)
            own_listeners[termination.NAME] = termination.listener(
                place, world.terminations, identity, self._observation, origins
            )
            own_tables[termination.NAME] = maker.ingress(termination.NAME, secure, bound)
        for number, all_here in servers.items():
            here = [pair for pair in all_here if not _is_secure(pair[1])]
            if not here:
                continue
            if port_problem(self._config, number):
                continue  # of a version that was served before this was refused
            name = listeners.ingress_name(number)
            origins = tuple(dict.fromkeys(gateway.origin for gateway, _ in here))
            bind = self._config.ingress_port if number == INGRESS_PORT else number
            port = listeners.IngressPort(self._config.ingress_address, bind, number)
            own_listeners[name] = listeners.ingress(port, identity, self._observation, origins)
            own_tables[name] = maker.ingress(name, here, bound)
        return own_listeners, own_tables


def _is_secure(server: istio.Server) -> bool:
    return server.port.protocol.upper() == "HTTPS"


def _joined(
    *parts: Mapping[types.TypeUrl, Mapping[str, Resource]],
) -> dict[types.TypeUrl, dict[str, Resource]]:
    """Resources of several sources, by type."""
    joined: dict[types.TypeUrl, dict[str, Resource]] = {}
    for part in parts:
        for type_url, resources in part.items():
            joined.setdefault(type_url, {}).update(resources)
    return joined


def _services(kind: Kind[Any], rule: Rule[Any], cluster_domain: str) -> list[Provided]:
    return list(kind.services(rule, cluster_domain))


def ingress_ports(config: MeshConfig) -> dict[int, int]:
    """The port numbers of Gateways that mean the ingress port of this machine, its own among them."""
    return dict.fromkeys((*_INGRESS_PORTS, config.ingress_port), INGRESS_PORT)


def port_problem(config: MeshConfig, number: int) -> str:
    """Why no Gateway may have the port, or nothing; a number that means the ingress port takes nobody's."""
    if number in ingress_ports(config):
        return ""
    if number in config.reserved_ports:
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


def _governed(current: Registry, service: Service) -> _Governed:
    policies = {scope: current.policy(service.host, scope) for scope in ("", *current.scopes(service.host))}
    origins = tuple((scope, policy.origins) for scope, policy in policies.items())
    return _Governed(service, policies, origins, any(policy.subsets for policy in policies.values()))


def _labels(current: Registry, service: Service) -> list[Mapping[str, str]]:
    """The labels of the pods behind a service, in a stable order."""
    return [current.labels[pod] for pod in sorted(current.pods_behind(service.key)) if pod in current.labels]


def _resource(name: str, message: m.Message, origins: tuple[types.Origin, ...] = ()) -> Resource:
    body = wire.encode(message)
    return Resource(name, wire.digest(body), body, origins)


def _service_clusters(
    current: Registry, service: Service, policies: Mapping[str, registry.Policy], passthrough_mark: int
) -> dict[str, Resource]:
    resources = {}
    for scope, policy in policies.items():
        for port in service.ports:
            for subset in ("", *policy.subsets):
                name = proxy.cluster_name(service.host, port.number, subset, scope)
                with registry.blaming(policy.origins):
                    traffic = current.traffic(service.host, subset, port.number, scope)
                    cluster = clusters.cluster(name, port.protocol, traffic, service.host, passthrough_mark)
                    resources[name] = _resource(name, cluster, policy.origins)
    return resources


def _assignments(
    current: Registry,
    service: Service,
    policies: Mapping[str, registry.Policy],
    views: Iterable[registry.Slice],
) -> dict[str, Resource]:
    resources = {}
    for scope, policy in policies.items():
        for port in service.ports:
            behind = [endpoint for view in views for name, endpoint in view if name == port.name]
            for subset in ("", *policy.subsets):
                labels = policy.subsets[subset].labels if subset else {}
                name = proxy.cluster_name(service.host, port.number, subset, scope)
                chosen = clusters.in_subset(behind, labels, current.labels)
                resources[name] = _resource(name, clusters.load_assignment(name, chosen))
    return resources
