"""Lists of name servers as settings have them: `192.0.2.53, corp.example=10.0.0.53:5353`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ondol.base import comma_list, names


@dataclass(frozen=True, slots=True)
class NameServers:
    servers: Sequence[str] = ()
    """Addresses, or `address:port`, for every name."""
    stubs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those for a domain and all below it."""


def parse(text: str) -> NameServers:
    """`ValueError` names what is neither a server nor a domain's server."""
    servers: list[str] = []
    stubs: dict[str, tuple[str, ...]] = {}
    for item in comma_list.items(text):
        domain, equals, server = item.rpartition("=")
        domain, server = domain.strip().lower().rstrip("."), server.strip()
        if not _is_server(server) or (equals and not names.is_dns1123_subdomain(domain)):
            raise ValueError(f"{item!r} is no name server: ADDRESS, ADDRESS:PORT or DOMAIN=ADDRESS")
        if equals:
            stubs[domain] = (*stubs.get(domain, ()), server)
        else:
            servers.append(server)
    return NameServers(tuple(servers), stubs)


def _is_server(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    has_port = bool(colon) and ":" not in host
    if has_port and not (port.isdecimal() and 0 < int(port) < 65536):
        return False
    try:
        ipaddress.ip_address(host if has_port else text)
    except ValueError:
        return False
    return True
