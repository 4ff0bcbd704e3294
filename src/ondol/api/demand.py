"""What a pod takes of its node: one meaning for the scheduler, which counts it, and the node itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.base import quantity

PODS: Final = "pods"


def of(pod: Mapping[str, Any]) -> Counter[str]:
    """Milli-units of each resource.

    Containers add up; init containers run one by one, beside the sidecars started before them.
    """
    spec = objects.spec(pod)
    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        own = requests(container)
        if container.get("restartPolicy") == "Always":
            running.update(own)
        peak |= running + own if container.get("restartPolicy") != "Always" else running
    for container in spec.get("containers") or ():
        running.update(requests(container))
    total = Counter(dict(running | peak))
    total.update(milli(spec.get("overhead") or {}))
    total[PODS] = 1000
    return total


def requests(container: Mapping[str, Any]) -> Counter[str]:
    """A limit without a request is the request."""
    resources = container.get("resources") or {}
    return milli({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def milli(quantities: Mapping[str, Any]) -> Counter[str]:
    return Counter({name: quantity.millicores_of(value) for name, value in quantities.items()})
