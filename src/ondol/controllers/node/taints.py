"""Taints and conditions of a node, and when a pod must leave it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects, pods
from ondol.api.objects import Object
from ondol.base import clock

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_PRESSURE: Final = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_OURS: Final = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURE.values()})
REPORTED: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
"""Conditions that a node reports; when it is silent they are Unknown."""


def unknown_conditions(node: Object, now: float) -> list[Object]:
    """The conditions of a node that is silent: all that it reports is Unknown."""
    listed: list[Object] = [dict(condition) for condition in conditions.of(node)]
    for name in REPORTED:
        condition = conditions.find(listed, name)
        if condition is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        elif condition.get("status") == "Unknown":
            continue
        else:
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        listed = conditions.set(listed, name, "Unknown", reason=reason, message=message, now=now)
    return listed


def taints(node: Object, listed: Iterable[Mapping[str, Any]], now: float) -> list[Object]:
    """The node's taints with ours as its conditions ask for; others stay as they are."""
    missing = set(_desired(node, list(listed)))
    present: list[Object] = []
    for taint in objects.spec(node).get("taints") or ():
        identity = (str(taint.get("key")), str(taint.get("effect")))
        if identity[0] not in _OURS or identity in missing:
            present.append(dict(taint))
            missing.discard(identity)
    stamp = clock.rfc3339(now)
    added = [_taint(key, effect, stamp) for key, effect in sorted(missing)]
    return present + added


def _taint(key: str, effect: str, stamp: str) -> Object:
    timed = {"timeAdded": stamp} if effect == "NoExecute" else {}
    return {"key": key, "effect": effect, **timed}


def _desired(node: Object, listed: list[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    ready = conditions.find(listed, "Ready") or {"status": "False"}
    if ready.get("status") != "True":
        key = UNREACHABLE if ready.get("status") == "Unknown" else NOT_READY
        yield key, "NoSchedule"
        yield key, "NoExecute"
    for name, key in _PRESSURE.items():
        if (conditions.find(listed, name) or {}).get("status") == "True":
            yield key, "NoSchedule"
    if objects.spec(node).get("unschedulable"):
        yield UNSCHEDULABLE, "NoSchedule"


def tolerated_s(pod: Object, node_taints: Iterable[Mapping[str, Any]]) -> float | None:
    """For how long a pod stands the NoExecute taints of its node: 0 not at all, None for ever.

    Of each taint the first toleration that fits counts, and the shortest of those.
    """
    limits: list[float] = []
    tolerations = objects.spec(pod).get("tolerations") or ()
    for taint in node_taints:
        if taint.get("effect") != "NoExecute":
            continue
        toleration = next((each for each in tolerations if pods.tolerates(each, taint)), None)
        if toleration is None:
            return 0.0
        if toleration.get("tolerationSeconds") is not None:
            limits.append(max(0.0, float(toleration["tolerationSeconds"])))
    return min(limits) if limits else None
