"""Whether a Deployment runs what its spec asks for: what `kubectl rollout status` waits for.

Asked by the Deployment's controller, and by operators whose object is ready once its Deployment is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api import objects


def is_rolled_out(deployment: Mapping[str, Any]) -> bool:
    """Whether there are exactly `spec.replicas` pods, all of the newest template and available.

    `readyReplicas` does not suffice: while a change rolls out it counts pods of the former template too.
    """
    status, desired = objects.status(deployment), objects.spec(deployment).get("replicas", 1)
    counts = (int(status.get(f"{counted}Replicas") or 0) for counted in ("updated", "available"))
    is_seen = int(status.get("observedGeneration") or 0) >= objects.generation(deployment)
    return is_seen and {desired} == {*counts, int(status.get("replicas") or 0)}
