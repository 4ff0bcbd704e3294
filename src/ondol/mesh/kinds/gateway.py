"""Gateway: which hosts are reachable from outside. Its definition and its findings.

Its validation is in `model.validation`, its translation in `translate.servers` and `translate.gateways`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ondol.contracts import mesh
from ondol.contracts.mesh import DEFAULT_GATEWAY
from ondol.mesh import descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.findings import SPOKEN_OTHERWISE
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
    for gateway in sorted(dependencies.world.gateways, key=lambda gateway: gateway.age):
        if not gateway.spec.selector.items() <= reach.INGRESS_SELECTOR.items():
            yield Finding(
                gateway.origin,
                "KIA0302",
                f"no workload has the labels {dict(gateway.spec.selector)}; "
                f"the ingress gateway has {reach.INGRESS_SELECTOR}",
            )
            continue
        for server in gateway.spec.servers:
            yield from _server(gateway, server, taken, registry, ports)
    yield from _spoken_otherwise(dependencies)


def _server(
    gateway: Gateway,
    server: istio.Server,
    taken: dict[tuple[int, str], Origin],
    registry: Registry,
    ingress_ports: Mapping[int, int],
) -> Iterator[Finding]:
    number = server.port.number
    port = ingress_ports.get(number, number)
    others = []
    if servers.carriage(server) is servers.Carriage.NAMES:
        return  # names are had by rules, not by servers
    for host in map(str.lower, server.hosts):
        other = taken.setdefault((port, host), gateway.origin)
        if _is_shared(other.name) and other.namespace in registry.roots:
            taken[port, host] = gateway.origin  # the platform's own is for everybody to share
        elif other != gateway.origin:
            others.append(f"{other.namespace}/{other.name}")
            text = f"port {number} already has host {host} from Gateway {others[-1]}"
            yield Finding(gateway.origin, "KIA0301", text)
    if others:
        names = ", ".join(dict.fromkeys(others))
        text = f"conflict with Gateway {names}: port {number}, hosts {', '.join(server.hosts)}"
        yield Finding(gateway.origin, "IST0145", text)
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
