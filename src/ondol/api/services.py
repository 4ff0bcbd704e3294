"""What Services are, by their specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def has_health_check(spec: Mapping[str, Any]) -> bool:
    """Whether balancers may ask at a port of its own which nodes have endpoints of the Service."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
