"""Rules of NetworkPolicies, and of the networks and addresses of Services as objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields, workloads
from ondol.base import addresses
from ondol.base.errors import Cause

_CIDR: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_TYPES: Final = ("Ingress", "Egress")


def policy(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from workloads.label_selector(spec.get("podSelector") or {}, "spec.podSelector")
    for direction, field in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            for at, port in enumerate(rule.get("ports") or ()):
                yield from _port(port, f"{path}.ports[{at}]")
            for at, peer in enumerate(rule.get(field) or ()):
                yield from _peer(peer, f"{path}.{field}[{at}]")
    types = spec.get("policyTypes") or ()
    if len(types) > len(_TYPES):
        detail = "may not specify more than two policyTypes"
        yield causes.invalid("spec.policyTypes", list(types), detail)
        return
    for index, kind in enumerate(types):
        if kind not in _TYPES:
            yield causes.not_supported(f"spec.policyTypes[{index}]", kind, _TYPES)


def _port(port: Mapping[str, Any], path: str) -> Iterator[Cause]:
    protocol, first, last = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in fields.PROTOCOLS:
        yield causes.not_supported(f"{path}.protocol", protocol, ("TCP", "UDP", "SCTP"))
    if first is not None:
        yield from fields.port_or_name(f"{path}.port", first)
    if last is None:
        return
    if first is None:
        detail = "may not be specified when `port` is not specified"
        yield causes.invalid(f"{path}.endPort", last, detail)
    elif isinstance(first, str):
        detail = "may not be specified when `port` is non-numeric"
        yield causes.invalid(f"{path}.endPort", last, detail)
    else:
        if last < first:
            yield causes.invalid(f"{path}.endPort", first, "must be greater than or equal to `port`")
        yield from fields.port(f"{path}.endPort", last)


def _peer(peer: Mapping[str, Any], path: str) -> Iterator[Cause]:
    present = [
        field for field in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(field) is not None
    ]
    for field in present:
        if field == "ipBlock":
            yield from _block(peer[field], f"{path}.{field}")
        else:
            yield from workloads.label_selector(peer[field], f"{path}.{field}")
    if not present:
        yield causes.required(path, "must specify a peer")
    elif len(present) > 1 and "ipBlock" in present:
        yield causes.forbidden(path, "may not specify both ipBlock and another peer")


def _block(block: Mapping[str, Any], path: str) -> Iterator[Cause]:
    text = block.get("cidr") or ""
    network = addresses.network(text)
    if not text:
        yield causes.required(f"{path}.cidr")
    elif network is None:
        yield causes.invalid(f"{path}.cidr", text, _CIDR)
    if network is None:
        return
    for index, cut in enumerate(block.get("except") or ()):
        smaller = addresses.network(cut)
        if smaller is None:
            yield causes.invalid(f"{path}.except[{index}]", cut, _CIDR)
        elif not _is_within(smaller, network):
            yield causes.invalid(f"{path}.except[{index}]", cut, "must be a strict subset of `cidr`")


def _is_within(smaller: Any, network: Any) -> bool:
    same_family = smaller.version == network.version
    return same_family and smaller != network and bool(smaller.subnet_of(network))


def address_name(path: str, value: str) -> Iterator[Cause]:
    """An address object is called as its address is written in its one way."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        yield causes.invalid(path, value, _ADDRESS)
        return
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        yield causes.invalid(path, value, "must not be an IPv4-mapped IPv6 address")
    elif str(address) != value:
        yield causes.invalid(path, value, f'must be in canonical form ("{address}")')


def address(obj: Mapping[str, Any]) -> Iterator[Cause]:
    parent, path = objects.spec(obj).get("parentRef"), "spec.parentRef"
    if parent is None:
        yield causes.required(path)
        return
    if parent.get("group"):
        yield from fields.subdomain(f"{path}.group", parent["group"])
    for field in ("resource", "name", "namespace"):
        if parent.get(field):
            yield from fields.path_segment(f"{path}.{field}", parent[field])
        elif field != "namespace":
            yield causes.required(f"{path}.{field}")


def address_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    parent, was = objects.spec(new).get("parentRef"), objects.spec(old).get("parentRef")
    yield from fields.same("spec.parentRef", parent, was)


def service_cidr(obj: Mapping[str, Any]) -> Iterator[Cause]:
    path, cidrs = "spec.cidrs", objects.spec(obj).get("cidrs") or ()
    if not cidrs:
        yield causes.required(path, "at least one CIDR required")
    elif len(cidrs) > 2:
        yield causes.invalid(path, {"cidrs": list(cidrs)}, "may only hold up to 2 values")
    else:
        for index, cidr in enumerate(cidrs):
            yield from _strict_cidr(f"{path}[{index}]", cidr)
        networks = [addresses.network(cidr) for cidr in cidrs]
        families = [network.version for network in networks if network is not None]
        if len(families) == 2 and families[0] == families[1]:
            detail = (
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            )
            yield causes.invalid(path, list(cidrs), detail)


def _strict_cidr(path: str, text: str) -> Iterator[Cause]:
    network = addresses.network(text)
    if network is None:
        yield causes.invalid(path, text, _CIDR)
    elif ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        yield causes.invalid(path, text, "must not have bits set beyond the prefix length")
    elif str(network) != text:
        yield causes.invalid(path, text, f'must be in canonical form ("{network}")')


def service_cidr_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """A second family may be added; nothing else changes."""
    cidrs, was = objects.spec(new).get("cidrs") or [], objects.spec(old).get("cidrs") or []
    if len(cidrs) != len(was) and (len(was), len(cidrs)) != (1, 2):
        yield causes.invalid("spec.cidrs", list(cidrs), fields.IMMUTABLE)
        return
    for index, (cidr, before) in enumerate(zip(cidrs, was, strict=False)):
        yield from fields.same(f"spec.cidrs[{index}]", cidr, before)
