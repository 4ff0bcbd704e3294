"""The children of channels: the Service and EndpointSlice of one, the channel behind a Channel. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import cluster, eventing
from ondol.eventing import wellknown

Document: TypeAlias = Mapping[str, Any]

_PORT_NAME: Final = "http"
_ROLE: Final = "in-memory-channel"
_MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
_PART_OF: Final = {"app.kubernetes.io/part-of": "ondol"}


@dataclass(frozen=True, slots=True)
class Plane:
    """Where the data plane listens, as pods and the proxy reach it; by TLS at `tls_port`, if at all."""

    address: str
    port: int
    tls_port: int = 0

    def ports(self) -> list[tuple[str, int, int, str]]:
        """Name, port of Services, own port and protocol of each."""
        plain = (_PORT_NAME, 80, self.port, "http")
        return [plain, ("https", 443, self.tls_port, "https")] if self.tls_port else [plain]


def service(name: str, namespace: str, plane: Plane, owner: Document, labels: Mapping[str, str]) -> Object:
    """A Service without pods: its endpoints are the data plane's."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, namespace, owner, {**_PART_OF, **labels}),
        "spec": {
            "ports": [
                {
                    "name": port_name,
                    "port": port,
                    "protocol": "TCP",
                    "appProtocol": protocol,
                    "targetPort": own,
                }
                for port_name, port, own, protocol in plane.ports()
            ]
        },
    }


def endpoint_slice(
    name: str, namespace: str, plane: Plane, owner: Document, labels: Mapping[str, str]
) -> Object:
    """The endpoints of such a Service."""
    own = {cluster.SERVICE_NAME_LABEL: name, _MANAGED_BY: wellknown.FIELD_MANAGER}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(name, namespace, owner, {**_PART_OF, **labels, **own}),
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plane.address], "conditions": {"ready": True}}],
        "ports": [
            {"name": port_name, "port": own, "protocol": "TCP", "appProtocol": protocol}
            for port_name, _, own, protocol in plane.ports()
        ],
    }


def _metadata(name: str, namespace: str, owner: Document, labels: Mapping[str, str]) -> Object:
    return {
        "name": name,
        "namespace": namespace,
        "labels": dict(labels),
        "ownerReferences": [objects.controller_reference(owner)],
    }


def channel_objects(channel: Document, plane: Plane) -> tuple[Object, Object]:
    """The Service and the EndpointSlice of an InMemoryChannel."""
    name, namespace = eventing.channel_service(objects.name(channel)), objects.namespace(channel)
    labels = {wellknown.CHANNEL_ROLE: _ROLE}
    return (
        service(name, namespace, plane, channel, labels),
        endpoint_slice(name, namespace, plane, channel, labels),
    )


def backing(channel: Document) -> Object:
    """The channel that a Channel stands for."""
    spec = objects.spec(channel)
    return of_template(
        spec.get("channelTemplate") or {},
        objects.name(channel),
        channel,
        delivery=spec.get("delivery"),
    )


def of_template(
    template: Document,
    name: str,
    owner: Document,
    *,
    delivery: Document | None = None,
    labels: Mapping[str, str] | None = None,
) -> Object:
    """A channel of a template, in its owner's namespace."""
    spec = copy.deepcopy(dict(template.get("spec") or {}))
    if delivery:
        spec["delivery"] = copy.deepcopy(dict(delivery))
    metadata = _metadata(name, objects.namespace(owner), owner, labels or {})
    if not labels:
        del metadata["labels"]
    return {
        "apiVersion": template.get("apiVersion"),
        "kind": template.get("kind"),
        "metadata": metadata,
        "spec": spec,
    }
