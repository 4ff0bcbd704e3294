"""ServiceEntry: a host outside, or of workloads that are no Service's. Its definition and its findings.

Its validation is in `model.outside_validation`, its translation in `translate.provided`, the addresses it
gets in `mesh.addresses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api.objects import Object
from ondol.contracts import mesh, scoping
from ondol.mesh import descriptions, outside_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import NOT_HEARD, under
from ondol.mesh.kinds.kind import Column, Finding, Kind
from ondol.mesh.model import outside, outside_validation
from ondol.mesh.translate import hosts, provided
from ondol.mesh.translate.provided import ServiceEntry
from ondol.mesh.xds.types import Origin

_ADDRESSES: Final[Object] = {
    "type": "array",
    "description": "Addresses that its hosts were given, by which pods find them.",
    "items": {
        "type": "object",
        "properties": {
            "value": {"type": "string", "description": "The address."},
            "host": {"type": "string", "description": "Whose it is."},
        },
    },
}


def _names(rule: ServiceEntry, cluster_domain: str) -> tuple[str, ...]:
    full = (hosts.completions(host, rule.namespace, cluster_domain) for host in rule.spec.hosts)
    return tuple(dict.fromkeys(name for completed in full for name in completed))


def _selector(rule: ServiceEntry) -> Mapping[str, str] | None:
    selector = rule.spec.workload_selector
    return None if selector is None else selector.labels


def _judge(rule: ServiceEntry, dependencies: Dependencies) -> Iterator[Finding]:
    registry = dependencies.translation.registry
    for name in rule.spec.hosts:
        host = scoping.host_of(name, rule.namespace, registry.cluster_domain)
        scopes = scoping.audience(
            rule.namespace, host, rule.spec.export_to, registry.cluster_domain, registry.roots
        )
        for scope in scopes[:1]:
            service = registry.service(host, scope)
            if service is not None and not service.origins:
                text = f"host {name} is a Service of Kubernetes, which comes first: the entry has no effect"
                yield Finding(rule.origin, NOT_HEARD, text)
            elif service is not None and rule.origin not in service.origins:
                older = _named(service.origins[0])
                text = f"host {name} already has the ServiceEntry {older}, older and resolved otherwise"
                yield Finding(rule.origin, NOT_HEARD, text)
        if rule.namespace in scopes and _is_meant_for_others(rule):
            text = (
                f"host {name} is not of namespace {rule.namespace}: the entry holds only for calls "
                f"from there; in {scoping.DEFAULTS} it would hold for all"
            )
            yield Finding(rule.origin, NOT_HEARD, text)
    if rule.spec.workload_selector is not None and not _has_endpoints(rule, dependencies):
        yield Finding(rule.origin, "KIA0004", "spec.workloadSelector: no pod or WorkloadEntry has the labels")
    yield from _odd_addresses(rule, dependencies)


def _is_meant_for_others(rule: ServiceEntry) -> bool:
    return bool(set(rule.spec.export_to) - {".", "~", rule.namespace})


def _has_endpoints(rule: ServiceEntry, dependencies: Dependencies) -> bool:
    registry = dependencies.translation.registry
    return any(
        (bool(registry.slices.get(service.key)) and any(registry.slices[service.key])) or service.targets
        for service in registry.everything()
        if rule.origin in service.origins
    )


def _odd_addresses(rule: ServiceEntry, dependencies: Dependencies) -> Iterator[Finding]:
    """What only an address can tell and has none: the first entry of a port takes all of it."""
    if dependencies.world.addresses.get(rule.origin.key) or rule.spec.addresses:
        return
    plain = [port.name for port in rule.spec.ports if port.protocol.upper() in ("", "TCP")]
    if plain:
        text = f"ServiceEntry addresses are required for this protocol: ports {', '.join(plain)}"
        yield Finding(rule.origin, "IST0134", text)


def _contest(dependencies: Dependencies) -> Iterator[Finding]:
    """Entries of one host and audience that speak differently at a port."""
    registry = dependencies.translation.registry
    spoken: dict[tuple[str, str, int], dict[str, list[Origin]]] = {}
    for rule in sorted(dependencies.world.of(mesh.SERVICE_ENTRY.kind), key=lambda rule: rule.age):
        for name in rule.spec.hosts:
            host = scoping.host_of(name, rule.namespace, registry.cluster_domain)
            for scope in scoping.audience(
                rule.namespace, host, rule.spec.export_to, registry.cluster_domain, registry.roots
            ):
                for port in rule.spec.ports:
                    by_protocol = spoken.setdefault((scope, host, port.number), {})
                    by_protocol.setdefault(port.protocol.upper() or "unset", []).append(rule.origin)
    for (_, host, number), by_protocol in spoken.items():
        if len(by_protocol) > 1:
            origins = [origin for listed in by_protocol.values() for origin in listed]
            text = (
                f"Multiple ServiceEntries ({', '.join(map(_named, origins))}) define the same host "
                f"{host} and port {number} with conflicting protocols ({', '.join(by_protocol)})"
            )
            for origin in dict.fromkeys(origins):
                yield from under(origin, text, "IST0177", "KIA1212")
        for origins in by_protocol.values():
            names = dict.fromkeys(origins)
            if len(names) > 1:
                text = f"the ServiceEntries {', '.join(map(_named, names))} have host {host} at port {number}"
                yield from (Finding(origin, "KIA1211", f"{text}: they are joined") for origin in names)


def _named(origin: Origin) -> str:
    return f"{origin.namespace}/{origin.name}"


KIND: Final[Kind[Any]] = Kind(
    resource=mesh.SERVICE_ENTRY,
    short_name="se",
    description="A host that is called as services are, and is outside or of workloads that are no pods.",
    spec=outside.ServiceEntrySpec,
    fields={**descriptions.FIELDS, **outside_descriptions.FIELDS},
    columns=(
        Column("Hosts", ".spec.hosts"),
        Column("Location", ".spec.location"),
        Column("Resolution", ".spec.resolution"),
    ),
    validate=outside_validation.service_entry,
    names=_names,
    services=provided.services,
    selector=_selector,
    status={"addresses": _ADDRESSES},
    judge=_judge,
    contest=_contest,
)
