"""What a pod takes of its node: one meaning for the scheduler, which counts it, and the node itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.base import quantity

PODS: Final = "pods"


def of(pod: Mapping[str, Any]) -> Counter[str]:
    """Milli-units of each resource."""
    spec = objects.spec(pod)
    asked = total(spec, requests)
    asked.update(milli(spec.get("overhead") or {}))
    asked[PODS] = 1000
    return asked


def total(spec: Mapping[str, Any], amounts: Callable[[Mapping[str, Any]], Counter[str]]) -> Counter[str]:
    """What the containers come to.

    Containers add up; init containers run one by one, beside the sidecars started before them.
    """
    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        own = amounts(container)
        if container.get("restartPolicy") == "Always":
            running.update(own)
        peak |= running + own if container.get("restartPolicy") != "Always" else running
    for container in spec.get("containers") or ():
        running.update(amounts(container))
    return Counter(dict(running | peak))


def requests(container: Mapping[str, Any]) -> Counter[str]:
    """A limit without a request is the request."""
    resources = container.get("resources") or {}
    return milli({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def limits(container: Mapping[str, Any]) -> Counter[str]:
    return milli((container.get("resources") or {}).get("limits") or {})


def milli(quantities: Mapping[str, Any]) -> Counter[str]:
    return Counter({name: quantity.milli_of(value) for name, value in quantities.items()})
