"""Metrics of pods and containers, under the names of the kubelet's `/metrics` and `/metrics/resource`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.base import metrics
from ondol.base.metrics import Family

_POD: Final = ("namespace", "pod")
_CONTAINER: Final = ("namespace", "pod", "container")


def families(summary: Mapping[str, Any]) -> Iterator[Family]:
    """Families of a `/stats/summary` document: what each pod and container uses."""
    pods = {(pod["podRef"]["namespace"], pod["podRef"]["name"]): pod for pod in summary["pods"]}
    containers = {
        (*pod, container["name"]): container
        for pod, usage in pods.items()
        for container in usage["containers"]
    }
    yield from _usage("pod", _POD, pods)
    yield from _usage("container", _CONTAINER, containers)


def _usage(noun: str, labels: tuple[str, ...], usages: Mapping[Any, Mapping[str, Any]]) -> Iterator[Family]:
    cpu_s = {key: usage["cpu"]["usageCoreNanoSeconds"] / 1e9 for key, usage in usages.items()}
    memory = {key: usage["memory"]["workingSetBytes"] for key, usage in usages.items()}
    yield metrics.counter(
        f"{noun}_cpu_usage_seconds_total", f"Processor seconds the {noun} used.", cpu_s, labels
    )
    yield metrics.gauge(f"{noun}_memory_working_set_bytes", f"Bytes the {noun} has in use.", memory, labels)
