"""Gateway: which hosts are reachable from outside. Its definition and its findings.

Its validation is in `model.validation`, its translation in `translate.servers` and `translate.gateways`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ondol.api import objects
from ondol.api.objects import Key
from ondol.contracts import mesh
from ondol.contracts.mesh import DEFAULT_GATEWAY
from ondol.mesh import descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import SPOKEN_OTHERWISE, under
from ondol.mesh.kinds.kind import Finding, Kind
from ondol.mesh.model import istio, validation
from ondol.mesh.translate import credentials, reach, servers
from ondol.mesh.translate.registry import OF_GATEWAY_API, Gateway, Registry
from ondol.mesh.xds.types import Origin

_SHARED: Final = (DEFAULT_GATEWAY, "http.networking.k8s.io", "https.networking.k8s.io")
"""The platform's own Gateways, those of Ingresses among them."""
_INGRESS_SERVICE: Final = f"{reach.ISTIO_SYSTEM}/{reach.INGRESS_WORKLOAD}"


def _contest(dependencies: Dependencies) -> Iterator[Finding]:
    registry, ports = dependencies.translation.registry, dependencies.translation.ingress_ports
    taken: dict[tuple[int, str], Origin] = {}
    pods = [objects.labels(pod) for pod in dependencies.world.pods]
    for gateway in sorted(dependencies.world.gateways, key=lambda gateway: gateway.age):
        if not gateway.spec.selector.items() <= reach.INGRESS_SELECTOR.items():
            is_there = any(gateway.spec.selector.items() <= labels.items() for labels in pods)
            text = (
                f"the ingress gateway, which is all that serves Gateways, has not the labels "
                f"{dict(gateway.spec.selector)} but {reach.INGRESS_SELECTOR}"
            )
            yield from under(gateway.origin, text, *("KIA0302", "IST0101")[: 1 if is_there else 2])
            continue
        for server in gateway.spec.servers:
            yield from _server(gateway, server, taken, registry, ports)
    yield from _spoken_otherwise(dependencies)
    yield from _same_certificates(dependencies.world.gateways)


def _server(
    gateway: Gateway,
    server: istio.Server,
    taken: dict[tuple[int, str], Origin],
    registry: Registry,
    ingress_ports: Mapping[int, int],
) -> Iterator[Finding]:
    number = server.port.number
    port = ingress_ports.get(number, number)
    others: list[Origin] = []
    if servers.carriage(server) is servers.Carriage.NAMES:
        return  # names are had by rules, not by servers
    for host in map(str.lower, server.hosts):
        other = taken.setdefault((port, host), gateway.origin)
        if _is_shared(other.name) and other.namespace in registry.roots:
            taken[port, host] = gateway.origin  # the platform's own is for everybody to share
        elif other != gateway.origin:
            others.append(other)
            text = f"port {number} already has host {host} from Gateway {other.namespace}/{other.name}"
            yield Finding(gateway.origin, "KIA0301", text)
    for other in dict.fromkeys(others):
        for origin, rival in ((gateway.origin, other), (other, gateway.origin)):
            name = f"{rival.namespace}/{rival.name}"
            text = f"conflict with Gateway {name}: port {number}, hosts {', '.join(server.hosts)}"
            yield Finding(origin, "IST0145", text)
    if port not in ingress_ports.values():
        text = f"port {number} is served on this machine, but is none of the Service {_INGRESS_SERVICE}"
        yield Finding(gateway.origin, "IST0162", text)


def _is_shared(name: str) -> bool:
    return name in _SHARED or name.startswith(OF_GATEWAY_API)


def _spoken_otherwise(dependencies: Dependencies) -> Iterator[Finding]:
    """A port speaks one thing: what its oldest Gateway says, and at the two ingress ports HTTP and TLS."""
    selecting = [
        gateway
        for gateway in dependencies.world.gateways
        if gateway.spec.selector.items() <= reach.INGRESS_SELECTOR.items()
    ]
    for port, here in servers.asked(selecting, dependencies.translation.ingress_ports).items():
        spoken, fitting = servers.fitting(port, here)
        for gateway, server in here:
            if not any(gateway is other and server is one for other, one in fitting):
                text = (
                    f"port {server.port.number} speaks {spoken} on this machine: "
                    f"the server {server.port.name} ({server.port.protocol}) is not served"
                )
                yield Finding(gateway.origin, SPOKEN_OTHERWISE, text)


def _same_certificates(gateways: Sequence[Gateway]) -> Iterator[Finding]:
    """Clients use a connection for all names of its certificate, and each server has routes of its own."""
    showing: dict[tuple[Key, ...], dict[Origin, None]] = {}
    for gateway in gateways:
        if gateway.spec.selector.items() <= reach.INGRESS_SELECTOR.items():
            for server in gateway.spec.servers:
                for name in server.tls.credentials if _is_http2(server) and server.tls is not None else ():
                    places = credentials.places(gateway.namespace, name)
                    showing.setdefault(places, {})[gateway.origin] = None
    for places, origins in showing.items():
        for origin in origins if len(origins) > 1 else ():
            others = ", ".join(f"{each.namespace}/{each.name}" for each in origins if each != origin)
            text = (
                f"Gateway {others} has the same certificate {places[0].name}: clients that use a connection "
                "for the hosts of both are answered 404"
            )
            yield Finding(origin, "IST0138", text)


def _is_http2(server: istio.Server) -> bool:
    return server.port.protocol.upper() in ("HTTPS", "HTTP2", "GRPC")


def _credentials(dependencies: Dependencies) -> Iterator[Finding]:
    """Servers whose Secrets lack, or cannot be used: their connections are ended until they are there."""
    for gateway in dependencies.world.gateways:
        for index, server in enumerate(gateway.spec.servers):
            if server.tls is None or server.tls.mode not in istio.TERMINATING_MODES:
                continue
            shown = credentials.resolved(server.tls, gateway.namespace, dependencies.world.credentials)
            for problem in shown.problems:
                text = f"spec.servers[{index}].tls: {problem.message}"
                yield Finding(gateway.origin, problem.code, text)


KIND: Final = Kind(
    resource=mesh.GATEWAY,
    short_name="gw",
    description="Which hosts are reachable from outside, at the ports of the ingress.",
    spec=istio.GatewaySpec,
    fields=descriptions.FIELDS,
    validate=validation.gateway,
    contest=_contest,
    survey=_credentials,
)
