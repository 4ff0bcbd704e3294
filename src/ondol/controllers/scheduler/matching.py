"""Whether a node is one that a pod asks for, and whose taints it tolerates. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from ondol.api import node_selectors, objects, pods
from ondol.controllers.scheduler.hosts import Host

BLOCKING: Final = ("NoSchedule", "NoExecute")


def is_selected(pod: Mapping[str, Any], host: Host) -> bool:
    """Whether the pod's node selector and what it requires of nodes hold."""
    selector = objects.spec(pod).get("nodeSelector") or {}
    if any(host.labels.get(key) != value for key, value in selector.items()):
        return False
    required = node_affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or node_selectors.matches(required, host.node)


def node_affinity(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    affinity: Mapping[str, Any] = (objects.spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    return affinity


def untolerated(
    pod: Mapping[str, Any], taints: Iterable[Mapping[str, Any]], effects: Collection[str] = BLOCKING
) -> Mapping[str, Any] | None:
    """The first taint with one of these effects that the pod does not tolerate."""
    for taint in taints:
        if taint.get("effect") in effects and not is_tolerated(pod, taint):
            return taint
    return None


def is_tolerated(pod: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    return any(pods.tolerates(each, taint) for each in objects.spec(pod).get("tolerations") or ())
