"""Gateway: which hosts are reachable from outside. Its definition and its findings.

Its validation is in `model.validation`, its translation in `translate.rules` and `translate.listeners`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ondol.contracts import mesh
from ondol.contracts.mesh import DEFAULT_GATEWAY
from ondol.mesh import descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds.kind import Finding, Kind
from ondol.mesh.model import istio, validation
from ondol.mesh.translate import reach
from ondol.mesh.translate.registry import Gateway, Registry
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
    for host in map(str.lower, server.hosts):
        other = taken.setdefault((port, host), gateway.origin)
        if other.name in _SHARED and other.namespace in registry.roots:
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


KIND: Final = Kind(
    resource=mesh.GATEWAY,
    short_name="gw",
    description="Which hosts are reachable from outside, at the ports of the ingress.",
    spec=istio.GatewaySpec,
    fields=descriptions.FIELDS,
    validate=validation.gateway,
    contest=_contest,
)
