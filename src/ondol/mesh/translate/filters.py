"""The EnvoyFilters of one era: which hold for whom, and what is made of resources by them.

A resource that no patch has an effect on stays the same bytes. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ondol.mesh.translate import callers, gateways, patches, reach, registry, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.patches import EnvoyFilter, OnListener, Patches, Table
from ondol.mesh.translate.servers import Servers
from ondol.mesh.xds.types import Origin, Resource

_ORIGINS_OF_NOBODY: Final[tuple[Origin, ...]] = ()

Chosen = tuple[Patches, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """In the order in which they are applied."""

    listed: Chosen = ()

    def on_listeners(self, namespace: str, labels: Mapping[str, str]) -> Chosen:
        """Those that change the listeners of a workload."""
        return tuple(
            each for each in self.listed if each.of(*patches.ON_LISTENERS) and each.is_for(namespace, labels)
        )

    def on_arrivals(self, namespace: str, labels: Mapping[str, str]) -> Chosen:
        """Those that change what arrives at a workload, if it is guarded."""
        return tuple(
            each
            for each in self.on_listeners(namespace, labels)
            if any(patch.is_for_arrivals for patch in each.patches)
        )

    def on_tables(self, namespace: str, groups: Iterable[str]) -> Chosen:
        """Those that change the tables of a namespace's callers, which are in these groups."""
        tags = frozenset(groups)
        return tuple(
            each
            for each in self.listed
            if each.of(*patches.ON_ROUTES)
            and each.is_for(namespace, each.labels)
            and (not each.labels or tag(each) in tags)
        )

    def groups(self, namespace: str, labels: Mapping[str, str]) -> Iterator[str]:
        """The tags of those that change the tables of a pod, and not of all in its namespace."""
        for each in self.listed:
            if each.labels and each.of(*patches.ON_ROUTES) and each.is_for(namespace, labels):
                yield tag(each)

    def clusters(self, resources: Mapping[str, Resource]) -> dict[str, Resource]:
        """The same clusters, patched, and those that are added; the platform's own names stay its own."""
        meant = tuple(each for each in self.listed if each.of("CLUSTER"))
        if not meant:
            return dict(resources)
        patched = {
            name: after for name, each in resources.items() if (after := _cluster(each, meant)) is not None
        }
        return patched | dict(_added(meant, "CLUSTER", resources))

    def extensions(self) -> dict[str, Resource]:
        """Configurations of filters that listeners refer to by name (ECDS)."""
        return dict(_added(self.listed, "EXTENSION_CONFIG", {}))


def tag(each: Patches) -> str:
    return f"{callers.FILTER}{each.rule.namespace}/{each.rule.origin.name}"


def compiled(rules: Iterable[EnvoyFilter], roots: frozenset[str], domain: str) -> Filters:
    """Each in its turn; one that cannot be is to blame for it."""
    listed = []
    for rule in rules:
        with registry.blaming([rule.origin]):
            listed.append(patches.compiled(rule, roots, domain))
    return Filters(tuple(patches.ordered(listed)))


def listener(body: bytes, chosen: Chosen, context: str, name: str = "") -> tuple[bytes, tuple[Origin, ...]]:
    """An encoded listener, patched, and by whom; its name may stand in another part of it."""
    message = m.listener.Listener.FromString(body)
    maker = OnListener(context)
    message.name = message.name or name
    with registry.blaming([each.rule.origin for each in chosen]):
        maker.apply(message, chosen)
    if not maker.origins:
        return body, _ORIGINS_OF_NOBODY
    if name:
        message.ClearField("name")
    return wire.encode(message), tuple(maker.origins)


def shared(make: Callable[[], bytes], chosen: Chosen) -> tuple[bytes, tuple[Origin, ...]]:
    """What pods of one workload share of their own listeners, patched, and by whom."""
    return listener(make(), chosen, patches.OUTBOUND, patches.OF_PODS) if chosen else (make(), ())


def arriving(
    make: Callable[[], bytes], chosen: Chosen, slots: Sequence[str]
) -> tuple[bytes, tuple[Origin, ...]]:
    """What guarded pods of one workload share of the listener for what arrives, patched, and by whom."""
    body = make()
    if not chosen:
        return body, ()
    message = m.listener.Listener.FromString(body)
    with registry.blaming([each.rule.origin for each in chosen]):
        origins = patches.on_arrivals(message, chosen, slots)
    return (wire.encode(message), tuple(origins)) if origins else (body, ())


def inside(make: Callable[[], Resource], chosen: Chosen) -> Resource:
    """A listener inside the proxy that takes connections of a workload's pods, patched."""
    return patched(make(), chosen, patches.OUTBOUND)


def ingress(filters: Filters, parts: gateways.Ingress, asked: Mapping[int, Servers]) -> gateways.Ingress:
    """With those that are for the ingress gateway, which is a workload of a root namespace."""
    workload = (reach.ISTIO_SYSTEM, reach.INGRESS_SELECTOR)
    on_listeners = filters.on_listeners(*workload)
    on_tables = filters.on_tables(reach.ISTIO_SYSTEM, filters.groups(*workload))
    return replace(
        parts,
        listeners={
            name: patched(each, on_listeners, patches.GATEWAY) for name, each in parts.listeners.items()
        },
        tables={name: table(each, _served(name, asked), on_tables) for name, each in parts.tables.items()},
    )


def _served(name: str, asked: Mapping[int, Servers]) -> Table:
    """By what a table of the ingress is known: a port's, or that of one HTTPS server at it."""
    for number, here in asked.items():
        of_port = gateways.listener_name(number)
        if name == of_port:
            own = frozenset(f"{gateway.namespace}/{gateway.origin.name}" for gateway, _ in here)
            return Table(number, patches.GATEWAY, own)
        if name.startswith(f"{of_port}|"):
            own = frozenset({name.removeprefix(f"{of_port}|").partition("|")[0]})
            return Table(number, patches.GATEWAY, own)
    raise ValueError(f"no port of the ingress has a table {name}")


def patched(resource: Resource, chosen: Chosen, context: str) -> Resource:
    """A listener that is whole, patched."""
    if not chosen:
        return resource
    body, origins = listener(resource.body, chosen, context)
    return _changed(resource, body, origins)


def table(resource: Resource, of: Table, chosen: Chosen) -> Resource:
    """A route table, patched."""
    if not chosen:
        return resource
    message = m.route.RouteConfiguration.FromString(resource.body)
    with registry.blaming([each.rule.origin for each in chosen]):
        origins = patches.on_table(message, of, chosen)
    return _changed(resource, wire.encode(message), tuple(origins)) if origins else resource


def _cluster(resource: Resource, meant: Sequence[Patches]) -> Resource | None:
    listed = patches.on_cluster(resource.name, meant)
    if not listed:
        return resource
    if any(patch.operation == "REMOVE" for patch in listed):
        return None
    message = m.cluster.Cluster.FromString(resource.body)
    for patch in listed:
        with registry.blaming([patch.origin]):
            patches.merged(message, patch)
            message.name = resource.name
    origins = tuple(dict.fromkeys(patch.origin for patch in listed))
    return _changed(resource, wire.encode(message), origins)


def _added(
    meant: Sequence[Patches], apply_to: str, taken: Mapping[str, Resource]
) -> Iterator[tuple[str, Resource]]:
    """By name; who comes first has it."""
    names = set(taken) | patches.RESERVED
    for patch, value in patches.added(meant, apply_to):
        if value.name not in names:
            names.add(value.name)
            body = wire.encode(value)
            yield value.name, Resource(value.name, wire.digest(body), body, (patch.origin,))


def _changed(resource: Resource, body: bytes, origins: tuple[Origin, ...]) -> Resource:
    if not origins:
        return resource
    joined = tuple(dict.fromkeys((*resource.origins, *origins)))
    return replace(resource, version=wire.digest(body), body=body, origins=joined)
