"""Views of Kubernetes' own kinds as the mesh reads them: services with their ports, endpoints, pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ondol.api import conditions, objects, pods
from ondol.api.objects import Key, Object
from ondol.base import addresses
from ondol.contracts import cluster, mesh

RULES_FROM: Final = "mesh.ondol.dev/rules-from"
"""Annotation of a Service: namespaces, parted by commas, whose rules for it hold for all; `*` is any."""


class Protocol(StrEnum):
    """How a port's bytes are understood."""

    HTTP = "http"
    HTTP2 = "http2"
    TCP = "tcp"
    SNIFFED = "sniffed"
    """Nothing was declared: the first bytes of a connection tell."""


_BY_NAME: Final = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "h2c": Protocol.HTTP2,
    "grpc": Protocol.HTTP2,
    "grpc-web": Protocol.HTTP,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TCP,
    "https": Protocol.TCP,
    "tls": Protocol.TCP,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
}
_SERVER_FIRST_PORTS: Final = frozenset({25, 53, 3306, 27017})
"""Where nothing is declared, these speak first or are no HTTP: waiting for a client's bytes would stall."""


def protocol(port: Mapping[str, Any]) -> Protocol:
    """What a service's port speaks: appProtocol, else the port name's prefix, else to be sniffed."""
    declared = str(port.get("appProtocol") or "").lower()
    if declared in _BY_NAME:
        return _BY_NAME[declared]
    name = str(port.get("name") or "").lower()
    for prefix in (name, name.partition("-")[0]):
        if name.startswith("grpc-web") or prefix in _BY_NAME:
            return Protocol.HTTP if name.startswith("grpc-web") else _BY_NAME[prefix]
    return Protocol.TCP if port.get("port") in _SERVER_FIRST_PORTS else Protocol.SNIFFED


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    number: int
    protocol: Protocol

    @property
    def is_http(self) -> bool:
        return self.protocol is not Protocol.TCP


@dataclass(frozen=True, slots=True)
class Service:
    key: Key
    version: str
    host: str
    """Fully qualified."""
    addresses: tuple[str, ...]
    """Cluster addresses; none for a headless service."""
    ports: tuple[ServicePort, ...]
    selects: bool
    sticky: bool = False
    """A client's calls go to the same endpoint (sessionAffinity: ClientIP)."""
    rules_from: str = ""
    """The annotation by which the owner admits other namespaces' rules, as written."""

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


def service(obj: Object, cluster_domain: str) -> Service | None:
    """The service, or None for one that is only a name for something else (ExternalName)."""
    spec = objects.spec(obj)
    if spec.get("type") == "ExternalName":
        return None
    cluster_ips = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return Service(
        key=objects.key(obj),
        version=objects.resource_version(obj),
        host=cluster.service_host(objects.name(obj), objects.namespace(obj), cluster_domain),
        addresses=tuple(a for a in cluster_ips if a and a != "None"),
        ports=tuple(
            ServicePort(str(port.get("name") or ""), int(port["port"]), protocol(port))
            for port in spec.get("ports") or ()
            if (port.get("protocol") or "TCP") == "TCP"
        ),
        selects=bool(spec.get("selector")),
        sticky=spec.get("sessionAffinity") == "ClientIP",
        rules_from=objects.annotations(obj).get(RULES_FROM, ""),
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready address behind one named port of a service, and the pod it belongs to."""

    address: str
    port: int
    pod: Key | None


def endpoints(slice_: Object) -> Iterator[tuple[str, Endpoint]]:
    """Ready endpoints of a slice by port name; those that drain or were never ready are left out.

    Addresses of the host's own loopback or link are never meant: the proxy would reach the host's
    private services with them.
    """
    ports = [
        (str(port.get("name") or ""), int(port["port"]))
        for port in slice_.get("ports") or ()
        if port.get("port") and (port.get("protocol") or "TCP") == "TCP"
    ]
    for endpoint in slice_.get("endpoints") or ():
        if not _is_ready(endpoint.get("conditions") or {}):
            continue
        target = endpoint.get("targetRef") or {}
        pod = None
        if target.get("kind") == "Pod":
            pod = Key(target.get("namespace") or objects.namespace(slice_), target.get("name") or "")
        for address in (endpoint.get("addresses") or ())[:1]:
            if not addresses.is_special(address):
                yield from ((name, Endpoint(address, number, pod)) for name, number in ports)


def _is_ready(flags: Mapping[str, Any]) -> bool:
    return flags.get("ready") is not False and not flags.get("terminating")


@dataclass(frozen=True, slots=True)
class Client:
    """A pod whose calls the mesh carries: what its listener is made of."""

    uid: str
    key: Key
    version: str
    labels: Mapping[str, str]
    workload: str
    """Canonical service name: how traces and statistics call it."""
    revision: str


def client(pod: Object, namespace: Object | None) -> Client | None:
    """The pod as a client of the mesh, from when its sandbox is up until its last process ended.

    Its calls are turned to the proxy when the sandbox is made: a label that takes it out of the mesh
    later is for the next sandbox, and this one's listener stays.
    """
    if not conditions.is_true(pod, mesh.SANDBOX_READY):
        return None
    if not mesh.in_mesh(pod, namespace) and not conditions.is_true(pod, mesh.POD_PROGRAMMED):
        return None
    if pods.is_terminal(pod):
        return None
    return Client(
        uid=objects.uid(pod),
        key=objects.key(pod),
        version=objects.resource_version(pod),
        labels=objects.labels(pod),
        workload=canonical_name(pod),
        revision=canonical_revision(pod),
    )


def canonical_name(pod: Object) -> str:
    """Istio's canonical service: its label, the app labels, else the name of what made the pod."""
    labels = objects.labels(pod)
    for label in (mesh.CANONICAL_NAME, "app.kubernetes.io/name", "app"):
        if labels.get(label):
            return labels[label]
    owner = objects.controller_of(pod)
    if owner is None:
        return objects.name(pod)
    name, _, suffix = str(owner["name"]).rpartition("-")
    is_of_deployment = owner.get("kind") == "ReplicaSet" and labels.get("pod-template-hash") == suffix
    return name if is_of_deployment else str(owner["name"])


def canonical_revision(pod: Object) -> str:
    labels = objects.labels(pod)
    for label in (mesh.CANONICAL_REVISION, "app.kubernetes.io/version", "version"):
        if labels.get(label):
            return labels[label]
    return "latest"
