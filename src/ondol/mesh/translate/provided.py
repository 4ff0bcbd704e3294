"""What entries of the outside are to the mesh: services with their endpoints, as Kubernetes' Services are.

Pure. A ServiceEntry is a service for each of its hosts and each audience (`contracts.scoping`): everybody,
or single namespaces, for whose calls alone it then is. A WorkloadEntry is an endpoint of what selects it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ondol.api import conditions, objects, pods
from ondol.api.objects import Key, Object
from ondol.contracts import scoping
from ondol.mesh.model import kube, outside
from ondol.mesh.model.kube import Endpoint, Protocol, Resolution, Service, ServicePort, Slice
from ondol.mesh.translate.registry import Rule

ServiceEntry = Rule[outside.ServiceEntrySpec]
WorkloadEntry = Rule[outside.WorkloadEntrySpec]
_RESOLUTIONS: Final = {
    "NONE": Resolution.CALLER,
    "STATIC": Resolution.ENDPOINTS,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC,
}


@dataclass(frozen=True, slots=True)
class Member:
    """A workload that selectors may choose: a WorkloadEntry, or a pod that is ready."""

    address: str
    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    weight: int = 1
    locality: str = ""
    pod: Key | None = None
    node: str = ""

    def endpoint(self, port: ServicePort) -> Endpoint | None:
        """Where it has a service's port; None if nothing says so."""
        named = port.target if isinstance(port.target, str) else ""
        number = self.ports.get(port.name) or self.ports.get(named) or (0 if named else port.target)
        if named and not number:
            return None
        labels = None if self.pod is not None else frozenset(self.labels.items())
        place = int(number or port.number)
        return Endpoint(self.address, place, self.pod, self.node, self.locality, labels, self.weight)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an object's services are made from besides the object."""

    cluster_domain: str = "cluster.local"
    roots: frozenset[str] = scoping.ROOTS
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Its automatic addresses, by host."""
    members: tuple[Member, ...] = ()
    """The workloads that it selects."""


def member(entry: WorkloadEntry) -> Member:
    return _member(entry.spec)


def _member(spec: outside.WorkloadEntrySpec) -> Member:
    address = spec.address.lower().rstrip(".")
    return Member(address, spec.labels, spec.ports, spec.weight or 1, spec.locality)


def pod_member(pod: Object) -> Member | None:
    """A pod as a workload of an entry; None while it is not ready."""
    address = str(objects.status(pod).get("podIP") or "")
    is_serving = conditions.is_true(pod, "Ready") and not pods.is_terminal(pod)
    if not address or not is_serving or objects.metadata(pod).get("deletionTimestamp"):
        return None
    node = str(objects.spec(pod).get("nodeName") or "")
    return Member(address, objects.labels(pod), pod=objects.key(pod), node=node)


def chosen(members: Iterable[Member], selector: Mapping[str, str]) -> tuple[Member, ...]:
    """Those that carry all the labels; an empty selector takes all, as Istio's does."""
    return tuple(each for each in members if selector.items() <= each.labels.items())


def slice_of(ports: Iterable[ServicePort], members: Iterable[Member]) -> Slice:
    """The members as endpoints of the ports."""
    listed = list(members)
    return tuple(
        (port.name, endpoint) for port in ports for each in listed if (endpoint := each.endpoint(port))
    )


def service_ports(spec: outside.ServiceEntrySpec) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort(
            port.name,
            port.number,
            (kube.declared(port.protocol) if port.protocol else None) or Protocol.SNIFFED,
            port.target_port or port.number,
        )
        for port in spec.ports
    )


def services(rule: ServiceEntry, around: Surroundings) -> Iterator[tuple[Service, Slice]]:
    """What a ServiceEntry is, host by host, for each of its audiences."""
    spec, ports = rule.spec, service_ports(rule.spec)
    resolution = _RESOLUTIONS[spec.resolution]
    listed = [_member(each) for each in spec.endpoints]
    workloads = tuple(listed) if spec.workload_selector is None else around.members
    for name in spec.hosts:
        host = scoping.host_of(name, rule.namespace, around.cluster_domain)
        own = (Member(host, {}),) if _is_its_own_name(spec, resolution) else ()
        behind = slice_of(ports, workloads or own)
        base = Service(
            key=Key(rule.namespace, f"{rule.origin.name}/{host}"),
            version=rule.origin.version,
            host=host,
            addresses=_addresses(spec, around.addresses.get(host, "")),
            ports=ports,
            selects=spec.workload_selector is not None,
            origins=(rule.origin,),
            resolution=resolution,
            targets=() if resolution.is_listed else behind,
            ranges=tuple(text for text in spec.addresses if "/" in text and not text.endswith("/32")),
            server_names=spec.subject_alt_names,
            is_outside=True,
        )
        for scope in scoping.audience(
            rule.namespace, host, spec.export_to, around.cluster_domain, around.roots
        ):
            key = Key(base.key.namespace, f"{base.key.name}/{scope}" if scope else base.key.name)
            yield replace(base, key=key, scope=scope), behind if resolution.is_listed else ()


def _is_its_own_name(spec: outside.ServiceEntrySpec, resolution: Resolution) -> bool:
    """Whether the host itself is what is resolved."""
    selects = spec.workload_selector is not None
    return resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN) and not selects


def _addresses(spec: outside.ServiceEntrySpec, automatic: str) -> tuple[str, ...]:
    written = tuple(text.removesuffix("/32") for text in spec.addresses if _is_single(text))
    return written or ((automatic,) if automatic else ())


def _is_single(text: str) -> bool:
    return "/" not in text or text.endswith("/32")


def joined(first: Service, other: Service) -> Service:
    """Two entries' services of one host: the older's, with what the younger has besides.

    Only where both are resolved alike; else the older stands alone.
    """
    if first.resolution is not other.resolution:
        return first
    numbers = {port.number for port in first.ports}
    ports = (*first.ports, *(port for port in other.ports if port.number not in numbers))
    names = {port.name for port in ports}
    targets = (*first.targets, *(each for each in other.targets if each[0] in names))
    return replace(
        first,
        addresses=tuple(dict.fromkeys((*first.addresses, *other.addresses))),
        ranges=tuple(dict.fromkeys((*first.ranges, *other.ranges))),
        ports=ports,
        targets=tuple(dict.fromkeys(targets)),
        origins=(*first.origins, *other.origins),
    )
