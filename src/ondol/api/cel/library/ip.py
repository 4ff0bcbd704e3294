"""Addresses: `ip('10.0.0.1').family()`, `isIP(text)`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api.cel import types as t
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library.standard import traversal, traversal_twice
from ondol.api.cel.values import Opaque, TypeValue

IP: Final = t.Type("opaque", "net.IP")
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Ip(Opaque):
    address: Address

    cel_type = TypeValue("net.IP")

    @property
    def cel_size(self) -> int:  # type: ignore[override]  # an address knows its own size
        return 4 if self.address.version == 4 else 16


def address_of(text: str) -> Address:
    """`EvaluationError` for what is no address, has a zone, or is an IPv4 address in IPv6's form."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        message = f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'  # noqa: E501  # one message
        raise EvaluationError(message) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise EvaluationError(f'IP address "{text}" with zone value is not allowed')
        if address.ipv4_mapped is not None:
            raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return address


def ip_of(text: str) -> Ip:
    return Ip(address_of(text))


def _is_ip(text: str) -> bool:
    try:
        address_of(text)
    except EvaluationError:
        return False
    return True


def _is_link_local_multicast(address: Address) -> bool:
    if address.version == 4:
        return address in ipaddress.ip_network("224.0.0.0/24")
    return address.packed[0] == 0xFF and address.packed[1] & 0x0F == 0x02


def _is_global_unicast(address: Address) -> bool:
    broadcast = address.version == 4 and int(address) == 0xFFFFFFFF
    return not (
        broadcast
        or address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
    )


def _test(name: str, id: str, run: Callable[[Address], bool]) -> Function:
    return function(name, method(f"ip_is_{id}", (IP,), t.BOOL, lambda value: run(value.address)))


def _family(value: Any) -> int:
    return int(value.address.version)


FUNCTIONS: Final[list[Function]] = [
    function("ip", overload("string_to_ip", (t.STRING,), IP, ip_of, traversal)),
    function("family", method("ip_family", (IP,), t.INT, _family)),
    function(
        "ip.isCanonical",
        overload(
            "ip_is_canonical",
            (t.STRING,),
            t.BOOL,
            lambda text: str(address_of(text)) == text,
            traversal_twice,
        ),
    ),
    _test("isUnspecified", "unspecified", lambda address: address.is_unspecified),
    _test("isLoopback", "loopback", lambda address: address.is_loopback),
    _test("isLinkLocalMulticast", "link_local_multicast", _is_link_local_multicast),
    _test("isLinkLocalUnicast", "link_local_unicast", lambda address: address.is_link_local),
    _test("isGlobalUnicast", "global_unicast", _is_global_unicast),
    function("isIP", overload("is_ip", (t.STRING,), t.BOOL, _is_ip, traversal)),
    function("string", overload("ip_to_string", (IP,), t.STRING, lambda value: str(value.address))),
]
TYPES: Final = {"net.IP": IP}
