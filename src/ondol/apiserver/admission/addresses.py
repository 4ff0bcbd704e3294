"""Which addresses a user may name in Services and their endpoints: none of the platform's own.

An external IP is turned away from whom it belongs to, for everyone on this machine: with an address of
a pod, a Service or the node it would be theirs (CVE-2020-8554). An endpoint is dialled by the proxy and
the kernel on the user's behalf, from the machine itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

from ondol.api import objects, resources, status
from ondol.api.objects import Object
from ondol.api.schema import causes
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import bootstrap_policy
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.strategy import Context
from ondol.base import addresses, errors
from ondol.base.errors import Cause

_PARTS: Final = ("system:apiserver", bootstrap_policy.CONTROL, bootstrap_policy.GATEWAY)

Named = tuple[str, str, frozenset[int] | None]
"""A path, the address there, and the ports that go with it (None: every port)."""


def admit_service(parts: Parts, context: Context, request: Request) -> None:
    del context
    if request.operation != "delete" and not request.subresource:
        _check_external_ips(parts.config, request)


def admit_endpoints(parts: Parts, context: Context, request: Request) -> None:
    """Of an EndpointSlice or Endpoints."""
    if request.operation == "delete" or request.subresource or _is_part(context):
        return
    resource = request.served.resource
    former = set(_ENDPOINTS[resource](request.old or {}))
    added = [named for named in _ENDPOINTS[resource](request.new) if _beyond(named, former)]
    _refuse(resource, request.new, [c for named in added for c in _of_endpoint(parts.config, named)])


def _is_part(context: Context) -> bool:
    """The platform's own parts write its addresses: the API's, the activator's, those of host pods."""
    return context.user.name in _PARTS


def _refuse(resource: Any, obj: Object, problems: list[Cause]) -> None:
    if problems:
        raise status.invalid(resource, objects.name(obj), problems)


# External IPs


def _check_external_ips(config: ApiConfig, request: Request) -> None:
    former = set(objects.spec(request.old or {}).get("externalIPs") or ())
    listed = objects.spec(request.new).get("externalIPs") or ()
    if config.deny_external_ips and set(listed) - former:
        denial = "Use of external IPs is denied by admission control."
        name = objects.name(request.new)
        raise errors.Forbidden(f'services "{name}" is forbidden: {denial}')
    networks = [ipaddress.ip_network(text) for text in (config.pod_cidr, config.service_cidr) if text]
    problems = [
        causes.invalid(f"spec.externalIPs[{index}]", text, _belongs(networks))
        for index, text in enumerate(listed)
        if text not in former and _is_within(text, networks, config.advertise_address)
    ]
    _refuse(resources.SERVICE, request.new, problems)


def _belongs(networks: list[Any]) -> str:
    listed = ", ".join(str(network) for network in networks)
    return f"may not be an address of the platform's own pods, services or node ({listed})"


def _is_within(text: str, networks: list[Any], own: str) -> bool:
    address = addresses.parsed(text)
    if address is None:
        return False  # validation has the words for it
    return address == addresses.parsed(own) or any(
        address.version == network.version and address in network for network in networks
    )


# Endpoints


def _of_endpoint(config: ApiConfig, named: Named) -> Iterator[Cause]:
    path, text, ports = named
    address = addresses.parsed(text)
    if address is None:
        return
    services = ipaddress.ip_network(config.service_cidr)
    if address.version == services.version and address in services:
        yield causes.invalid(path, text, f"may not be the address of a service ({services})")
    elif address == addresses.parsed(config.advertise_address):
        taken = config.own_ports if ports is None else config.own_ports & ports
        if taken:
            listed = ", ".join(str(port) for port in sorted(taken))
            yield causes.invalid(path, text, f"may not be the platform itself (port {listed})")


def _beyond(named: Named, former: set[Named]) -> bool:
    """Whether the old object did not name the address with all these ports, wherever in the list."""
    _, text, ports = named
    return not any(
        text == was and (allowed is None or (ports is not None and ports <= allowed))
        for _, was, allowed in former
    )


def _numbers(ports: Any) -> frozenset[int] | None:
    """Port numbers; a port without one stands for all of them."""
    numbers = [port.get("port") for port in ports or ()]
    return None if None in numbers else frozenset(n for n in numbers if isinstance(n, int))


def _of_slice(obj: Object) -> Iterator[Named]:
    ports = _numbers(obj.get("ports"))
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        for at, text in enumerate(endpoint.get("addresses") or ()):
            yield f"endpoints[{index}].addresses[{at}]", text, ports


def _of_subsets(obj: Object) -> Iterator[Named]:
    for index, subset in enumerate(obj.get("subsets") or ()):
        ports = _numbers(subset.get("ports"))
        for field in ("addresses", "notReadyAddresses"):
            for at, address in enumerate(subset.get(field) or ()):
                yield f"subsets[{index}].{field}[{at}].ip", address.get("ip") or "", ports


_ENDPOINTS: Final = {resources.ENDPOINT_SLICE: _of_slice, resources.ENDPOINTS: _of_subsets}
