"""Which server a name stands for: `web`, `web:8080`, `https:web:8443`, of pods, services and nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ondol.api import objects, resources, status
from ondol.api.objects import Object, Resource
from ondol.apiserver.ports import Destination
from ondol.base import errors
from ondol.contracts import cluster

Lookup = Callable[[Resource, str, str], Object | None]
Shuffle = Callable[[list[Any]], None]
Own = Collection[tuple[str, int]]
"""Addresses and ports of the platform's own servers that may be asked for."""
NONE_OWN: Final[Own] = ()

AGENT_PORT: Final = "10250"
"""Where clients expect a node's agent; ours is reached in another way, under the same number."""
_SCHEMES: Final = {"": "http", "http": "http", "https": "https"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORT_MAX: Final = 65535


class Named(NamedTuple):
    """The parts of a name; the port may be a number, a name or nothing."""

    scheme: str
    name: str
    port: str


def split(text: str, what: str) -> Named:
    """`name`, `name:port` or `scheme:name:port`; `BadRequest` for anything else."""
    parts = text.split(":")
    scheme, name, port = {1: ["", *parts, ""], 2: ["", *parts], 3: parts}.get(len(parts), ["", "", ""])
    if not name or scheme not in _SCHEMES:
        raise errors.BadRequest(f'invalid {what} request "{text}"')
    return Named(_SCHEMES[scheme], name, port)


def of_pod(lookup: Lookup, namespace: str, text: str) -> Destination:
    """By default the first port that a container of the pod names; also by a port's name."""
    named = split(text, "pod")
    pod = lookup(resources.POD, namespace, named.name)
    if pod is None:
        raise status.not_found(resources.POD, named.name)
    address = objects.status(pod).get("podIP") or ""
    if not is_proxyable(address):
        raise errors.BadRequest("address not allowed")
    ports = [port for c in objects.spec(pod).get("containers") or () for port in c.get("ports") or ()]
    number = next((str(p["containerPort"]) for p in ports if p.get("name") == named.port), named.port)
    if not number:
        number = str(ports[0]["containerPort"]) if ports else str(_DEFAULT_PORTS[named.scheme])
    return Destination(named.scheme, address, port_number(number))


def of_service(
    lookup: Lookup, shuffle: Shuffle, namespace: str, text: str, own: Own = NONE_OWN
) -> Destination:
    """One of its ready endpoints, which must be a pod of its namespace: by the name or number of its port.

    Or, of a Service that has none, a server of the platform's `own`.
    """
    named = split(text, "service")
    port = _port_name(lookup, namespace, named) if named.port.isdecimal() else named.port
    endpoints = lookup(resources.ENDPOINTS, namespace, named.name)
    if endpoints is None:
        if (server := _own(lookup, namespace, named, port, own)) is not None:
            return server
        raise status.not_found(resources.ENDPOINTS, named.name)
    subsets = list(endpoints.get("subsets") or ())
    if not subsets:
        raise errors.Unavailable(f'no endpoints available for service "{named.name}"')
    shuffle(subsets)
    for address, number in _addresses(subsets, port, shuffle):
        if _is_pod(lookup, namespace, address):
            return Destination(named.scheme, address["ip"], number)
    raise errors.Unavailable(f'no endpoints available for service "{text}"')


def _own(lookup: Lookup, namespace: str, named: Named, port: str, own: Own) -> Destination | None:
    """What the platform serves itself, by the slice that has its Service's name.

    No user's slice has such a server: admission refuses it. It tells its services by the host that is called.
    """
    slice_ = lookup(resources.ENDPOINT_SLICE, namespace, named.name) or {}
    if objects.labels(slice_).get(cluster.SERVICE_NAME_LABEL) != named.name:
        return None
    numbers = [each.get("port") for each in slice_.get("ports") or () if (each.get("name") or "") == port]
    for endpoint in slice_.get("endpoints") or ():
        for address in endpoint.get("addresses") or ():
            for number in numbers:
                if (address, number) in own:
                    called = cluster.service_host(named.name, namespace)
                    return Destination(named.scheme, address, int(number), called=called)
    return None


def _port_name(lookup: Lookup, namespace: str, named: Named) -> str:
    service = lookup(resources.SERVICE, namespace, named.name)
    if service is None:
        raise status.not_found(resources.SERVICE, named.name)
    for port in objects.spec(service).get("ports") or ():
        if port["port"] == int(named.port):
            return str(port.get("name") or "")
    raise errors.Unavailable(f'no service port {int(named.port)} found for service "{named.name}"')


def _addresses(subsets: Sequence[Object], port: str, shuffle: Shuffle) -> Iterator[tuple[Object, int]]:
    for subset in subsets:
        addresses = list(subset.get("addresses") or ())
        shuffle(addresses)
        for each in subset.get("ports") or ():
            if (each.get("name") or "") == port:
                yield from ((address, int(each["port"])) for address in addresses)


def _is_pod(lookup: Lookup, namespace: str, address: Object) -> bool:
    """Whether a pod has the address: endpoints are written by many, and may name any server."""
    target = address.get("targetRef") or {}
    if target.get("namespace") != namespace or not is_proxyable(address["ip"]):
        return False
    pod = lookup(resources.POD, namespace, target.get("name") or "")
    return pod is not None and any(
        ip["ip"] == address["ip"] for ip in objects.status(pod).get("podIPs") or ()
    )


def of_node(lookup: Lookup, text: str) -> Destination:
    """The node's agent, or another port of the node."""
    named = split(text, "node")
    node = lookup(resources.NODE, "", named.name)
    if node is None:
        raise status.not_found(resources.NODE, named.name)
    if named.port in ("", AGENT_PORT):
        return Destination("http", node=named.name)
    listed = objects.status(node).get("addresses") or ()
    address = next((str(each["address"]) for each in listed if each.get("type") == "InternalIP"), "")
    if not is_proxyable(address):
        raise errors.BadRequest("address not allowed")
    return Destination(named.scheme, address, port_number(named.port))


def is_proxyable(address: str) -> bool:
    """Whether it is a server of its own: neither this machine itself nor many at once nor none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # what is connected to, whose own kind it does not show
    is_special = ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified
    return not is_special and str(ip) != "255.255.255.255"


def port_number(text: str) -> int:
    """Of a port's number; `Unavailable` in the words of who would have connected to it."""
    if not (text.isascii() and text.isdecimal()):
        raise unreachable(f"dial tcp: lookup tcp/{text}: unknown port")
    if not 0 < int(text[:6]) <= _PORT_MAX:
        raise unreachable(f"dial tcp: address {text}: invalid port")
    return int(text)


def unreachable(why: str) -> errors.Unavailable:
    return errors.Unavailable(f"error trying to reach service: {why}")
