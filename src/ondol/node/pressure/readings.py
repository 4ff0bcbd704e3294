"""What is free of the machine: memory, disk, inodes and processes, as the kubelet counts them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ondol.api.eviction_thresholds import Level
from ondol.node.runtime import cgroups

_PID_MAX: Final = Path("/proc/sys/kernel/pid_max")
_THREADS_MAX: Final = Path("/proc/sys/kernel/threads-max")
_LOAD: Final = Path("/proc/loadavg")


def measured(data_dir: Path, memory_bytes: int) -> Mapping[str, Level]:
    """By signal. Images have signals of their own only where they are on a disk of their own. Blocks."""
    working_set = cgroups.machine_usage().working_set_bytes
    most = min(int(_PID_MAX.read_text()), int(_THREADS_MAX.read_text()))
    running = int(_LOAD.read_text().split()[3].partition("/")[2])
    levels = {
        "memory.available": Level(max(0, memory_bytes - working_set), memory_bytes),
        "pid.available": Level(max(0, most - running), most),
        **_disk("nodefs", data_dir),
    }
    images = data_dir / "images"
    if images.exists() and images.stat().st_dev != data_dir.stat().st_dev:
        levels |= _disk("imagefs", images)
    return levels


def _disk(name: str, folder: Path) -> dict[str, Level]:
    facts = os.statvfs(folder)
    return {
        f"{name}.available": Level(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize),
        f"{name}.inodesFree": Level(facts.f_favail, facts.f_files),
    }
