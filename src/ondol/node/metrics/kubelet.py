"""`/metrics`, `/metrics/resource` and `/metrics/probes`: what the node does, under the kubelet's names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ondol.api import objects
from ondol.base import metrics
from ondol.base.metrics import Family
from ondol.node.metrics.activity import Activity
from ondol.node.metrics.cadvisor import Snapshot
from ondol.node.pods.model import Record, Spec

_OPERATION = ("operation_type",)


def families(node: str, activity: Activity, pods: Iterable[tuple[Spec, Record]]) -> Iterator[Family]:
    """What the node counted, and what there is of its pods."""
    listed = [(pod, record) for pod, record in pods if record.has_sandbox]
    running = sum(container.is_running for _, record in listed for container in record.containers.values())
    yield metrics.gauge("kubelet_node_name", "The node's name.", {(node,): 1}, ["node"])
    yield metrics.gauge("kubelet_running_pods", "Pods with a sandbox.", {(): len(listed)})
    yield metrics.gauge(
        "kubelet_running_containers", "Containers by state.", {("running",): running}, ["container_state"]
    )
    yield metrics.histogram(
        "kubelet_pod_start_duration_seconds",
        "Seconds from a pod's coming to the node until all its containers run.",
        {(): activity.start_s},
    )
    yield metrics.histogram(
        "kubelet_pod_worker_duration_seconds", "Seconds a step of a pod took.", activity.step_s, _OPERATION
    )
    yield metrics.counter(
        "kubelet_started_containers_total",
        "Containers that were started.",
        activity.started_containers,
        ["container_type"],
    )
    yield metrics.unsuffixed(
        "kubelet_evictions",
        "Pods that were sent away for what the machine was short of.",
        activity.evictions,
        ["eviction_signal"],
    )
    yield from _calls(activity)
    yield from _volumes(listed)


def _calls(activity: Activity) -> Iterator[Family]:
    name = "kubelet_runtime_operations"
    yield metrics.counter(f"{name}_total", "Calls of the runtime.", activity.calls, _OPERATION)
    yield metrics.counter(
        f"{name}_errors_total", "Calls of the runtime that failed.", activity.failed_calls, _OPERATION
    )
    yield metrics.histogram(
        f"{name}_duration_seconds", "Seconds calls of the runtime took.", activity.call_s, _OPERATION
    )


def probes(activity: Activity) -> Iterator[Family]:
    """Answers of probes by result."""
    labels = ("probe_type", "result", "container", "pod", "namespace", "pod_uid")
    yield metrics.counter("prober_probe_total", "Answers of probes.", activity.probes, labels)


# Volumes


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes and inodes of the file system that a volume is on."""

    capacity: int
    available: int
    inodes: int
    inodes_free: int


_SPACES: tuple[tuple[str, str, Callable[[Space], int]], ...] = (
    ("capacity_bytes", "Bytes of the volume's file system.", lambda space: space.capacity),
    ("available_bytes", "Bytes that are free there.", lambda space: space.available),
    ("used_bytes", "Bytes that are in use there.", lambda space: space.capacity - space.available),
    ("inodes", "Inodes there.", lambda space: space.inodes),
    ("inodes_free", "Inodes that are free there.", lambda space: space.inodes_free),
    ("inodes_used", "Inodes that are in use there.", lambda space: space.inodes - space.inodes_free),
)


def _volumes(pods: Iterable[tuple[Spec, Record]]) -> Iterator[Family]:
    spaces: dict[tuple[str, str], Space] = {}
    for pod, record in pods:
        for name, volume in record.volumes.items():
            claim = _claim(pod, name, volume.spec)
            if claim and volume.is_placed and (space := _space(volume.folder)) is not None:
                spaces[(objects.namespace(pod), claim)] = space
    for suffix, documentation, value in _SPACES:
        samples = {key: value(space) for key, space in spaces.items()}
        yield metrics.gauge(
            f"kubelet_volume_stats_{suffix}", documentation, samples, ("namespace", "persistentvolumeclaim")
        )


def _claim(pod: Spec, volume: str, spec: Mapping[str, object]) -> str:
    """The claim that a volume of a pod is of; empty if it is of none."""
    claim = spec.get("persistentVolumeClaim")
    if isinstance(claim, Mapping):
        return str(claim.get("claimName") or "")
    return f"{objects.name(pod)}-{volume}" if spec.get("ephemeral") else ""


def _space(folder: str) -> Space | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return Space(disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize, disk.f_files, disk.f_ffree)


# Resources


def page(snapshot: Snapshot) -> Iterator[Family]:
    """`/metrics/resource`: the few families that metrics-server reads."""
    whole = next(usage.counters for usage in snapshot.usages if usage.id == "/")
    yield metrics.counter(
        "node_cpu_usage_seconds_total", "Processor seconds of the node.", {(): whole.cpu.total_ns / 1e9}
    )
    yield metrics.gauge(
        "node_memory_working_set_bytes", "Bytes in use on the node.", {(): whole.memory.working_set}
    )
    pods = {(u.pod, u.namespace): u for u in snapshot.usages if u.pod and not u.container}
    # Of the runs of one container the newest, which is the last: there is one series for all of them.
    containers = {(u.container, u.pod, u.namespace): u for u in snapshot.usages if u.container}
    of_pods, of_containers = ("pod", "namespace"), ("container", "pod", "namespace")
    for noun, labels, usages in (("pod", of_pods, pods), ("container", of_containers, containers)):
        cpu = {key: usage.counters.cpu.total_ns / 1e9 for key, usage in usages.items()}
        living = {key: usage.counters.memory for key, usage in usages.items() if not usage.is_over}
        sets = {key: memory.working_set for key, memory in living.items()}
        swaps = {key: memory.swap for key, memory in living.items()}
        yield metrics.counter(
            f"{noun}_cpu_usage_seconds_total", f"Processor seconds of the {noun}.", cpu, labels
        )
        yield metrics.gauge(f"{noun}_memory_working_set_bytes", f"Bytes the {noun} has in use.", sets, labels)
        yield metrics.gauge(f"{noun}_swap_usage_bytes", f"Bytes the {noun} has in swap.", swaps, labels)
    started = {
        key: float(int(u.started_at)) for key, u in containers.items() if u.started_at and not u.is_over
    }
    yield metrics.gauge(
        "container_start_time_seconds", "When the container was started.", started, of_containers
    )
    yield metrics.gauge("resource_scrape_error", "Whether something could not be read.", {(): 0})
