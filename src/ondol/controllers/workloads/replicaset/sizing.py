"""How many pods a ReplicaSet makes and when, and which ones it gives up. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects, pods
from ondol.api.objects import Object

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_WAIT_S_MAX: Final = 300.0
_FORGOTTEN_S: Final = 600.0
_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}


def replicas(obj: Mapping[str, Any]) -> int:
    """The replicas of the spec; 1 where it has none."""
    count = objects.spec(obj).get("replicas")
    return 1 if count is None else int(count)


def replacement_wait_s(claimed: Iterable[Object], replicas: int, now: float) -> float:
    """How long to wait before pods that failed are replaced, 0 when that may be now.

    A pod whose containers restart does not fail; one that does was refused by its node or driven from
    it, and so may its replacement be, at once and for ever. The first round of failures is replaced
    at once, each further one, within ten minutes, after twice the time, as images and crashes are.
    """
    born = [pods.created_at(pod) for pod in claimed if pods.phase(pod) == "Failed"]
    recent = [moment for moment in born if moment > now - _FORGOTTEN_S]
    rounds = len(recent) // max(1, replicas)
    if rounds < 2:
        return 0.0
    wait_s = min(_WAIT_S_MAX, 2.0 ** min(rounds - 2, 9))
    return max(0.0, max(recent) + wait_s - now)


def surplus(active: Sequence[Object], related: Iterable[Object], count: int, now: float) -> list[Object]:
    """The `count` pods whose loss hurts least; `related` are all pods of the same workload.

    In Kubernetes' order: unbound, pending and unready ones, cheap ones by their own word, those on
    crowded nodes, then those ready or alive for the shortest time (in powers of two, ties by uid).
    """
    if count >= len(active):
        return list(active)
    crowd: dict[str, int] = {}
    for other in related:
        if pods.is_active(other):
            crowd[pods.node_name(other)] = crowd.get(pods.node_name(other), 0) + 1
    return sorted(active, key=lambda each: _rank(each, crowd.get(pods.node_name(each), 0), now))[:count]


def _rank(pod: Mapping[str, Any], crowd: int, now: float) -> tuple[Any, ...]:
    return (
        bool(pods.node_name(pod)),
        _PHASES.get(pods.phase(pod), 1),
        pods.is_ready(pod),
        deletion_cost(pod),
        -crowd,
        _magnitude(pods.ready_since(pod), now),
        -pods.restarts(pod),
        _magnitude(pods.created_at(pod), now),
        objects.uid(pod),
    )


def _magnitude(since: float | None, now: float) -> int:
    """Age as a power of two in nanoseconds, so that pods of about one age differ by chance only."""
    if since is None or now <= since:
        return -1
    return int(math.log2((now - since) * 1e9))


def deletion_cost(pod: Mapping[str, Any]) -> int:
    """The pod's annotation `controller.kubernetes.io/pod-deletion-cost`; 0 where it is no number."""
    try:
        return int(objects.annotations(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0
