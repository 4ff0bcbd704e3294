"""What is used on this node, read when somebody asks; and the last of what has ended, read before it goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio.to_thread

from ondol.api import objects
from ondol.base.clock import Clock
from ondol.node.config import NodeConfig
from ondol.node.metrics import interfaces
from ondol.node.metrics.cadvisor import Disk, Machine, Snapshot, Traffic, Usage
from ondol.node.metrics.ended import Ended
from ondol.node.metrics.interfaces import Interface
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.runtime import accounting

_BLOCK_DEVICES: Final = Path("/sys/dev/block")
_POD_INTERFACE: Final = "eth0"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the kernel's numbers are."""

    tree: Callable[[], accounting.Tree] = accounting.host
    interfaces: Callable[[], Mapping[str, Interface]] = interfaces.read
    machine: Callable[[], accounting.Counters] = accounting.machine


class Books:
    """All usage of one node; `port` is the host's end of a pod's cable, by the pod's uid."""

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        port: Callable[[str], str],
        machine: Machine,
        sources: Sources | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._port = port
        self._machine = machine
        self._sources = sources or Sources()
        self._usages: Ended[Usage] = Ended()
        self._traffic: Ended[Traffic] = Ended()

    # What ends

    def container_ended(self, pod: Spec, name: str, attempt: Attempt) -> None:
        """Read what a run has used that has ended and whose cgroup still stands."""
        self._end(self._of_container(pod, name, attempt))

    def pod_ended(self, pod: Spec) -> None:
        """Read what a pod has used whose sandbox still stands, for the last time."""
        self._end(self._of_pod(pod))
        traffic = self._traffic_of(pod, self._sources.interfaces())
        if traffic is not None:
            self._traffic.put(traffic.id, traffic, self._clock.monotonic())

    def _end(self, usage: Usage) -> None:
        counters = accounting.read(self._sources.tree(), usage.id)
        if counters is not None:
            over = replace(usage, counters=counters, is_over=True)
            self._usages.put(over.id, over, self._clock.monotonic())

    # What there is

    async def snapshot(self, pods: Iterable[tuple[Spec, Record]]) -> Snapshot:
        """All usage now, of these pods and of what has ended lately."""
        listed = [(pod, record) for pod, record in pods if record.has_sandbox]
        living = await anyio.to_thread.run_sync(self._read, listed)
        now = self._clock.monotonic()
        usages, traffic = dict(self._usages.shown(now)), dict(self._traffic.shown(now))
        for usage in living.usages:
            if not usage.container or usage.id not in usages:  # a run of a container ends once
                usages[usage.id] = usage
        traffic |= {each.id: each for each in living.traffic}
        return replace(living, usages=list(usages.values()), traffic=list(traffic.values()))

    def _read(self, pods: list[tuple[Spec, Record]]) -> Snapshot:
        tree, wires = self._sources.tree(), self._sources.interfaces()
        own = interfaces.of_machine(wires, self._config.instance)
        traffic = [Traffic("/", own), *filter(None, (self._traffic_of(pod, wires) for pod, _ in pods))]
        usages = [Usage("/", self._sources.machine()), *self._usages_of(tree, pods)]
        devices = {number: _device(number) for usage in usages for number in usage.counters.devices}
        return Snapshot(
            self._clock.now(), usages, traffic, self._machine, [_disk(self._config.data_dir)], devices
        )

    def _usages_of(self, tree: accounting.Tree, pods: list[tuple[Spec, Record]]) -> Iterator[Usage]:
        listed = [Usage(self._config.cgroup, accounting.Counters())]
        for pod, record in pods:
            listed.append(self._of_pod(pod, record.start_time))
            for name, container in record.containers.items():
                if container.current is not None and container.is_running:
                    listed.append(self._of_container(pod, name, container.current))
        for usage in listed:
            if (counters := accounting.read(tree, usage.id)) is not None:
                files = accounting.descriptors(tree, usage.id) if usage.container else None
                yield replace(usage, counters=counters, descriptors=files)

    # Who it is

    def _of_pod(self, pod: Spec, started_at: float = 0.0) -> Usage:
        return Usage(
            self._config.pod_cgroup(objects.uid(pod)),
            accounting.Counters(),
            objects.namespace(pod),
            objects.name(pod),
            started_at=started_at,
        )

    def _of_container(self, pod: Spec, name: str, attempt: Attempt) -> Usage:
        return replace(
            self._of_pod(pod, attempt.started_at),
            id=f"{self._config.pod_cgroup(objects.uid(pod))}/{attempt.id}",
            container=name,
            image=attempt.image,
            name=attempt.id,
        )

    def _traffic_of(self, pod: Spec, wires: Mapping[str, Interface]) -> Traffic | None:
        """None for a pod without a cable, as those in the host's network are."""
        uid = objects.uid(pod)
        if (port := wires.get(self._port(uid))) is None:
            return None
        ends = {_POD_INTERFACE: port.other_end}
        return Traffic(self._config.pod_cgroup(uid), ends, objects.namespace(pod), objects.name(pod))


def _device(number: str) -> str:
    """The path of a device by `major:minor`; the number where it has none."""
    try:
        return f"/dev/{(_BLOCK_DEVICES / number).readlink().name}"
    except OSError:
        return number


def _disk(folder: Path) -> Disk:
    """The file system that the node's data is on."""
    blocks, number = os.statvfs(folder), folder.stat().st_dev
    return Disk(
        device=_device(f"{os.major(number)}:{os.minor(number)}"),
        size=blocks.f_blocks * blocks.f_frsize,
        used=(blocks.f_blocks - blocks.f_bfree) * blocks.f_frsize,
        inodes=blocks.f_files,
        inodes_free=blocks.f_ffree,
    )
