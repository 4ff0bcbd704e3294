"""Networks: `cidr('10.0.0.0/8').containsIP('10.1.2.3')`, `isCIDR(text)`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api.cel import types as t
from ondol.api.cel import values
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library.ip import IP, Ip, ip_of
from ondol.api.cel.library.standard import tenth, traversal
from ondol.api.cel.values import Opaque, TypeValue

CIDR: Final = t.Type("opaque", "net.CIDR")
_BITS: Final = re.compile(r"0|[1-9][0-9]{0,2}")
Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Cidr(Opaque):
    prefix: Interface
    """An address and how many of its bits are the network's."""

    cel_type = TypeValue("net.CIDR")

    @property
    def length(self) -> int:
        return int(self.prefix.network.prefixlen)

    @property
    def cel_size(self) -> int:  # type: ignore[override]  # a network knows its own size
        return (self.length + 7) // 8


def _cidr(text: str) -> Cidr:
    address, _, bits = text.partition("/")
    try:
        prefix = ipaddress.ip_interface(text if _BITS.fullmatch(bits) and "%" not in address else "")
    except ValueError:
        message = f'network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix("{text}"): not a prefix'  # noqa: E501  # one message
        raise EvaluationError(message) from None
    if isinstance(prefix, ipaddress.IPv6Interface) and prefix.ipv4_mapped is not None:
        message = f'network address parse error during conversion from string: IPv4-mapped IPv6 address "{address}" is not allowed'  # noqa: E501  # one message
        raise EvaluationError(message)
    return Cidr(prefix)


def _is_cidr(text: str) -> bool:
    try:
        _cidr(text)
    except EvaluationError:
        return False
    return True


def _contains_ip(outer: Cidr, inner: Ip) -> bool:
    return inner.address in outer.prefix.network


def _contains_cidr(outer: Cidr, inner: Cidr) -> bool:
    return outer.length <= inner.length and inner.prefix.ip in outer.prefix.network


def _masked(value: Cidr) -> Cidr:
    network = value.prefix.network
    return Cidr(ipaddress.ip_interface(f"{network.network_address}/{network.prefixlen}"))


def _ip_cost(args: Sequence[Any]) -> int:
    parsing = tenth(len(args[1])) if type(args[1]) is str else 0
    return (2 * values.cost_size(args[0]) + 9) // 10 + parsing


def _cidr_cost(args: Sequence[Any]) -> int:
    return _ip_cost(args) + tenth(values.cost_size(args[0])) + 1


FUNCTIONS: Final[list[Function]] = [
    function("cidr", overload("string_to_cidr", (t.STRING,), CIDR, _cidr, traversal)),
    function(
        "containsIP",
        method(
            "cidr_contains_ip_string",
            (CIDR, t.STRING),
            t.BOOL,
            lambda outer, text: _contains_ip(outer, ip_of(text)),
            _ip_cost,
        ),
        method("cidr_contains_ip_ip", (CIDR, IP), t.BOOL, _contains_ip, _ip_cost),
    ),
    function(
        "containsCIDR",
        method(
            "cidr_contains_cidr_string",
            (CIDR, t.STRING),
            t.BOOL,
            lambda outer, text: _contains_cidr(outer, _cidr(text)),
            _cidr_cost,
        ),
        method("cidr_contains_cidr", (CIDR, CIDR), t.BOOL, _contains_cidr, _cidr_cost),
    ),
    function("ip", method("cidr_ip", (CIDR,), IP, lambda value: Ip(value.prefix.ip))),
    function("prefixLength", method("cidr_prefix_length", (CIDR,), t.INT, lambda value: value.length)),
    function("masked", method("cidr_masked", (CIDR,), CIDR, _masked)),
    function("isCIDR", overload("is_cidr", (t.STRING,), t.BOOL, _is_cidr, traversal)),
    function("string", overload("cidr_to_string", (CIDR,), t.STRING, lambda value: str(value.prefix))),
]
TYPES: Final = {"net.CIDR": CIDR}
