"""IP addresses that no endpoint may have: loopback, link-local, multicast and others of no one service."""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LINK_LOCAL_MULTICAST: Final = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))


def parsed(text: str) -> Address | None:
    """The address in a text, or None; an IPv4-mapped IPv6 address is returned as the IPv4 address.

    The kernel takes `::ffff:127.0.0.1` to 127.0.0.1. A zone (`fe80::1%eth0`) is part of no address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network in a CIDR value, whatever of the address is beyond its prefix; None if it is none."""
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or parsed(address) is None:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def is_special(text: str) -> bool:
    """Whether the text is no address that a service can have, or no address at all."""
    address = parsed(text)
    return address is None or bool(objection(address))


def objection(address: Address) -> str:
    """Why an endpoint cannot have the address, in Kubernetes' words; empty if it can."""
    if address.is_unspecified:
        return "may not be unspecified (0.0.0.0 or ::)"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if any(address.version == network.version and address in network for network in _LINK_LOCAL_MULTICAST):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    if address.is_multicast:
        return "may not be a multicast address"
    if address.version == 4 and address in _THIS_NETWORK:
        return "may not be in this network (0.0.0.0/8)"  # some kernels take it for themselves
    if address == _BROADCAST:
        return "may not be the broadcast address"
    return ""


_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST: Final = ipaddress.ip_address("255.255.255.255")
