"""`kubectl top` and HorizontalPodAutoscalers, by what containers really use."""

from __future__ import annotations

import re

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, eventually

pytestmark = pytest.mark.e2e

_BUSY = "while True: pass"


def test_a_busy_deployment_grows(space: Kubectl, cluster: Kubectl) -> None:
    """One that uses twice what it requests, where half is meant, goes to its most replicas."""
    limits = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "100m"}}
    command = ["python3", "-c", _BUSY]
    space.apply(objects.deployment("busy", command=command, resources=limits, readinessProbe=None))
    space("rollout", "status", "deployment/busy", "--timeout=25s")
    space("autoscale", "deployment", "busy", "--cpu-percent=50", "--min=1", "--max=2")

    def busy() -> int:
        used = re.search(r"busy-\S+\s+(\d+)m\s+\d+Mi", space("top", "pods", "--no-headers"))
        return int(used[1]) if used and int(used[1]) > 70 else 0

    eventually(busy, "it uses its limit", within_s=30)
    assert re.search(r"\s\d+m\s+\d+%\s+\d+Mi\s+\d+%", cluster("top", "nodes", "--no-headers"))
    eventually(
        lambda: space.path("deployment", "busy", ".status.readyReplicas") == "2", "two pods", within_s=90
    )
    assert space.path("hpa", "busy", ".status.desiredReplicas") == "2"
    reason = '.status.conditions[?(@.type=="ScalingActive")].reason'
    assert space.path("hpa", "busy", reason) == "ValidMetricFound"
