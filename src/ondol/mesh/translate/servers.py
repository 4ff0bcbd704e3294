"""What the servers of Gateways speak, at which ports of the machine, and which of those at one port fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from ondol.mesh.model import istio
from ondol.mesh.translate import matches
from ondol.mesh.translate.registry import Gateway, VirtualService

INGRESS_PORT: Final = 80
"""What the ingress port of this machine is called, whatever its number there."""
INGRESS_TLS_PORT: Final = 443
"""The same of the port where the ingress speaks TLS."""
INGRESS_NUMBERS: Final = (80, 8080)
TLS_NUMBERS: Final = (443, 8443)
"""Numbers by which Gateways mean them: Istio's own gateway listens on 8080 and 8443 behind its Service."""

Servers: TypeAlias = Sequence[tuple[Gateway, istio.Server]]
"""Who asks to be served at one port of the ingress, the oldest Gateway first."""


class Carriage(StrEnum):
    """How far a server looks into what it takes."""

    HTTP = "http"
    """Requests, by `http` rules; in TLS that ends here or in none."""
    TCP = "tcp"
    """Bytes, by `tcp` rules; in TLS that ends here or in none."""
    NAMES = "names"
    """TLS that goes on as it is, by `tls` rules for the name that it asks for."""
    CLUSTERS = "clusters"
    """The same, to the cluster that the name itself says."""


def carriage(server: istio.Server) -> Carriage:
    protocol = server.port.protocol.upper()
    if protocol in istio.HTTP_PROTOCOLS:
        return Carriage.HTTP
    if protocol in istio.TCP_PROTOCOLS:
        return Carriage.TCP
    mode = server.tls.mode if server.tls is not None else ""
    if mode in istio.PASSTHROUGH_MODES:
        return Carriage.NAMES if mode == "PASSTHROUGH" else Carriage.CLUSTERS
    return Carriage.HTTP if protocol == "HTTPS" else Carriage.TCP


def is_tls(server: istio.Server) -> bool:
    """Whether what it takes is TLS."""
    return server.port.protocol.upper() in istio.TLS_PROTOCOLS


def redirects(server: istio.Server) -> bool:
    """Whether it answers all plain requests with HTTPS' address."""
    return server.tls is not None and server.tls.https_redirect and not is_tls(server)


def _family(server: istio.Server) -> str:
    return "TLS" if is_tls(server) else carriage(server).upper()


def routes_of(rule: VirtualService, server: istio.Server) -> Sequence[object]:
    """The routes of a rule that a server looks at."""
    spec = rule.spec
    by_carriage: Mapping[Carriage, Sequence[object]] = {
        Carriage.HTTP: spec.http,
        Carriage.TCP: spec.tcp,
        Carriage.NAMES: spec.tls,
    }
    return by_carriage.get(carriage(server), ())


def fitting(port: int, servers: Servers) -> tuple[str, list[tuple[Gateway, istio.Server]]]:
    """What is spoken at a port, and who speaks it: but for the two ingress ports the oldest decides."""
    family = {INGRESS_PORT: "HTTP", INGRESS_TLS_PORT: "TLS"}.get(port) or _family(servers[0][1])
    return family, [pair for pair in servers if _family(pair[1]) == family]


def at_ports(
    gateways: Iterable[Gateway], port_of: Mapping[int, int]
) -> dict[int, list[tuple[Gateway, istio.Server]]]:
    """The servers that are served at each port of the ingress; `port_of` joins port numbers."""
    return {port: fitting(port, listed)[1] for port, listed in asked(gateways, port_of).items()}


def asked(
    gateways: Iterable[Gateway], port_of: Mapping[int, int]
) -> dict[int, list[tuple[Gateway, istio.Server]]]:
    """Every server of each port, the oldest Gateway first."""
    servers: dict[int, list[tuple[Gateway, istio.Server]]] = {}
    for gateway in sorted(gateways, key=lambda gateway: gateway.age):
        for server in gateway.spec.servers:
            number = server.port.number
            servers.setdefault(port_of.get(number, number), []).append((gateway, server))
    return servers


def applies(
    match: istio.L4MatchAttributes | istio.TLSMatchAttributes, gateway: str, number: int, namespace: str
) -> bool:
    """Whether a match of a rule of a namespace holds at a gateway's port.

    What it asks of the caller's pod or of the address called is for calls between pods: here none has it.
    """
    if match.port is not None and match.port != number:
        return False
    if match.gateways and gateway not in matches.gateway_names(match.gateways, namespace):
        return False
    return not (match.source_labels or match.source_namespace or match.destination_subnets)


def bare_hosts(server: istio.Server) -> Iterator[str]:
    """The host patterns without the namespaces before them."""
    for host in server.hosts:
        yield host.rpartition("/")[2].lower()
