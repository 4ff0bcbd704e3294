"""What is odd about the objects of Kubernetes that are in the mesh: Services, Deployments, and conditions.

Pure. Only the command `ondol mesh analyze` tells it: they have no condition of the mesh's for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import cluster, mesh
from ondol.mesh.kinds.findings import under
from ondol.mesh.kinds.kind import Finding
from ondol.mesh.model import kube
from ondol.mesh.model.kube import Protocol
from ondol.mesh.translate import reach
from ondol.mesh.xds.types import Origin

_SYSTEM: Final = frozenset({reach.ISTIO_SYSTEM, cluster.PLATFORM_NAMESPACE, "kube-system", "kube-public"})
_OF_GATEWAY_API: Final = ("Accepted", "Programmed", "ResolvedRefs")
_WAYPOINT: Final = ("istio.io/WaypointBound",)
_NEGATIVE: Final[Mapping[str, tuple[str, ...]]] = {
    "KubernetesGateway": _OF_GATEWAY_API,
    "HTTPRoute": _OF_GATEWAY_API,
    "GRPCRoute": _OF_GATEWAY_API,
    "Service": _WAYPOINT,
    "ServiceEntry": _WAYPOINT,
    "WorkloadEntry": _WAYPOINT,
    "AuthorizationPolicy": ("ZtunnelAccepted", "WaypointAccepted"),
}
"""The conditions that something is wrong about an object if they are False."""
_NAMED_OTHERWISE: Final = {"KubernetesGateway": "Gateway"}


def findings(documents: Mapping[str, Sequence[Object]]) -> Iterator[Finding]:
    for service in documents["Service"]:
        if objects.namespace(service) not in _SYSTEM:
            yield from _ports(service)
    spaces = {objects.name(each): each for each in documents["Namespace"]}
    services: dict[str, list[Object]] = {}
    for service in documents["Service"]:
        services.setdefault(objects.namespace(service), []).append(service)
    for deployment in documents["Deployment"]:
        template = objects.spec(deployment).get("template") or {}
        namespace = objects.namespace(deployment)
        if mesh.in_mesh(template, spaces.get(namespace)):
            selecting = list(_selecting(template, services.get(namespace, ())))
            yield from _contradictions(_origin("Deployment", deployment), selecting)
    for kind, types in _NEGATIVE.items():
        for document in documents[kind]:
            yield from _conditions(kind, document, types)


def _origin(kind: str, document: Object) -> Origin:
    return Origin(kind, objects.namespace(document), objects.name(document), "")


def _ports(service: Object) -> Iterator[Finding]:
    """Ports of which nobody says what they speak."""
    origin, spec = _origin("Service", service), objects.spec(service)
    is_outside = spec.get("type") == "ExternalName"
    for index, port in enumerate(spec.get("ports") or ()):
        if str(port.get("protocol") or "TCP") != "TCP":
            continue
        place = f"spec.ports[{index}] ({port.get('port')})"
        if is_outside and (kube.protocol(port) is Protocol.SNIFFED or port.get("name") == "tcp"):
            text = f"{place}: say by its name or appProtocol what it speaks, and nothing so wide as tcp"
            yield Finding(origin, "IST0150", text)
        elif not is_outside and kube.protocol(port) is Protocol.SNIFFED:
            text = f"{place}: neither its name nor appProtocol says what it speaks: its first bytes tell"
            yield Finding(origin, "IST0118", text)


# Services of one Deployment


def _selecting(template: Mapping[str, Any], services: Sequence[Object]) -> Iterator[Object]:
    labels = objects.labels(template)
    for service in services:
        selector = objects.spec(service).get("selector") or {}
        if selector and selector.items() <= labels.items():
            yield service


def _contradictions(origin: Origin, services: Sequence[Object]) -> Iterator[Finding]:
    protocols: dict[int, dict[str, list[str]]] = {}
    ports: dict[str, dict[int, str]] = {}
    for service in services:
        for port in objects.spec(service).get("ports") or ():
            number, name = int(port["port"]), objects.name(service)
            protocols.setdefault(number, {}).setdefault(port.get("protocol") or "TCP", []).append(name)
            ports.setdefault(str(port.get("targetPort") or number), {})[number] = name
    for number, by_protocol in protocols.items():
        if len(by_protocol) > 1:
            names = ", ".join(sorted({name for listed in by_protocol.values() for name in listed}))
            text = f"port {number} has several protocols ({', '.join(by_protocol)}) in the Services {names}"
            yield Finding(origin, "IST0116", text)
    for target, by_number in ports.items():
        if len(by_number) > 1:
            names = ", ".join(sorted(set(by_number.values())))
            numbers = ", ".join(map(str, sorted(by_number)))
            text = f"its port {target} has several numbers ({numbers}) in the Services {names}"
            yield Finding(origin, "IST0137", text)


# Conditions


def _conditions(kind: str, document: Object, types: Sequence[str]) -> Iterator[Finding]:
    origin = _origin(_NAMED_OTHERWISE.get(kind, kind), document)
    listed = [*conditions.of(document)]
    status = objects.status(document)
    for parent in status.get("parents") or ():
        listed += parent.get("conditions") or ()
    for each in listed:
        is_partial = each.get("type") == "WaypointAccepted" and each.get("reason") == "PartiallyInvalid"
        if each.get("type") in types and (each.get("status") == "False" or is_partial):
            text = (
                f"{each['type']} is {each.get('status')}: {each.get('reason')}: {each.get('message') or ''}"
            )
            yield from under(origin, text, "IST0171")
