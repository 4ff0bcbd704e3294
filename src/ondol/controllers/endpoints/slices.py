"""EndpointSlices and the legacy Endpoints of a Service, from its pods. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.base import names
from ondol.contracts import cluster

SERVICE_NAME: Final = cluster.SERVICE_NAME_LABEL
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "endpointslice-controller.k8s.io"
HEADLESS: Final = "service.kubernetes.io/headless"
OVER_CAPACITY: Final = "endpoints.kubernetes.io/over-capacity"
SLICE_MAX: Final = 100
LEGACY_MAX: Final = 1000
_FAMILIES: Final = ("IPv4",)
_ZONE: Final = "topology.kubernetes.io/zone"


@dataclass(slots=True)
class Changes:
    """What to write so that the slices of a Service are right."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


@dataclass(slots=True)
class _Shape:
    """What all endpoints of a slice share, and the endpoints by what each one is."""

    family: str = ""
    ports: list[Object] = field(default_factory=list)
    endpoints: dict[str, Object] = field(default_factory=dict)


def changes(
    service: Object, members: Iterable[Object], nodes: Mapping[str, Object], existing: Sequence[Object]
) -> Changes:
    """The fewest writes from the slices there are to the slices there should be.

    An endpoint stays in the slice it is in; new ones fill slices with room before a new slice is made. A
    slice that is left without endpoints takes the place of a new one of its family, if there is one; and
    every family of the Service keeps one slice, though without endpoints.
    """
    needed = Changes()
    shapes = _by_shape(service, members, nodes)
    by_shape: dict[str, list[Object]] = {}
    for each in existing:
        by_shape.setdefault(shape_key(each.get("addressType"), each.get("ports") or ()), []).append(each)
    taken = {objects.name(each) for each in existing}
    for shape in shapes.keys() | by_shape.keys():
        _place(service, shapes.get(shape) or _Shape(), by_shape.get(shape, []), taken, needed)
    _recycle(needed)
    for family in objects.spec(service).get("ipFamilies") or _FAMILIES:
        _keep_placeholder(service, family, existing, taken, needed)
    return needed


def _place(
    service: Object, shape: _Shape, existing: Sequence[Object], taken: AbstractSet[str], needed: Changes
) -> None:
    unplaced = dict(shape.endpoints)
    staying: list[tuple[Object, list[Object]]] = []
    for each in sorted(existing, key=objects.name):
        stay = [unplaced.pop(_identity(e)) for e in each.get("endpoints") or () if _identity(e) in unplaced]
        staying.append((each, stay))
    waiting = list(unplaced.values())
    # The fullest slices first: the others may then become empty and go.
    for each, stay in sorted(staying, key=lambda pair: -len(pair[1])):
        room = SLICE_MAX - len(stay)
        _settle(service, each, stay + waiting[:room], needed)
        waiting = waiting[room:]
    index = 0
    while waiting:
        name = _name(service, shape, index)
        index += 1
        if name not in taken:
            needed.create.append(_slice(service, name, shape, waiting[:SLICE_MAX]))
            waiting = waiting[SLICE_MAX:]


def _settle(service: Object, each: Object, endpoints: list[Object], needed: Changes) -> None:
    if not endpoints:
        needed.delete.append(each)
        return
    labels = _labels(service)
    same = each.get("endpoints") == endpoints and dict(objects.labels(each)) == labels
    if not same:
        metadata = {**objects.metadata(each), "labels": labels}
        needed.update.append({**each, "metadata": metadata, "endpoints": endpoints})


def _recycle(needed: Changes) -> None:
    """One write in the place of two, and no moment at which watchers see neither slice."""
    for document in list(needed.create):
        old = next((each for each in needed.delete if each["addressType"] == document["addressType"]), None)
        if old is not None:
            needed.create.remove(document)
            needed.delete.remove(old)
            needed.update.append(
                {**document, "metadata": {**objects.metadata(old), "labels": dict(objects.labels(document))}}
            )


def _keep_placeholder(
    service: Object, family: str, existing: Sequence[Object], taken: AbstractSet[str], needed: Changes
) -> None:
    """Keep or make an empty slice for a family that is left with none."""
    doomed = [each for each in needed.delete if each["addressType"] == family]
    present = [each for each in existing if each["addressType"] == family and each not in doomed]
    if present or any(each["addressType"] == family for each in needed.create):
        return
    empty = _Shape(family)
    if doomed:
        each = doomed[0]
        needed.delete.remove(each)
        labels = _labels(service)
        if each.get("endpoints") or each.get("ports") or dict(objects.labels(each)) != labels:
            metadata = {**objects.metadata(each), "labels": labels}
            needed.update.append({**each, "metadata": metadata, "ports": [], "endpoints": []})
        return
    name = next(name for index in itertools.count() if (name := _name(service, empty, index)) not in taken)
    needed.create.append(_slice(service, name, empty, []))


def _by_shape(service: Object, members: Iterable[Object], nodes: Mapping[str, Object]) -> dict[str, _Shape]:
    """Endpoints by what must be equal within a slice: the address family and the resolved ports."""
    shapes: dict[str, _Shape] = {}
    for pod in sorted(members, key=objects.key):
        if not belongs(pod):
            continue
        ports = slice_ports(service, pod)
        for family, address in _addresses(service, pod):
            member = endpoint(service, pod, address, nodes.get(pods.node_name(pod)))
            shape = shapes.setdefault(shape_key(family, ports), _Shape(family, ports))
            shape.endpoints[_identity(member)] = member
    return shapes


def shape_key(family: Any, ports: Iterable[Mapping[str, Any]]) -> str:
    """What tells slices apart: their family and ports."""
    port_keys = sorted(
        (
            str(p.get("name") or ""),
            str(p.get("port")),
            str(p.get("protocol") or "TCP"),
            p.get("appProtocol") or "",
        )
        for p in ports
    )
    return msgspec.json.encode([family, port_keys]).decode()


def _identity(endpoint: Mapping[str, Any]) -> str:
    target = endpoint.get("targetRef") or {}
    return f"{target.get('uid')} {','.join(endpoint.get('addresses') or ())}"


def belongs(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is an endpoint at all: it has an address and has not ended."""
    return bool(objects.status(pod).get("podIP")) and not pods.is_terminal(pod)


def _addresses(service: Object, pod: Object) -> list[tuple[str, str]]:
    families = objects.spec(service).get("ipFamilies") or ()
    status = objects.status(pod)
    listed = [str(each["ip"]) for each in status.get("podIPs") or ()] or [str(status["podIP"])]
    typed = [("IPv6" if ":" in address else "IPv4", address) for address in listed]
    return [each for each in typed if not families or each[0] in families]


def slice_ports(service: Object, pod: Object) -> list[Object]:
    """The Service's ports as this pod serves them: names of container ports are looked up in it."""
    ports: list[Object] = []
    for port in objects.spec(service).get("ports") or ():
        number = _target(port, pod)
        if number is None:
            continue  # the pod has no port of that name
        resolved: Object = {
            "name": port.get("name") or "",
            "port": number,
            "protocol": port.get("protocol") or "TCP",
        }
        if port.get("appProtocol"):
            resolved["appProtocol"] = port["appProtocol"]
        ports.append(resolved)
    return ports


def _target(port: Mapping[str, Any], pod: Object) -> int | None:
    target = port.get("targetPort")
    if target is None or target == 0:
        return int(port["port"])
    if isinstance(target, int):
        return target
    protocol = port.get("protocol") or "TCP"
    spec = objects.spec(pod)
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and (offered.get("protocol") or "TCP") == protocol:
                return int(offered["containerPort"])
    return None


def endpoint(service: Object, pod: Object, address: str, node: Object | None) -> Object:
    serving = pods.is_ready(pod)
    terminating = objects.is_deleting(pod)
    ready = bool(objects.spec(service).get("publishNotReadyAddresses")) or (serving and not terminating)
    document: Object = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": reference(pod),
    }
    if pods.node_name(pod):
        document["nodeName"] = pods.node_name(pod)
    zone = objects.labels(node).get(_ZONE) if node else None
    if zone:
        document["zone"] = zone
    if ready and (hints := _hints(service, pods.node_name(pod), zone)):
        document["hints"] = hints
    spec = objects.spec(pod)
    if spec.get("hostname") and spec.get("subdomain") == objects.name(service):
        document["hostname"] = spec["hostname"]
    return document


def _hints(service: Object, node: str, zone: str | None) -> Object:
    """For whom an endpoint is, where the Service prefers those near: its own zone or node."""
    distribution = objects.spec(service).get("trafficDistribution")
    hints: Object = {}
    if zone and distribution in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        hints["forZones"] = [{"name": zone}]
    if node and distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def reference(pod: Object) -> Object:
    return {
        "kind": "Pod",
        "namespace": objects.namespace(pod),
        "name": objects.name(pod),
        "uid": objects.uid(pod),
    }


def is_headless(service: Object) -> bool:
    return objects.spec(service).get("clusterIP") == "None"


def _labels(service: Object) -> dict[str, str]:
    labels = dict(objects.labels(service))
    labels.pop(HEADLESS, None)
    if is_headless(service):
        labels[HEADLESS] = ""
    return {**labels, SERVICE_NAME: objects.name(service), MANAGED_BY: MANAGER}


def _name(service: Object, shape: _Shape, index: int) -> str:
    """A name that is the same each time it is worked out: a slice is never made twice.

    The Service's uid is in it, so that slices of an earlier one of that name are not in the way.
    """
    identity = f"{objects.uid(service)} {shape_key(shape.family, shape.ports)} {index}"
    return names.child_name(objects.name(service), f"-{names.stable_hash(identity.encode(), 8)}")


def _slice(service: Object, name: str, shape: _Shape, endpoints: list[Object]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": objects.namespace(service),
            "labels": _labels(service),
            "ownerReferences": [objects.controller_reference(service)],
        },
        "addressType": shape.family,
        "ports": shape.ports,
        "endpoints": endpoints,
    }


def legacy(service: Object, members: Iterable[Object]) -> Object:
    """The `Endpoints` object older clients read: addresses by their ports, ready and not."""
    groups: dict[str, tuple[list[Object], list[Object], list[Object]]] = {}
    always_ready = bool(objects.spec(service).get("publishNotReadyAddresses"))
    room, is_cut = LEGACY_MAX, False
    for pod in sorted(members, key=objects.key):
        if not belongs(pod) or (objects.is_deleting(pod) and not always_ready):
            continue
        ports = slice_ports(service, pod)
        group = groups.setdefault(shape_key("", ports), (ports, [], []))
        is_cut = is_cut or room == 0
        if room > 0:
            room -= 1
            ready = always_ready or pods.is_ready(pod)
            group[1 if ready else 2].append(_legacy_address(service, pod))
    annotations = {OVER_CAPACITY: "truncated"} if is_cut else {}
    subsets = [_subset(*groups[shape]) for shape in sorted(groups)]
    labels = {**objects.labels(service), MANAGED_BY: "endpoint-controller"}
    if is_headless(service):
        labels[HEADLESS] = ""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": objects.name(service),
            "namespace": objects.namespace(service),
            "labels": labels,
            **({"annotations": annotations} if annotations else {}),
        },
        **({"subsets": subsets} if subsets else {}),
    }


def _subset(ports: list[Object], ready: list[Object], unready: list[Object]) -> Object:
    subset: Object = {"addresses": ready, "notReadyAddresses": unready, "ports": ports}
    return {field: value for field, value in subset.items() if value}


def _legacy_address(service: Object, pod: Object) -> Object:
    address: Object = {"ip": objects.status(pod)["podIP"], "targetRef": reference(pod)}
    if pods.node_name(pod):
        address["nodeName"] = pods.node_name(pod)
    spec = objects.spec(pod)
    if spec.get("hostname") and spec.get("subdomain") == objects.name(service):
        address["hostname"] = spec["hostname"]
    return address
