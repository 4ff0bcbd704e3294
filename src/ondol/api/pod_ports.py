"""Which ports of the node's machine a pod takes: one meaning for the scheduler and the node itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ondol.api import objects
from ondol.base.host_ports import HostPort


def of(pod: Mapping[str, Any]) -> frozenset[HostPort]:
    """Its `hostPort`s; in the machine's network every port that a container names."""
    return frozenset(_ports(objects.spec(pod)))


def _ports(spec: Mapping[str, Any]) -> Iterator[HostPort]:
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port.get("containerPort") if spec.get("hostNetwork") else 0)
            if number:
                yield HostPort(port.get("protocol") or "TCP", port.get("hostIP") or "", int(number))
