"""The services of a world, out of Kubernetes' and of the mesh's own objects, as one registry.

Documents do not change while they live, so their identity stands for them: views are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import cluster, proxy
from ondol.mesh.identity import spiffe
from ondol.mesh.kinds.kind import Kind, Kinds, Provided, no_services
from ondol.mesh.model import kube
from ondol.mesh.model.kube import Service, Slice
from ondol.mesh.translate import locality, provided, registry
from ondol.mesh.translate.cache import Cache
from ondol.mesh.translate.provided import Member, Surroundings
from ondol.mesh.translate.registry import Registry, Rule
from ondol.mesh.translate.world import World


class Sources:
    """Makes a registry of each world; what it remembers is in the translator's cache."""

    def __init__(self, cache: Cache, kinds: Kinds, cluster_domain: str, roots: frozenset[str]) -> None:
        self._get = cache.of_translation.get
        self._kinds = kinds
        self._domain = cluster_domain
        self._roots = roots

    def registry(self, world: World) -> Registry:
        current = Registry(self._domain, roots=self._roots)
        entries = self._entries(world)
        for obj in world.services:
            service = self._get(("service", id(obj)), partial(kube.service, obj, self._domain), obj)
            if service is not None:
                self._add(current, service, entries.get(service.key.namespace, ()))
            current.calls_out |= proxy.CALLS_OUT in objects.labels(obj)
        for slice_ in world.endpoint_slices:
            owner = Key(objects.namespace(slice_), objects.labels(slice_).get(cluster.SERVICE_NAME_LABEL, ""))
            view = self._get(("slice", id(slice_)), partial(_slice, slice_), slice_)
            current.slices.setdefault(owner, []).append(view)
        of_kubernetes = frozenset(current.services)
        for service, view in self._provided(world, entries):
            if service.host not in of_kubernetes:
                self._add_provided(current, service, view)
        current.labels = {objects.key(pod): objects.labels(pod) for pod in world.pods}
        current.workloads = dict(self._workloads(world))
        current.nodes = {objects.name(node): locality.of_node(objects.labels(node)) for node in world.nodes}
        current.add_policies(world.destination_rules)
        return current

    def _workloads(self, world: World) -> Iterator[tuple[Key, str]]:
        domain = world.options.trust_domain
        for pod in world.pods:
            text = self._get(("described", id(pod), domain), partial(_described, pod, domain), pod)
            yield objects.key(pod), text

    # WorkloadEntries

    def _entries(self, world: World) -> dict[str, tuple[Member, ...]]:
        """Workloads that are no pods, by namespace, the oldest first."""
        members: dict[str, list[Member]] = {}
        for rule in sorted(world.of("WorkloadEntry"), key=lambda rule: rule.age):
            view = self._get(("workload", rule.origin), partial(provided.member, rule), rule)
            members.setdefault(rule.namespace, []).append(view)
        return {namespace: tuple(listed) for namespace, listed in members.items()}

    def _add(self, current: Registry, service: Service, entries: Sequence[Member]) -> None:
        """A Service of Kubernetes, with the WorkloadEntries that it selects."""
        members = provided.chosen(entries, service.selector) if service.selector and entries else ()
        if members:
            service, view = self._get(
                ("with-workloads", id(service), *map(id, members)),
                partial(_with_workloads, service, members),
                (service, members),
            )
            current.slices.setdefault(service.key, []).append(view)
        current.services[service.host] = service

    # Objects of the mesh's kinds

    def _provided(self, world: World, entries: Mapping[str, Sequence[Member]]) -> Iterator[Provided]:
        """Services that objects of the mesh's kinds are, the oldest object first."""
        pods_of: dict[str, tuple[Member, ...]] = {}
        for kind in self._kinds.values():
            if kind.services is no_services:
                continue
            for rule in sorted(world.of(kind.name), key=lambda rule: rule.age):
                selector = kind.selector(rule)
                members: tuple[Member, ...] = ()
                if selector is not None:
                    if rule.namespace not in pods_of:
                        pods_of[rule.namespace] = tuple(self._pods(world, rule.namespace))
                    workloads = (*entries.get(rule.namespace, ()), *pods_of[rule.namespace])
                    members = provided.chosen(workloads, selector)
                addresses = world.addresses.get(rule.origin.key, {})
                around = Surroundings(self._domain, self._roots, addresses, members)
                key = ("services", rule.origin, tuple(sorted(addresses.items())), *map(id, members))
                with registry.blaming([rule.origin]):
                    yield from self._get(key, partial(_services, kind, rule, around), (rule, members))

    def _pods(self, world: World, namespace: str) -> Iterator[Member]:
        for pod in world.pods:
            if objects.namespace(pod) == namespace:
                view = self._get(("pod-workload", id(pod)), partial(provided.pod_member, pod), pod)
                if view is not None:
                    yield view

    def _add_provided(self, current: Registry, service: Service, view: Slice) -> None:
        own = current.own.get(service.scope, {}) if service.scope else current.services
        first = own.get(service.host)
        if first is None:
            current.add(service)
        elif first.resolution is service.resolution:
            make: Callable[[], Service] = partial(provided.joined, first, service)
            service = self._get(("joined", id(first), id(service)), make, (first, service))
            current.add(service)
        else:
            return  # the older stands
        current.slices.setdefault(service.key, []).append(view)


def _with_workloads(service: Service, members: Sequence[Member]) -> Provided:
    return replace(service, is_outside=True), provided.slice_of(service.ports, members)


def _described(pod: Object, trust_domain: str) -> str:
    principal = spiffe.identity(trust_domain, objects.namespace(pod), spiffe.account(pod))
    return kube.described(pod)._replace(principal=principal).packed()


def _slice(obj: Object) -> Slice:
    return tuple(kube.endpoints(obj))


def _services(kind: Kind[Any], rule: Rule[Any], around: Surroundings) -> list[Provided]:
    return list(kind.services(rule, around))
