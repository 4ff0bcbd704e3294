"""Service addresses: cluster IPs and node ports are given out here, and checked if they are chosen."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from ondol.api import objects, resources, services, status
from ondol.api.objects import Object
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import addresses, errors

ADDRESSED: Final = ("ClusterIP", "NodePort", "LoadBalancer")
"""The types of Services that have a cluster IP."""
_TRIES: Final = 64
_HEADLESS: Final = "None"


def admit(parts: Parts, context: Context, request: Request) -> None:
    if request.operation == "delete" or request.subresource:
        return
    _Allocation(parts, context, request).run()


class _Allocation:
    """The addresses of one Service in one write."""

    def __init__(self, parts: Parts, context: Context, request: Request) -> None:
        self._config = parts.config
        self._rng = parts.rng
        self._addresses = parts.service_addresses
        self._reserved = context.reserved
        self._service = request.new
        self._old = request.old or {}
        self._spec: dict[str, Any] = request.new["spec"]
        self._key = request.served.key(request.namespace, objects.name(request.new))

    def run(self) -> None:
        self._cluster_ip()
        if _needs_node_ports(self._service):
            self._node_ports()
        if services.has_health_check(self._spec):
            self._health_check_port()

    def _is_taken(self, value: str | int) -> bool:
        return self._addresses.is_taken(value, besides=self._key)

    def _cluster_ip(self) -> None:
        if _needs_address(self._service):
            self._set_ip(self._free_ip())
            return
        chosen = self._spec.get("clusterIP") or ""
        if chosen in ("", _HEADLESS) or chosen == objects.spec(self._old).get("clusterIP"):
            return
        if addresses.parsed(chosen) is None:
            raise self._refused("spec.clusterIPs[0]", chosen, "must be a valid IP address")
        network = ipaddress.ip_network(self._config.service_cidr)
        if ipaddress.ip_address(chosen) not in network:
            raise self._refused(
                "spec.clusterIPs",
                [chosen],
                f"failed to allocate IP {chosen}: the provided IP ({chosen}) is not in the valid range. "
                f"The range of valid IPs is {network}",
            )
        if self._is_taken(chosen):
            why = f"failed to allocate IP {chosen}: provided IP is already allocated"
            raise self._refused("spec.clusterIPs", [chosen], why)
        self._reserved.add(chosen)

    def _set_ip(self, address: str) -> None:
        self._reserved.add(address)
        self._spec["clusterIP"] = address
        self._spec["clusterIPs"] = [address]

    def _free_ip(self) -> str:
        network = ipaddress.ip_network(self._config.service_cidr)
        last = network.num_addresses - 2
        # The lower band is left to addresses people choose, as in Kubernetes.
        band = min(max(16, network.num_addresses // 16), 256)
        first = band if band < last else 2
        for _ in range(_TRIES):
            address = str(network[self._rng.randint(first, last)])
            if not self._is_taken(address):
                return address
        for offset in (*range(first, last + 1), *range(2, first)):
            if not self._is_taken(address := str(network[offset])):
                return address
        raise errors.Internal(f"failed to allocate a serviceIP: range {network} is full")

    def _node_ports(self) -> None:
        own = {port.get("nodePort") for port in objects.spec(self._old).get("ports") or ()}
        low, high = self._config.node_ports
        for index, port in enumerate(self._spec.get("ports") or ()):
            chosen = port.get("nodePort")
            if not chosen:
                port["nodePort"] = chosen = self._free_port()
            elif chosen not in own:
                self._check_port(f"spec.ports[{index}].nodePort", chosen, range(low, high + 1))
            self._reserved.add(chosen)

    def _health_check_port(self) -> None:
        low, high = self._config.node_ports
        chosen = self._spec.get("healthCheckNodePort")
        if not chosen:
            self._spec["healthCheckNodePort"] = chosen = self._free_port()
        elif chosen != objects.spec(self._old).get("healthCheckNodePort"):
            self._check_port("spec.healthCheckNodePort", chosen, range(low, high + 1))
        self._reserved.add(chosen)

    def _check_port(self, path: str, chosen: int, allowed: range) -> None:
        if chosen not in allowed:
            why = (
                "provided port is not in the valid range. The range of valid ports is "
                f"{allowed.start}-{allowed.stop - 1}"
            )
            raise self._refused(path, chosen, why)
        if self._is_taken(chosen):
            raise self._refused(path, chosen, "provided port is already allocated")

    def _free_port(self) -> int:
        low, high = self._config.node_ports
        for _ in range(_TRIES):
            port = self._rng.randint(low, high)
            if not self._is_taken(port):
                return port
        free = next((port for port in range(low, high + 1) if not self._is_taken(port)), None)
        if free is None:
            raise errors.Internal("failed to allocate a nodePort: range is full")
        return free

    def _refused(self, path: str, value: object, why: str) -> errors.Invalid:
        quoted = f'["{value[0]}"]' if isinstance(value, list) else str(value)
        cause = errors.Cause("FieldValueInvalid", f"Invalid value: {quoted}: {why}", path)
        return status.invalid(resources.SERVICE, objects.name(self._service), [cause])


def _needs_address(service: Object) -> bool:
    spec = objects.spec(service)
    return spec.get("type") in ADDRESSED and not spec.get("clusterIP")


def _needs_node_ports(service: Object) -> bool:
    spec = objects.spec(service)
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"
