"""Metrics of pods and containers."""

from __future__ import annotations

from ondol.base import metrics
from ondol.node import usage


def test_pods_and_containers_are_told_apart() -> None:
    """Under the kubelet's names, in seconds and bytes."""
    used = {"cpu": {"usageCoreNanoSeconds": 1_500_000_000}, "memory": {"workingSetBytes": 4096}}
    reference = {"namespace": "shop", "name": "cart", "uid": "u"}
    summary = {"pods": [{"podRef": reference, **used, "containers": [{"name": "main", **used}]}]}
    text = metrics.text(usage.families(summary)).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        'pod_cpu_usage_seconds_total{namespace="shop",pod="cart"} 1.5',
        'pod_memory_working_set_bytes{namespace="shop",pod="cart"} 4096.0',
        'container_cpu_usage_seconds_total{container="main",namespace="shop",pod="cart"} 1.5',
        'container_memory_working_set_bytes{container="main",namespace="shop",pod="cart"} 4096.0',
    ]
