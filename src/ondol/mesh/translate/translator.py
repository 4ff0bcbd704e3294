"""The whole translation: everything the mesh is made from, in; one consistent snapshot, out.

`Translator.translate` is a function of its argument; what it remembers only saves work, so that a
pod's change makes that pod's resources and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import telemetry
from ondol.mesh.config import MeshConfig
from ondol.mesh.identity import spiffe
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Kinds, rules_with_names
from ondol.mesh.model import kube
from ondol.mesh.model.kube import Client, Service
from ondol.mesh.translate import (
    callers,
    changes,
    clusters,
    credentials,
    delegation,
    filters,
    gateways,
    governed,
    guarding,
    layouts,
    listeners,
    matches,
    origination,
    patches,
    reach,
    registry,
    rules,
    servers,
    tables,
)
from ondol.mesh.translate.cache import Cache
from ondol.mesh.translate.chains import Layout
from ondol.mesh.translate.connections import Connections, Profile
from ondol.mesh.translate.governed import Governed
from ondol.mesh.translate.guarding import Guarding
from ondol.mesh.translate.guards import Guards
from ondol.mesh.translate.matches import MESH, Caller
from ondol.mesh.translate.observed import Observing
from ondol.mesh.translate.observing import Identity
from ondol.mesh.translate.patches import Table
from ondol.mesh.translate.registry import Registry, Rule
from ondol.mesh.translate.rules import MeshRules
from ondol.mesh.translate.sources import Sources
from ondol.mesh.translate.views import View, Views
from ondol.mesh.translate.world import PodPlan, Translation, World
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource, Snapshot

_HTTP_PORTS: Final = (80,)
"""Ports that have an HTTP chain though no service may have them."""


@dataclass(slots=True)
class _Era:
    """What stays as it is while services and the mesh's objects do, however pods and endpoints change."""

    key: tuple[Any, ...]
    registry: Registry
    rules: MeshRules
    named: Sequence[changes.Named]
    tables: tables.Tables
    connections: Connections
    filters: filters.Filters
    mutual_services: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    """Services some of whose endpoints are dialled with mutual TLS (`governed.mutual_services`)."""
    trust_domain: str = ""
    as_called: tuple[str, ...] | None = None
    """Clusters whose connections go where their callers' were going; None before somebody asks."""
    views: Views = field(default_factory=Views)
    layouts: dict[tuple[View, Profile], Layout] = field(default_factory=dict)
    """By what callers see, and by what of them rules tell apart."""
    shown: tuple[Key, ...] = ()
    """The Secrets that DestinationRules name."""
    tables_by_name: dict[str, Resource] = field(default_factory=dict)
    own: dict[types.TypeUrl, dict[str, Resource]] = field(default_factory=dict)
    """What was made of services and objects alone: clusters, the ingress, resources of further kinds."""
    ingress: gateways.Ingress = field(default_factory=gateways.Ingress)
    governed: dict[tuple[str, str], Governed] = field(default_factory=dict)
    """By host and the namespace that it is for, every service with what DestinationRules say of it."""


class Translator:
    def __init__(self, config: MeshConfig, kinds: Kinds = KINDS) -> None:
        self._config = config
        self._kinds = kinds
        self.cache = Cache()
        self._remembered = tables.Remembered(self.cache)
        self._sources = Sources(self.cache, kinds, config.cluster_domain, roots(config))
        self._layouts: dict[tuple[View, Profile], Layout] = {}
        """Of the era before: one that is equal stays the same object, for whoever goes by identity."""
        self._era: _Era | None = None
        self._guarding = Guarding(config, self.cache)
        self._observing = Observing(config, self.cache)

    def translate(self, world: World) -> Translation:
        current = self._registry(world)
        clients = self._clients(world)
        self._observing.use(world, current)
        guards = self._guarding.guards(world, current, clients, roots(self._config))
        era = self._era_of(world, current, governed.mutual_services(current, guards))
        listeners_of_pods, tables_in_use, plans = self._pods(clients, era, current)
        arrived = self._guarding.resources(era.registry, guards, self._observing.of)
        plans = guarding.completed(plans, guards)
        own_listeners = self._outbound(era, tables_in_use)
        inspectors = sorted({each for plan in plans.values() for each in plan.inspectors})
        own_clusters = {name: self._way_to_inspector(name) for name in inspectors} | self._fixed_clusters()
        own_clusters |= self._as_called(era, guards, own_clusters)
        snapshot = Snapshot(
            _joined(
                era.own,
                {
                    types.CLUSTER: own_clusters,
                    types.ENDPOINTS: self._endpoints(era, current, guards),
                    types.LISTENER: own_listeners | listeners_of_pods,
                    types.ROUTES: tables_in_use,
                    types.SECRET: {each.name: each for each in _secrets(world, era)},
                },
                {types.SECRET: self._guarding.secrets(world)},
                arrived,
            )
        )
        self.cache.end_translation()
        return Translation(snapshot, plans, current, era.rules, ingress_ports(self._config))

    # What there is. Documents do not change while they live, so their identity stands for them.

    def _registry(self, world: World) -> Registry:
        registry = self._sources.registry(world)
        registry.filters = self._filters(world)
        if registry.asks_for_places:
            places = {registry.place_of(client) for client in self._clients(world)}
            registry.places = tuple(sorted(places - {""}))
        return registry

    def _filters(self, world: World) -> filters.Filters:
        """The EnvoyFilters, each read once for as long as they are all the same."""
        listed = world.of("EnvoyFilter")
        key = ("filters", *(rule.origin for rule in listed))
        make = partial(filters.compiled, listed, roots(self._config), self._config.cluster_domain)
        return self.cache.of_translation.get(key, make)

    def _era_of(
        self, world: World, current: Registry, mutual_services: Mapping[Key, tuple[str, ...]]
    ) -> _Era:
        named, wide = (
            rules_with_names(self._kinds, world.rules, named=is_named) for is_named in (True, False)
        )
        key = (
            tuple(current.everything()),
            tuple(rule.origin for rule in named),
            tuple(each.shape for each in world.terminations),
            world.credentials.shape,
            current.calls_out,
            tuple(sorted(mutual_services.items())),
            world.options.trust_domain,
            current.places,
            self._observing.ingress,
            tuple(rule.origin for rule in wide),
        )
        if self._era is None or self._era.key != key:
            world = replace(world, rules=delegation.join(world.rules, current))
            named = rules_with_names(self._kinds, world.rules, named=True)
            with_names = [(rule, self._names(rule)) for rule in named]
            self._era = self._begin_era(world, current, key, with_names, mutual_services)
        return self._era

    def _begin_era(
        self,
        world: World,
        current: Registry,
        key: tuple[Any, ...],
        named: Sequence[changes.Named],
        mutual_services: Mapping[Key, tuple[str, ...]],
    ) -> _Era:
        # A failure on the way leaves no era, so that nothing of this one is taken for an earlier one's.
        before, self._era, concerned = self._era, None, None
        self._layouts = before.layouts if before is not None else {}
        if before is not None and before.key[-1] == key[-1]:
            concerned = changes.concerned((before.registry, current), (before.named, named))
        self.cache.begin_era(concerned.hosts if concerned else None, concerned.rules if concerned else None)
        mesh_rules = MeshRules(current, world.virtual_services)
        maker = tables.Tables(current, mesh_rules, self._remembered)
        carried = Connections(current, mesh_rules, world.virtual_services)
        domain = world.options.trust_domain
        era = _Era(key, current, mesh_rules, named, maker, carried, current.filters, mutual_services, domain)
        era.views = Views(tuple(world.sidecars), self._config.registry_only)
        era.governed = self._governed(current, before)
        era.shown = origination.shown(world.destination_rules)
        era.ingress = self._ingress(world, maker)
        era.own = _joined(
            {types.CLUSTER: era.filters.clusters(self._clusters(era))},
            {types.EXTENSION: era.filters.extensions()},
            {types.LISTENER: era.ingress.listeners, types.ROUTES: era.ingress.tables},
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
            ("names", rule.identity), partial(names, rule, self._config.cluster_domain)
        )

    # Clusters and endpoints

    def _governed(self, current: Registry, before: _Era | None) -> dict[tuple[str, str], Governed]:
        """By host and scope; of services that stayed as the era before had it, if the same rules govern."""
        same = before is not None and current.is_governed_as(before.registry)
        earlier = before.governed if before is not None and same else {}
        return {
            (host := (service.host, service.scope)): stored
            if (stored := earlier.get(host)) is not None and stored.service is service
            else governed.governed(current, service)
            for service in current.everything()
        }

    def _clusters(self, era: _Era) -> dict[str, Resource]:
        """The clusters of all services: no pod and no endpoint changes them."""
        resources: dict[str, Resource] = {}
        for each in era.governed.values():
            listed = era.mutual_services.get(each.service.key)
            peers = governed.peers(each.service, era.trust_domain, listed) if listed is not None else ()
            key = ("clusters", id(each.service), each.origins, peers)
            arguments = (era.registry, each, self._config, peers)
            resources.update(
                self.cache.of_era.get(key, partial(governed.service_clusters, *arguments), each.service)
            )
        return resources

    def _endpoints(self, era: _Era, current: Registry, guards: Guards) -> dict[str, Resource]:
        """What stands behind the clusters, service by service."""
        assigned: dict[str, Resource] = {}
        for each in era.governed.values():
            service = each.service
            views = current.slices.get(service.key, [])
            labels = _labels(current, service) if each.has_subsets or current.places else []
            where = tuple(current.nodes.items()) if current.places else ()
            guarded = guards.state((each for view in views for _, each in view), service.key)
            workloads = tuple(_workloads(current, service))
            views_and_labels = map(id, (*views, *labels))
            key = ("endpoints", id(service), each.origins, where, guarded, workloads, *views_and_labels)
            make = partial(governed.assignments, current, each, views, guards)
            assigned.update(self.cache.of_translation.get(key, make, (service, views, labels)))
        return assigned

    def _as_called(
        self, era: _Era, guards: Guards, fixed: Mapping[str, Resource]
    ) -> Iterator[tuple[str, Resource]]:
        """Clusters whose connections go where their callers' were going: to guarded pods by mutual TLS."""
        addresses = guards.addresses
        if not addresses:
            return
        if era.as_called is None:
            listed = (
                name
                for each in era.governed.values()
                for name in governed.dialled_as_called(era.registry, each)
            )
            era.as_called = (clusters.PASSTHROUGH, *listed)
        get, domain = self.cache.of_translation.get, era.trust_domain
        added = get(("addresses", addresses, domain), partial(governed.to_addresses, addresses, domain))
        for name in era.as_called:
            base = fixed.get(name) or era.own[types.CLUSTER].get(name)
            if base is not None:
                make = partial(governed.with_more, base, added)
                yield name, get(("as-called", id(base), id(added)), make, (base, added))

    def _fixed_clusters(self) -> dict[str, Resource]:
        def make() -> dict[str, Resource]:
            resources = [clusters.passthrough(self._config.passthrough_mark)]
            resources += [clusters.blackhole(), clusters.arrivals()]
            if self._config.observe_address:
                resources.append(clusters.otlp(self._config.observe_address))
            return {each.name: governed.resource(each.name, each) for each in resources}

        return self.cache.of_translation.get(("fixed-clusters",), make)

    # Pods

    def _clients(self, world: World) -> list[Client]:
        """The pods whose calls are carried."""
        namespaces = {objects.name(namespace): namespace for namespace in world.namespaces}
        clients = []
        for pod in world.pods:
            namespace = namespaces.get(objects.namespace(pod))
            client = self.cache.of_translation.get(
                ("client", id(pod), id(namespace)), partial(kube.client, pod, namespace), (pod, namespace)
            )
            if client is not None:
                clients.append(client)
        return clients

    def _pods(
        self, clients: Iterable[Client], era: _Era, current: Registry
    ) -> tuple[dict[str, Resource], dict[str, Resource], dict[Key, PodPlan]]:
        pod_listeners: dict[str, Resource] = {}
        used: dict[str, Resource] = {}
        plans: dict[Key, PodPlan] = {}
        by_caller: dict[tuple[View, str], dict[int, str]] = {}
        for client in clients:
            view, who = self._view(era, client), current.caller_of(client)
            names = by_caller.get((view, who))
            if names is None:
                names = by_caller[view, who] = self._tables(era, view, who, used)
            layout = self._layout(era, view, who, client.labels)
            if view.registry_only:
                layout = self._with_pods(layout, view, current)
            listener, *inspectors = self._pod_listeners(client, layout, names, era, view.suffix)
            pod_listeners.update((each.name, each) for each in (listener, *inspectors))
            inspecting = tuple(each.name for each in inspectors)
            plans[client.key] = PodPlan(client.key, listener.name, tuple(names.values()), inspecting)
        return pod_listeners, used, plans

    def _view(self, era: _Era, client: Client) -> View:
        make = partial(era.views.of, client.key.namespace, client.labels)
        return self.cache.of_translation.get(("view", id(client), id(era.views)), make, (client, era.views))

    def _layout(self, era: _Era, view: View, who: str, labels: Mapping[str, str]) -> Layout:
        """What the services ask of the listeners of a caller's pods with such labels, as they see them."""
        profile = era.connections.profile(who, labels)
        if view.is_plain:
            view = replace(view, namespace=callers.parse(profile.who).namespace)
        layout = era.layouts.get((view, profile))
        if layout is None:
            layout = layouts.layout(
                era.registry,
                _HTTP_PORTS,
                profile,
                era.connections,
                view,
                unknown=tables.unknown_cluster(era.registry, view, profile.who),
                resolvers=self._config.resolvers,
            )
            earlier = self._layouts.get((view, profile))
            layout = earlier if earlier == layout and earlier is not None else layout
            era.layouts[view, profile] = layout
        return layout

    def _with_pods(self, layout: Layout, view: View, current: Registry) -> Layout:
        """What is registered are the pods of headless services, too, by addresses that come and go."""
        services = layouts.headless(current, view)
        views = [view for service in services for view in current.slices.get(service.key, ())]
        key = ("with-pods", id(layout), *map(id, (*services, *views)))
        make = partial(layouts.with_pods, layout, current, services)
        return self.cache.of_translation.get(key, make, (layout, services, views))

    def _tables(self, era: _Era, view: View, who: str, used: dict[str, Resource]) -> dict[int, str]:
        """The names of the tables that a caller's pods follow, by port; the tables go into `used`."""
        names = {}
        for port in sorted(self._layout(era, view, who, {}).http_ports):
            name = names[port] = tables.table_name(port, who, view)
            if name not in era.tables_by_name:
                namespace = callers.parse(who).namespace
                caller = Caller(port, frozenset({MESH}), namespace, who if who != namespace else "", view)
                chosen = era.filters.on_tables(namespace, callers.parse(who).groups)
                of = Table(port, patches.OUTBOUND)
                era.tables_by_name[name] = filters.table(era.tables.mesh(name, caller), of, chosen)
            used[name] = era.tables_by_name[name]
        return names

    def _pod_listeners(
        self, client: Client, layout: Layout, names: dict[int, str], era: _Era, suffix: str
    ) -> list[Resource]:
        """The pod's own, then its workload's for what is undeclared and for what goes by TLS' name."""
        get, namespace = self.cache.of_translation.get, client.key.namespace
        chosen = era.filters.on_listeners(namespace, client.labels)
        observed = self._observing.of(client)
        labels = matches.labels_text(client.labels)
        own_name = spiffe.identity(era.trust_domain, namespace, client.account)
        described = client.described._replace(principal=own_name).packed()
        identity = Identity(client.workload, namespace, client.revision, labels, own_name, described)
        patches = (each.rule.origin for each in chosen)
        key = (id(layout), identity, suffix, observed, *names.values(), *patches)
        make_common = partial(listeners.common, layout, observed.outbound, suffix, own_name)
        common = get(("common", id(layout), suffix, own_name, observed.outbound), make_common, layout)
        arguments = (common, identity, names)
        shared = get(
            ("listener", *key), partial(filters.shared, partial(listeners.shared, *arguments), chosen), layout
        )
        blamed = (*shared[1], *observed.origins)
        make = partial(listeners.pod, client, self._config.netns_dir, shared[0], layout.origins, blamed)
        own = [get(("pod-listener", client.key, client.uid, id(shared), layout.origins), make, shared)]
        if layout.inspected_ports:
            inspect = partial(filters.inside, partial(listeners.inspector, *arguments), chosen)
            own.append(get(("inspector", *key), inspect, layout))
        if layout.named:
            of_names = partial(listeners.names_inspector, common, identity)
            read = partial(filters.inside, of_names, chosen)
            own.append(get(("names-inspector", *key), read, layout))
        return own

    def _way_to_inspector(self, name: str) -> Resource:
        return self.cache.of_translation.get(
            ("way", name), lambda: governed.resource(name, clusters.inspector(name))
        )

    # The platform's own parts

    def _outbound(self, era: _Era, used: dict[str, Resource]) -> dict[str, Resource]:
        """A listener for each HTTP port of services, once somebody calls them; its tables go into `used`."""
        folder = self._config.outbound_dir
        if folder is None or not era.registry.calls_out:
            return {}
        namespace = self._config.ingress_namespace
        own_name = spiffe.identity(era.trust_domain, namespace, reach.PLATFORM_WORKLOAD)
        described = telemetry.Workload(reach.PLATFORM_WORKLOAD, namespace, own_name).packed()
        identity = Identity(
            reach.PLATFORM_WORKLOAD, namespace, "latest", spiffe=own_name, described=described
        )
        own = {}
        for port, table in self._tables(era, View(namespace), namespace, used).items():
            observation = self._observing.ingress.outbound
            arguments = (folder, port, table, identity, observation)
            make = partial(listeners.outbound, *arguments)
            own[listeners.outbound_name(port)] = self.cache.of_translation.get(
                ("outbound", port, table, own_name, observation), make
            )
        return own

    # Ingress

    def _ingress(self, world: World, maker: tables.Tables) -> gateways.Ingress:
        selecting = (g for g in world.gateways if g.spec.selector.items() <= reach.INGRESS_SELECTOR.items())
        bound = [
            rule
            for rule in world.virtual_services
            if matches.gateway_names(rule.spec.gateways, rule.namespace) != {MESH}
            and rules.heard_at_ingress(rule, maker.registry)
        ]
        asked = gateways.Asked(
            servers.at_ports(selecting, ingress_ports(self._config)),
            bound,
            world.terminations,
            world.credentials,
            self._config.ingress_tls_port,
            spiffe.identity(world.options.trust_domain, reach.ISTIO_SYSTEM, reach.INGRESS_ACCOUNT),
        )
        refused = partial(port_problem, self._config)
        parts = gateways.ingress(self._config, self._observing.ingress, maker, asked, refused)
        return filters.ingress(maker.registry.filters, parts, asked.gateways)


def _secrets(world: World, era: _Era) -> Iterator[Resource]:
    """Certificates and authorities as they are now, whatever era."""
    ingress = era.ingress
    for each in world.terminations:
        yield credentials.certificate_resource(each.certificate)
    contents = world.credentials.contents
    for key in ingress.certificates:
        if (certificate := contents[key].certificate) is not None:
            yield credentials.certificate_resource(certificate)
    for key in ingress.authorities:
        if (authorities := contents[key].authorities) is not None:
            yield credentials.authorities_resource(authorities)
    for key in era.shown:
        yield from origination.secrets(key, contents)


def _joined(
    *parts: Mapping[types.TypeUrl, Mapping[str, Resource]],
) -> dict[types.TypeUrl, dict[str, Resource]]:
    """Resources of several sources, by type."""
    joined: dict[types.TypeUrl, dict[str, Resource]] = {}
    for part in parts:
        for type_url, resources in part.items():
            joined.setdefault(type_url, {}).update(resources)
    return joined


def ingress_ports(config: MeshConfig) -> dict[int, int]:
    """The port numbers of Gateways that mean the two ingress ports of this machine, their own among them."""
    return (
        dict.fromkeys(servers.INGRESS_NUMBERS, servers.INGRESS_PORT)
        | dict.fromkeys(servers.TLS_NUMBERS, servers.INGRESS_TLS_PORT)
        | {config.ingress_tls_port: servers.INGRESS_TLS_PORT, config.ingress_port: servers.INGRESS_PORT}
    )


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


def _workloads(current: Registry, service: Service) -> list[str]:
    """What statistics call the pods behind a service, in a stable order."""
    return [current.workloads.get(pod, "") for pod in sorted(current.pods_behind(service.key))]


def _labels(current: Registry, service: Service) -> list[Mapping[str, str]]:
    """The labels of the pods behind a service, in a stable order."""
    return [current.labels[pod] for pod in sorted(current.pods_behind(service.key)) if pod in current.labels]
