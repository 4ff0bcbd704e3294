"""The guarded side of the translation: who is guarded, what is made of that, and the secrets it refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts.proxy import cluster_name
from ondol.mesh.config import MeshConfig
from ondol.mesh.model.kube import Client
from ondol.mesh.policy import Context, Policies, WorkloadPolicy, selection
from ondol.mesh.translate import arrivals, filters, guards, mutual, registry, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.cache import Cache
from ondol.mesh.translate.guards import Guarded, Guards
from ondol.mesh.translate.registry import Registry
from ondol.mesh.translate.telemetry import Observed
from ondol.mesh.translate.world import PodPlan, World
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Resource


@dataclass(frozen=True, slots=True, eq=False)
class _Deciding:
    """The filters of a policy, for requests and for connections that are none."""

    requests: tuple[m.hcm.HttpFilter, ...] = ()
    connections: tuple[m.listener_components.Filter, ...] = ()
    unread: tuple[m.listener_components.Filter, ...] = ()
    """For those that may be requests, as far as anybody declared."""

    @staticmethod
    def of(policy: WorkloadPolicy, context: Context) -> _Deciding:
        return _Deciding(
            tuple(policy.http_filters(context)),
            tuple(policy.network_filters(context)),
            tuple(policy.network_filters(context, unread=True)),
        )


class Guarding:
    """Remembers what it made by what that was made of, as the translator does."""

    def __init__(self, config: MeshConfig, cache: Cache) -> None:
        self._config = config
        self._cache = cache
        self._selector = guards.Selector()

    def guards(
        self, world: World, current: Registry, clients: Iterable[Client], roots: AbstractSet[str]
    ) -> Guards:
        """Which pods are guarded, and by what."""
        rules = {kind: world.of(kind) for kind in selection.KINDS}
        origins = tuple(rule.origin for listed in rules.values() for rule in listed)
        make = partial(Policies, rules, roots, world.options)
        policies = self._cache.of_translation.get(
            ("policies", origins, id(world.options)), make, (rules, world.options)
        )
        self._selector.use(current.services.values())
        select = self._selector.selecting
        domain = world.options.trust_domain
        listed = guards.find(clients, policies, select, domain, opening=world.opening, closed=world.closed)
        namespaces = {objects.name(each): each for each in world.namespaces}
        return replace(listed, coming=guards.coming(self._selector, policies, listed, namespaces))

    def resources(
        self, current: Registry, guarded_pods: Guards, observed: Callable[[Client], Observed]
    ) -> dict[types.TypeUrl, dict[str, Resource]]:
        """Listeners of guarded pods, the filters in their slots, and the clusters that those ask."""
        if not guarded_pods.pods:
            return {}
        listeners: dict[str, Resource] = {}
        slots: dict[str, Resource] = {}
        asked: dict[str, Resource] = {}
        context = Context(partial(cluster_of, current), self._config.cluster_domain)
        for each in guarded_pods.pods.values():
            with registry.blaming(partial(each.policy.suspects, context, each.client.key.namespace)):
                decides = self._deciding(each, context)
                slots |= self._filters(each, decides)
                chosen = current.filters.on_arrivals(each.client.key.namespace, each.client.labels)
                listener = self._listener(each, decides, observed(each.client), chosen)
                listeners[listener.name] = listener
        for policy in {id(each.policy): each.policy for each in guarded_pods.pods.values()}.values():
            asked |= {each.name: _resource(each) for each in policy.jwks_clusters(context)}
        return {types.LISTENER: listeners, types.EXTENSION: slots, types.CLUSTER: asked}

    def _deciding(self, of: Guarded, context: Context) -> _Deciding:
        """The same object for equal policies, for as long as there are the same Services to ask."""
        services = self._selector.services
        key = ("deciding", of.policy, of.guard.is_open, id(services))
        make = partial(_Deciding) if of.guard.is_open else partial(_Deciding.of, of.policy, context)
        return self._cache.of_translation.get(key, make, services)

    def _filters(self, of: Guarded, decides: _Deciding) -> dict[str, Resource]:
        def make() -> dict[str, Resource]:
            ordered = arrivals.filters(of.guard, decides.requests, of.policy.origins)
            return {each.name: each for each in ordered}

        return self._cache.of_translation.get(
            ("filters", of.guard.prefix, of.policy, id(decides)), make, decides
        )

    def _listener(
        self, of: Guarded, decides: _Deciding, observed: Observed, chosen: filters.Chosen
    ) -> Resource:
        client, guard, policy = of.client, of.guard, of.policy
        patches = tuple(each.rule.origin for each in chosen)
        description = (guard.described, guard.service, observed)
        key = (guard.prefix, guard.identity, guard.ports, description, policy, id(decides), patches)
        make_body = partial(
            arrivals.shared, guard, policy, decides.connections, decides.unread, observed.inbound
        )
        make_patched = partial(filters.arriving, make_body, chosen, arrivals.slots(guard))
        shared = self._cache.of_translation.get(("arrivals", *key), make_patched, decides)
        blamed = (*shared[1], *observed.origins)
        make = partial(arrivals.pod, client, self._config.netns_dir, shared[0], policy.origins, blamed)
        return self._cache.of_translation.get(
            ("pod-arrivals", client.key, client.uid, id(shared)), make, shared
        )

    def secrets(self, world: World) -> dict[str, Resource]:
        """What workloads are known by, once the mesh has an authority."""
        if not world.roots:
            return {}
        secrets = {
            each.name: each
            for identity, issued in world.certificates.items()
            for each in self._cache.of_translation.get(
                ("certificate", identity, issued.version), partial(mutual.certificates, issued), issued
            )
        }
        trusted = mutual.roots(world.roots)
        return {**secrets, trusted.name: trusted}


def completed(plans: Mapping[Key, PodPlan], guarded_pods: Guards) -> dict[Key, PodPlan]:
    """The plans, with what guarded pods need before they may start."""
    return {
        key: plan
        if (each := guarded_pods.pods.get(key)) is None
        else replace(plan, arrivals=arrivals.pod_name(each.client), filters=arrivals.slots(each.guard))
        for key, plan in plans.items()
    }


def cluster_of(current: Registry, host: str, port: int) -> str | None:
    """The cluster of a Service's port, as anybody calls it; None if there is none."""
    service = current.services.get(host)
    return None if service is None or service.port(port) is None else cluster_name(host, port)


def _resource(message: m.cluster.Cluster) -> Resource:
    body = wire.encode(message)
    return Resource(message.name, wire.digest(body), body)
