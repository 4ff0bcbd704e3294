"""Service addresses: cluster IPs and node ports, given out without a second book.

What is taken is read from the Services themselves; values of writes under way are held until those
are over, so that two of them cannot get the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

from ondol.api import objects, resources, status
from ondol.api.objects import Object
from ondol.apiserver.admission.request import Request
from ondol.apiserver.core import Core
from ondol.apiserver.strategies import services
from ondol.apiserver.strategies.base import Context
from ondol.base import errors

_TRIES: Final = 64
_HEADLESS: Final = "None"


def admit(core: Core, context: Context, request: Request) -> None:
    if request.served.resource != resources.SERVICE or request.operation == "delete" or request.subresource:
        return
    _Allocation(core, context, request).run()


class _Allocation:
    """The addresses of one Service in one write."""

    def __init__(self, core: Core, context: Context, request: Request) -> None:
        self._core = core
        self._context = context
        self._service = request.new
        self._old = request.old or {}
        self._spec: dict[str, Any] = request.new["spec"]

    def run(self) -> None:
        self._cluster_ip()
        if services.needs_node_ports(self._service):
            self._node_ports()

    def _others(self) -> Iterator[Object]:
        own = objects.key(self._service)
        for service in self._core.list_objects(resources.SERVICE):
            if objects.key(service) != own:
                yield service

    def _cluster_ip(self) -> None:
        if services.needs_address(self._service):
            self._set_ip(self._free_ip())
            return
        asked = self._spec.get("clusterIP") or ""
        if asked in ("", _HEADLESS) or asked == objects.spec(self._old).get("clusterIP"):
            return
        network = ipaddress.ip_network(self._core.config.service_cidr)
        if ipaddress.ip_address(asked) not in network:
            raise self._refused(
                "spec.clusterIPs",
                [asked],
                f"failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. "
                f"The range of valid IPs is {network}",
            )
        if asked in self._taken_ips():
            said = f"failed to allocate IP {asked}: provided IP is already allocated"
            raise self._refused("spec.clusterIPs", [asked], said)
        self._hold(asked)

    def _set_ip(self, address: str) -> None:
        self._hold(address)
        self._spec["clusterIP"] = address
        self._spec["clusterIPs"] = [address]

    def _taken_ips(self) -> set[str]:
        found = {str(objects.spec(service).get("clusterIP") or "") for service in self._others()}
        return found | {str(held) for held in self._core.held_addresses}

    def _free_ip(self) -> str:
        network = ipaddress.ip_network(self._core.config.service_cidr)
        last = network.num_addresses - 2
        # The lower band is left to addresses people choose, as in Kubernetes.
        band = min(max(16, network.num_addresses // 16), 256)
        first = band if band < last else 2
        taken = self._taken_ips()
        for _ in range(_TRIES):
            address = str(network[self._core.rng.randint(first, last)])
            if address not in taken:
                return address
        for offset in (*range(first, last + 1), *range(2, first)):
            if (address := str(network[offset])) not in taken:
                return address
        raise errors.Internal(f"failed to allocate a serviceIP: range {network} is full")

    def _node_ports(self) -> None:
        taken = self._taken_ports()
        own = {port.get("nodePort") for port in objects.spec(self._old).get("ports") or ()}
        low, high = self._core.config.node_ports
        for index, port in enumerate(self._spec.get("ports") or ()):
            asked = port.get("nodePort")
            if not asked:
                port["nodePort"] = asked = self._free_port(taken)
            elif asked not in own:
                self._check_port(index, asked, taken, range(low, high + 1))
            taken.add(asked)
            self._hold(asked)

    def _check_port(self, index: int, asked: int, taken: set[int], allowed: range) -> None:
        path = f"spec.ports[{index}].nodePort"
        if asked not in allowed:
            said = (
                "provided port is not in the valid range. The range of valid ports is "
                f"{allowed.start}-{allowed.stop - 1}"
            )
            raise self._refused(path, asked, said)
        if asked in taken:
            raise self._refused(path, asked, "provided port is already allocated")

    def _taken_ports(self) -> set[int]:
        found = {
            port["nodePort"]
            for service in self._others()
            for port in objects.spec(service).get("ports") or ()
            if port.get("nodePort")
        }
        return found | {held for held in self._core.held_addresses if isinstance(held, int)}

    def _free_port(self, taken: set[int]) -> int:
        low, high = self._core.config.node_ports
        for _ in range(_TRIES):
            port = self._core.rng.randint(low, high)
            if port not in taken:
                return port
        free = next((port for port in range(low, high + 1) if port not in taken), None)
        if free is None:
            raise errors.Internal("failed to allocate a nodePort: range is full")
        return free

    def _hold(self, value: str | int) -> None:
        self._core.held_addresses.add(value)
        self._context.held.callback(self._core.held_addresses.discard, value)

    def _refused(self, path: str, value: object, said: str) -> errors.Invalid:
        shown = f'["{value[0]}"]' if isinstance(value, list) else str(value)
        cause = errors.Cause("FieldValueInvalid", f"Invalid value: {shown}: {said}", path)
        return status.invalid(resources.SERVICE, objects.name(self._service), [cause])
