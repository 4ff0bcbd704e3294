"""What is asked about a pod: is it alive, ready, available, and whose is it.

Pure facts read from the document, in the words of Kubernetes' `podutil`; used by whoever looks at pods:
controllers, the node, the mesh, the API server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.base import timestamps

BY_NODE: Final = "node"
"""Index of pods by the node they are bound to; unbound ones are under the empty name."""
TERMINAL: Final = ("Succeeded", "Failed")
"""The phases of pods whose containers have ended for good."""


def by_node(pod: Object) -> Iterable[str]:
    return (node_name(pod),)


def node_name(pod: Mapping[str, Any]) -> str:
    return str(objects.spec(pod).get("nodeName") or "")


def phase(pod: Mapping[str, Any]) -> str:
    return str(objects.status(pod).get("phase") or "Pending")


def is_terminal(pod: Mapping[str, Any]) -> bool:
    """Its containers have ended and will not run again."""
    return phase(pod) in TERMINAL


def is_active(pod: Mapping[str, Any]) -> bool:
    """It counts as one of its controller's replicas."""
    return not is_terminal(pod) and not objects.is_deleting(pod)


def is_ready(pod: Mapping[str, Any]) -> bool:
    return conditions.is_true(pod, "Ready")


def ready_since(pod: Mapping[str, Any]) -> float | None:
    """When it became ready, if it is."""
    ready = conditions.get(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    return moment(ready.get("lastTransitionTime"))


def available_in_s(pod: Mapping[str, Any], min_ready_s: float, now: float) -> float | None:
    """Seconds until it has been ready long enough: 0 when it has, none when it is not ready."""
    if not is_ready(pod):
        return None
    since = ready_since(pod)
    if not min_ready_s:
        return 0.0
    return max(0.0, (since if since is not None else now) + min_ready_s - now)


def restarts(pod: Mapping[str, Any]) -> int:
    statuses = objects.status(pod).get("containerStatuses") or ()
    return max((int(status.get("restartCount") or 0) for status in statuses), default=0)


def moment(text: str | None) -> float | None:
    """Seconds since the epoch of an API time, if there is one."""
    return timestamps.parse_rfc3339(text) if text else None


def created_at(obj: Mapping[str, Any]) -> float:
    return moment(objects.metadata(obj).get("creationTimestamp")) or 0.0


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
