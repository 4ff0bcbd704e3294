"""Views of Kubernetes' own kinds as the mesh reads them: services with their ports, endpoints, pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects, pods
from ondol.api.objects import Key, Object
from ondol.base import addresses
from ondol.contracts import cluster, mesh, telemetry
from ondol.mesh.identity import spiffe
from ondol.mesh.model import coming
from ondol.mesh.model.coming import Coming
from ondol.mesh.xds.types import Origin

RULES_FROM: Final = "mesh.ondol.dev/rules-from"
"""Annotation of a Service: namespaces, parted by commas, whose rules for it hold for all; `*` is any."""


class Protocol(StrEnum):
    """How a port's bytes are understood."""

    HTTP = "http"
    HTTP2 = "http2"
    TCP = "tcp"
    TLS = "tls"
    """Bytes like TCP's; rules may look at the name that the first of them ask for."""
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
    "kubernetes.io/wss": Protocol.TLS,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
}
PROTOCOLS: Final = (
    "HTTP",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "HTTPS",
    "TLS",
    "TCP",
    "MONGO",
    "MYSQL",
    "REDIS",
)
"""What a port of an entry may speak, in whichever case it is written."""
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


def declared(word: str) -> Protocol | None:
    """What an entry's port speaks; None for a word that is none of `PROTOCOLS`."""
    return _BY_NAME[word.lower()] if word.upper() in PROTOCOLS else None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready address behind one named port of a service, and the pod it belongs to."""

    address: str
    """Or a name, where those are resolved."""
    port: int
    pod: Key | None
    node: str = ""
    locality: str = ""
    """`region/zone/subzone`, or a part of it, where neither its pod nor its node says it."""
    labels: frozenset[tuple[str, str]] | None = None
    """Of an endpoint that is no pod."""
    weight: int = 1
    stands_for_pods: bool = False
    """It hands what TLS says on to its service's pods, as it is."""

    def labels_among(self, of_pods: Mapping[Key, Mapping[str, str]]) -> Mapping[str, str]:
        """Its own, or else those of its pod."""
        if self.labels is not None:
            return dict(self.labels)
        return of_pods.get(self.pod, {}) if self.pod is not None else {}


Slice: TypeAlias = tuple[tuple[str, Endpoint], ...]
"""Ready endpoints by port name."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    number: int
    protocol: Protocol
    target: int | str = 0
    """The port of its pods, by number or name."""

    @property
    def is_http(self) -> bool:
        return self.protocol not in (Protocol.TCP, Protocol.TLS)


class Resolution(StrEnum):
    """How the addresses behind a service are known."""

    ENDPOINTS = "endpoints"
    """They are listed."""
    CALLER = "caller"
    """Whoever calls has resolved the name: a call goes where it was going."""
    DNS = "dns"
    """All addresses of the endpoints' names share the calls."""
    DNS_ROUND_ROBIN = "dns-round-robin"
    """Each new connection goes to the first address that the name has."""
    DYNAMIC = "dynamic"
    """The name that each call is for is resolved."""

    @property
    def is_listed(self) -> bool:
        """Whether the addresses come apart from the cluster (EDS)."""
        return self is Resolution.ENDPOINTS

    @property
    def has_places(self) -> bool:
        """Whether the cluster chooses among endpoints of which it knows where they are."""
        return self in (Resolution.ENDPOINTS, Resolution.DNS)


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
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the workloads behind it."""
    canonical: str = ""
    """What its label says traces are to call it; else they call it by its name."""
    scope: str = ""
    """The namespace whose calls alone it is for; empty for everybody's."""
    origins: tuple[Origin, ...] = ()
    """The objects of the mesh's kinds that it is made from; none for a Service of Kubernetes."""
    resolution: Resolution = Resolution.ENDPOINTS
    targets: Slice = ()
    """What is resolved, where names are."""
    ranges: tuple[str, ...] = ()
    """Networks whose addresses are all its own."""
    server_names: tuple[str, ...] = ()
    """The names that may be in its servers' certificates, where they are not its host's."""
    is_outside: bool = False
    """Endpoints of it were written by a user, not by Kubernetes: the proxy's connections there carry the
    mark of those whose destination a user chose."""

    coming: Coming | None = None
    """Its pods that come when it is called."""

    def port(self, number: int) -> ServicePort | None:
        return next((port for port in self.ports if port.number == number), None)


def service(obj: Object, cluster_domain: str) -> Service | None:
    """The service, or None for a mere name of something else (ExternalName) that has no ports."""
    spec = objects.spec(obj)
    leads_to = str(spec.get("externalName") or "") if spec.get("type") == "ExternalName" else ""
    if spec.get("type") == "ExternalName" and not (leads_to and spec.get("ports")):
        return None
    cluster_ips = () if leads_to else spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    ports = tuple(
        ServicePort(
            str(port.get("name") or ""),
            int(port["port"]),
            protocol(port),
            port.get("targetPort") or int(port["port"]),
        )
        for port in spec.get("ports") or ()
        if (port.get("protocol") or "TCP") == "TCP"
    )
    return Service(
        key=objects.key(obj),
        version=objects.resource_version(obj),
        host=cluster.service_host(objects.name(obj), objects.namespace(obj), cluster_domain),
        addresses=tuple(a for a in cluster_ips if a and a != "None"),
        ports=ports,
        selects=bool(spec.get("selector")),
        sticky=spec.get("sessionAffinity") == "ClientIP",
        rules_from=objects.annotations(obj).get(RULES_FROM, ""),
        selector={} if leads_to else spec.get("selector") or {},
        canonical=objects.labels(obj).get(mesh.CANONICAL_NAME, ""),
        resolution=Resolution.DNS if leads_to else Resolution.ENDPOINTS,
        targets=tuple((port.name, _named_endpoint(leads_to, port)) for port in ports if leads_to),
        is_outside=bool(leads_to),
        coming=coming.read(obj),
    )


def _named_endpoint(name: str, port: ServicePort) -> Endpoint:
    number = port.target if isinstance(port.target, int) else port.number
    return Endpoint(name.rstrip("."), number, None)


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
    stands = mesh.CARRIES_TLS in objects.labels(slice_)
    for endpoint in slice_.get("endpoints") or ():
        if not _is_ready(endpoint.get("conditions") or {}):
            continue
        target = endpoint.get("targetRef") or {}
        pod = None
        if target.get("kind") == "Pod":
            pod = Key(target.get("namespace") or objects.namespace(slice_), target.get("name") or "")
        node, zone = str(endpoint.get("nodeName") or ""), str(endpoint.get("zone") or "")
        locality = f"/{zone}" if zone else ""
        for address in (endpoint.get("addresses") or ())[:1]:
            if not addresses.is_special(address):
                of = Endpoint(address, 0, pod, node, locality, stands_for_pods=stands)
                yield from ((name, replace(of, port=number)) for name, number in ports)


def _is_ready(flags: Mapping[str, Any]) -> bool:
    return flags.get("ready") is not False and not flags.get("terminating")


_NOBODY: Final = telemetry.Workload()


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
    account: str = spiffe.DEFAULT_ACCOUNT
    """The service account that it runs as."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Of its containers, those that have names."""
    is_programmed: bool = False
    """Its containers may have started."""
    is_guarded: bool = False
    """Its proxy has once listened for what arrives, and what arrives is or will be turned to it."""
    is_turned: bool = False
    """What arrives is turned to the proxy."""
    node: str = ""
    address: str = ""
    described: telemetry.Workload = _NOBODY
    """As statistics have it, but for its identity."""


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
        account=spiffe.account(pod),
        ports=_named_ports(pod),
        is_programmed=conditions.is_true(pod, mesh.POD_PROGRAMMED),
        is_guarded=conditions.is_true(pod, mesh.POD_GUARDED),
        is_turned=conditions.is_true(pod, mesh.POD_ARRIVALS_TURNED),
        node=str(objects.spec(pod).get("nodeName") or ""),
        address=str(objects.status(pod).get("podIP") or ""),
        described=described(pod),
    )


def _named_ports(pod: Object) -> dict[str, int]:
    return {
        str(port["name"]): int(port["containerPort"])
        for container in objects.spec(pod).get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name") and port.get("containerPort")
    }


def canonical_name(pod: Object) -> str:
    """Istio's canonical service: its label, the app labels, else the name of what made the pod."""
    labels = objects.labels(pod)
    for label in (mesh.CANONICAL_NAME, "app.kubernetes.io/name", "app"):
        if labels.get(label):
            return labels[label]
    return workload_name(pod)


def workload_name(pod: Object) -> str:
    """What made the pod: a Deployment and not its ReplicaSet, or else the pod itself."""
    labels, owner = objects.labels(pod), objects.controller_of(pod)
    if owner is None:
        return objects.name(pod)
    name, _, suffix = str(owner["name"]).rpartition("-")
    is_of_deployment = owner.get("kind") == "ReplicaSet" and labels.get("pod-template-hash") == suffix
    return name if is_of_deployment else str(owner["name"])


def described(pod: Object) -> telemetry.Workload:
    """The pod's workload as Istio's metrics name it, but for its identity.

    Pods that nothing made are one workload by their labels, however many come and go.
    """
    labels = objects.labels(pod)
    return telemetry.Workload(
        name=workload_name(pod) if objects.controller_of(pod) is not None else canonical_name(pod),
        namespace=objects.namespace(pod),
        app=labels.get("app", ""),
        version=labels.get("version", ""),
        canonical_service=canonical_name(pod),
        canonical_revision=canonical_revision(pod),
    )


def canonical_revision(pod: Object) -> str:
    labels = objects.labels(pod)
    for label in (mesh.CANONICAL_REVISION, "app.kubernetes.io/version", "version"):
        if labels.get(label):
            return labels[label]
    return "latest"
