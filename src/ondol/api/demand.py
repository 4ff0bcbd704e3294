"""What a pod takes of its node: one meaning for the scheduler, which counts it, and the node itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.api import objects, resizes
from ondol.base import quantity

PODS: Final = "pods"


_WHOLE: Final = ("cpu", "memory")
_HUGE_PAGES: Final = "hugepages-"
"""Of these the pod as a whole may ask for an amount of its own, which counts for that of its containers."""


def of(pod: Mapping[str, Any]) -> Counter[str]:
    """Milli-units of each resource.

    While a container is resized it counts as the largest of what it asks for, what its node has taken on and
    what it runs with. Source: `PodRequests` of component-helpers.
    """
    if not resizes.is_under_way(pod):
        return desired(pod)
    status, is_infeasible = objects.status(pod), resizes.is_infeasible(pod)
    reported = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    actual = {str(each.get("name")): each for each in reported if each.get("resources") is not None}

    def effective(container: Mapping[str, Any]) -> Counter[str]:
        own = actual.get(str(container.get("name")))
        if own is None:
            return requests(container)
        present = requests(own) | milli(own.get("allocatedResources") or {})
        return present if is_infeasible else present | requests(container)

    return _whole(objects.spec(pod), effective)


def desired(pod: Mapping[str, Any]) -> Counter[str]:
    """As the spec alone has it."""
    return _whole(objects.spec(pod), requests)


def _whole(spec: Mapping[str, Any], amounts: Callable[[Mapping[str, Any]], Counter[str]]) -> Counter[str]:
    asked = total(spec, amounts)
    for name, amount in requests(spec).items():
        if name in _WHOLE or name.startswith(_HUGE_PAGES):
            asked[name] = amount
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
