"""The EndpointSlices that mirror an Endpoints object. Pure.

Follows the endpointslicemirroring controller of Kubernetes: one slice for the addresses of one family
behind one set of ports, of at most a thousand endpoints.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.apply import LAST_APPLIED
from ondol.base import names
from ondol.controllers.endpoints.slices import MANAGED_BY, SERVICE_NAME, shape_key

MANAGER: Final = "endpointslicemirroring-controller.k8s.io"
SKIP: Final = "endpointslice.kubernetes.io/skip-mirror"
ENDPOINTS_MAX: Final = 1000
_LEADER: Final = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED: Final = frozenset({LAST_APPLIED, "endpoints.kubernetes.io/last-change-trigger-time"})


def is_mirrored(endpoints: Mapping[str, Any], service: Mapping[str, Any] | None) -> bool:
    """Whether slices are made of it: its Service selects no pods, and nothing asks for none."""
    if service is None or objects.spec(service).get("selector") or objects.is_deleting(endpoints):
        return False
    return objects.labels(endpoints).get(SKIP) != "true" and _LEADER not in objects.annotations(endpoints)


@dataclass(slots=True)
class _Slice:
    """What one slice holds."""

    family: str
    ports: list[Object]
    endpoints: dict[str, Object] = field(default_factory=dict)


def documents(endpoints: Object, existing: Iterable[Object]) -> list[Object]:
    """The slices that mirror the Endpoints; an existing one of the same family and ports keeps its name."""
    named: dict[str, str] = {}
    for each in sorted(existing, key=objects.name):
        named.setdefault(shape_key(each.get("addressType"), each.get("ports") or ()), objects.name(each))
    return [
        _document(endpoints, named.get(shape) or _name(endpoints, shape), mirrored)
        for shape, mirrored in _slices(endpoints).items()
    ]


def is_current(each: Object, document: Object) -> bool:
    """Whether a slice that exists says what the document says."""
    same_labels = objects.labels(each) == objects.labels(document)
    same_annotations = objects.annotations(each) == objects.annotations(document)
    return same_labels and same_annotations and bool(each.get("endpoints") == document["endpoints"])


def _slices(endpoints: Object) -> dict[str, _Slice]:
    """By shape, so that subsets of the same ports share a slice; ready in one of them is ready."""
    slices: dict[str, _Slice] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [_port(port) for port in subset.get("ports") or ()]
        for listed, ready in (("notReadyAddresses", False), ("addresses", True)):
            for address in subset.get(listed) or ():
                _add(slices, ports, address, ready=ready)
    return slices


def _add(slices: dict[str, _Slice], ports: list[Object], address: Mapping[str, Any], *, ready: bool) -> None:
    try:
        parsed = ipaddress.ip_address(address.get("ip") or "")
    except ValueError:
        return  # no address a slice could hold; validation refuses it in Endpoints as well
    family = f"IPv{parsed.version}"
    mirrored = slices.setdefault(shape_key(family, ports), _Slice(family, ports))
    if str(parsed) in mirrored.endpoints or len(mirrored.endpoints) < ENDPOINTS_MAX:
        mirrored.endpoints[str(parsed)] = _endpoint(address, str(parsed), ready=ready)


def _endpoint(address: Mapping[str, Any], ip: str, *, ready: bool) -> Object:
    copied = {name: address[name] for name in ("hostname", "nodeName", "targetRef") if address.get(name)}
    return {"addresses": [ip], "conditions": {"ready": ready}, **copied}


def _port(port: Mapping[str, Any]) -> Object:
    copied = {"name": port.get("name") or "", "port": port["port"], "protocol": port.get("protocol") or "TCP"}
    return {**copied, "appProtocol": port["appProtocol"]} if port.get("appProtocol") else copied


def _name(endpoints: Object, shape: str) -> str:
    """A name that is the same each time it is worked out: a slice is never made twice."""
    full = f"{objects.uid(endpoints)} {shape}"
    return names.child_name(objects.name(endpoints), f"-{names.stable_hash(full.encode(), 8)}")


def _document(endpoints: Object, name: str, mirrored: _Slice) -> Object:
    labels = {
        **objects.labels(endpoints),
        SERVICE_NAME: objects.name(endpoints),
        MANAGED_BY: MANAGER,
    }
    annotations = {k: v for k, v in objects.annotations(endpoints).items() if k not in _NOT_COPIED}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": objects.namespace(endpoints),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [objects.controller_reference(endpoints)],
        },
        "addressType": mirrored.family,
        "ports": mirrored.ports,
        "endpoints": [mirrored.endpoints[ip] for ip in sorted(mirrored.endpoints)],
    }
