"""The status of a DaemonSet from its nodes and pods. Pure."""

from __future__ import annotations

from typing import Final

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.daemonset import daemon_pods
from ondol.controllers.workloads.daemonset import plan as planning
from ondol.controllers.workloads.daemonset.plan import View

_SHOWN: Final = ("desiredNumberScheduled", "currentNumberScheduled", "numberMisscheduled", "numberReady")
FIELDS: Final = (
    *_SHOWN,
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
    "observedGeneration",
)


def status(view: View, *, collisions: int | None) -> Object:
    """All of it; None for a field that Kubernetes leaves out. Of several pods on a node the eldest counts."""
    desired = [node for node, place in view.places.items() if place.runs]
    eldest = [daemon_pods.eldest_first(view.pods[node])[0] for node in desired if view.pods.get(node)]
    available = sum(view.is_available(pod) for pod in eldest)
    counted = {
        "desiredNumberScheduled": len(desired),
        "currentNumberScheduled": len(eldest),
        "numberMisscheduled": sum(
            bool(view.pods.get(node)) for node, place in view.places.items() if not place.runs
        ),
        "numberReady": sum(pods.is_ready(pod) for pod in eldest),
        "updatedNumberScheduled": sum(view.is_updated(pod) for pod in eldest),
        "numberAvailable": available,
        "numberUnavailable": len(desired) - available,
    }
    return {
        **{field: count if field in _SHOWN else count or None for field, count in counted.items()},
        "collisionCount": collisions,
        "observedGeneration": objects.generation(view.daemon_set),
    }


def next_available_s(view: View) -> float | None:
    """Seconds until the next ready pod counts as available, if one is on its way."""
    min_ready_s = planning.min_ready_s(view.daemon_set)
    waits = (
        pods.available_in_s(pod, min_ready_s, view.now) for listed in view.pods.values() for pod in listed
    )
    return min((wait for wait in waits if wait), default=None)
