"""Which ports of the node's machine a pod takes: one meaning for the scheduler and the node itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ondol.api import objects


def of(pod: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Protocol, address, number of its `hostPort`s; in the machine's network of every port it names."""
    spec = objects.spec(pod)
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port.get("containerPort") if spec.get("hostNetwork") else 0)
            if number:
                yield port.get("protocol") or "TCP", port.get("hostIP") or "", int(number)
