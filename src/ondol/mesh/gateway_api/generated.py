"""The mesh's own Gateways and VirtualServices that stand for Gateway API's objects. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from ondol.mesh.gateway_api.listeners import Open
from ondol.mesh.model import istio
from ondol.mesh.translate import wire
from ondol.mesh.translate.reach import INGRESS_SELECTOR
from ondol.mesh.translate.registry import OF_GATEWAY_API, Gateway, Rule, VirtualService
from ondol.mesh.xds.types import Origin

_PASSED_ON: Final = istio.ServerTLSSettings(mode="PASSTHROUGH")


def gateway(
    namespace: str, name: str, listener: Open, hosts: tuple[str, ...], created: str | None = None
) -> Gateway:
    """A Gateway of one server, which speaks as the listener does; as old as that one's unless it is said."""
    port = istio.Port(number=listener.port, name="main", protocol=listener.spec.protocol)
    tls = None
    if listener.terminates:
        tls = istio.ServerTLSSettings(mode="SIMPLE", credential_names=listener.certificates)
    elif listener.family == "TLS":
        tls = _PASSED_ON
    spec = istio.GatewaySpec((istio.Server(port=port, hosts=hosts, tls=tls),), dict(INGRESS_SELECTOR))
    origin = Origin("Gateway", namespace, f"{OF_GATEWAY_API}{name}", _version(spec))
    return Rule(origin, listener.gateway.created if created is None else created, spec)


def rule(
    namespace: str, name: str, created: str, spec: istio.VirtualServiceSpec, on_behalf: str = ""
) -> VirtualService:
    """A VirtualService as old as its claim to its hosts; at the ingress that is of a Gateway's namespace."""
    origin = Origin("VirtualService", namespace, f"{OF_GATEWAY_API}{name}", f"{_version(spec)}:{created}")
    return Rule(origin, created, spec, on_behalf=on_behalf)


def _version(spec: istio.Struct) -> str:
    return wire.digest(msgspec.json.encode(spec))
