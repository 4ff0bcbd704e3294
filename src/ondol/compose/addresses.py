"""Where the parts of an instance are: sockets of its run folder, and ports that nobody else is given."""

from __future__ import annotations

from typing import Final

from ondol.base import unix_socket
from ondol.base.host_ports import HostPort
from ondol.compose.instance import Instance

DNS_PORT: Final = 53


def unix(instance: Instance, name: str) -> str:
    """The URL-like address of a part's socket."""
    return f"{unix_socket.PREFIX}{instance.socket(name)}"


def ingress_url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def ingress_tls_url(plain: str, port: int) -> str:
    """Where TLS is, beside the ingress at the URL `plain`; empty where one of them is."""
    return f"https{plain.removeprefix('http').rpartition(':')[0]}:{port}" if plain and port else ""


def inner_ports(instance: Instance) -> frozenset[int]:
    """Ports that the platform's parts listen on, but for the ingress."""
    ports = instance.ports
    inner = {ports.api, ports.observe, ports.events, ports.events_tls, ports.nats, DNS_PORT}
    return frozenset(inner) - {0}


def proxied_ports(instance: Instance) -> frozenset[int]:
    """Those of them that whoever may use services/proxy reaches: Eventing's, plain and by TLS."""
    return frozenset({instance.ports.events, instance.ports.events_tls}) - {0}


def reserved_ports(instance: Instance) -> frozenset[HostPort]:
    """What nobody else is given: at every address what others connect to, at the bridge what pods use."""
    ports, bridge = instance.ports, instance.bridge_address
    return frozenset(
        {
            HostPort("TCP", "", ports.api),
            HostPort("TCP", "", ports.ingress),
            *([HostPort("TCP", "", ports.ingress_tls)] if ports.ingress_tls else ()),
            HostPort("TCP", bridge, ports.observe),
            *(HostPort("TCP", bridge, port) for port in (ports.events, ports.events_tls) if port),
            *([HostPort("TCP", "127.0.0.1", ports.nats)] if ports.nats else ()),
            HostPort("TCP", bridge, DNS_PORT),
            HostPort("UDP", bridge, DNS_PORT),
        }
    )
