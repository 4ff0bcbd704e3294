"""What one pod has of the machine, by its control group and its folders."""

from __future__ import annotations

from pathlib import Path

from ondol.node.config import NodeConfig
from ondol.node.pods import storage
from ondol.node.pods.model import Record
from ondol.node.pressure.ranking import Consumption
from ondol.node.runtime import cgroups


def measured(config: NodeConfig, roots: Path, record: Record, resource: str) -> Consumption:
    """Of `memory` the working set, of `pids` the processes, of `inodes` the files. Blocks."""
    group = config.pod_cgroup(record.uid)
    current = {name: c.current.id for name, c in record.containers.items() if c.current is not None}
    if resource == "memory":
        containers = {n: cgroups.usage(f"{group}/{each}").working_set_bytes for n, each in current.items()}
        return Consumption(cgroups.usage(group).working_set_bytes, containers)
    if resource == "pids":
        return Consumption(len(cgroups.processes(group)))
    folders = [config.pod_dir(record.uid), *(roots / each / "upper" for each in current.values())]
    return Consumption(sum(map(storage.files, folders)))
