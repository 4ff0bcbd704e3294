"""cgroups of the instance, version 1, 2 or both: what a pod uses, and the end of all its processes."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_PROC_STAT: Final = Path("/proc/stat")
_PROC_MEMINFO: Final = Path("/proc/meminfo")
_STAT_FIELDS: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int


def version() -> str:
    """`v2`, `hybrid` or `v1`."""
    if (ROOT / "cgroup.controllers").exists():
        return "v2"
    return "hybrid" if (ROOT / "unified" / "cgroup.procs").exists() else "v1"


def hierarchies() -> list[Path]:
    """The mount points of all hierarchies."""
    if version() == "v2":
        return [ROOT]
    return sorted(entry for entry in ROOT.iterdir() if entry.is_dir() and not entry.is_symlink())


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, OSError, ValueError):
        return 0


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {key: int(value) for key, _, value in (line.partition(" ") for line in lines) if value.isdigit()}


def usage(group: str) -> Usage:
    """Counters of the group and all below it; zeros when it is gone."""
    path = group.lstrip("/")
    if version() == "v2":
        memory = ROOT / path
        current = _number(memory / "memory.current")
        cpu_ns = _fields(memory / "cpu.stat").get("usage_usec", 0) * 1000
        inactive = _fields(memory / "memory.stat").get("inactive_file", 0)
    else:
        memory = ROOT / "memory" / path
        current = _number(memory / "memory.usage_in_bytes")
        cpu_ns = _number(_v1_folder("cpuacct") / path / "cpuacct.usage")
        inactive = _fields(memory / "memory.stat").get("total_inactive_file", 0)
    return Usage(cpu_ns, current, max(0, current - inactive))


def machine_usage() -> Usage:
    """Counters of the whole machine. Its memory is that of the kernel's own books, not of a group.

    The root group of version 2 has no files for it; what the kubelet tells of the root is worked out so, too.
    """
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    fields = _PROC_STAT.read_text().partition("\n")[0].split()
    ticks = dict(zip(_STAT_FIELDS, map(int, fields[1:]), strict=False))
    cpu_ns = sum(ticks.get(name, 0) for name in names) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    lines = (line.split() for line in _PROC_MEMINFO.read_text().splitlines())
    memory = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}
    used = memory["MemTotal"] - memory["MemFree"]
    return Usage(cpu_ns, used, max(0, used - memory.get("Inactive(file)", 0)))


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a group; None is no limit."""

    cpu_quota: int | None = None
    """Microseconds of each period."""
    memory_bytes: int | None = None


def limits(group: str) -> Limits:
    """What the kernel holds the group to."""
    path = group.lstrip("/")
    if version() == "v2":
        quota = (ROOT / path / "cpu.max").read_text().split()[0]
        memory = (ROOT / path / "memory.max").read_text().strip()
    else:
        quota = (_v1_folder("cpu") / path / "cpu.cfs_quota_us").read_text().strip()
        memory = (ROOT / "memory" / path / "memory.limit_in_bytes").read_text().strip()
    number = int(memory) if memory.isdigit() else _UNLIMITED
    return Limits(int(quota) if quota.isdigit() else None, number if number < _UNLIMITED else None)


def limit(group: str, limits: Limits) -> None:
    """Hold the group and all below it to these; what is None stays as it is.

    As with `limit_pids`, the group has members already.
    """
    path, period = group.lstrip("/"), _CPU_PERIOD
    if version() == "v2":
        cpu = {"cpu.max": f"{limits.cpu_quota} {period}"} if limits.cpu_quota is not None else {}
        memory = {"memory.max": limits.memory_bytes} if limits.memory_bytes is not None else {}
        files: list[tuple[Path, object]] = [(ROOT / path / name, v) for name, v in (cpu | memory).items()]
    else:
        files = []
        if limits.cpu_quota is not None:
            folder = _v1_folder("cpu") / path
            files += [(folder / "cpu.cfs_period_us", period), (folder / "cpu.cfs_quota_us", limits.cpu_quota)]
        if limits.memory_bytes is not None:
            files.append((ROOT / "memory" / path / "memory.limit_in_bytes", limits.memory_bytes))
    for file, value in files:
        file.write_text(str(value))


_CPU_PERIOD: Final = 100_000
_UNLIMITED: Final = 1 << 62
"""Version 1 has a number near to this where there is no limit."""


def _v1_folder(controller: str) -> Path:
    joined = ROOT / "cpu,cpuacct"
    return joined if controller in ("cpu", "cpuacct") and joined.exists() else ROOT / controller


def limit_pids(group: str, count: int) -> None:
    """Let the group and all below it have no more processes and threads than `count` (0: any number).

    The group has members already, so the controller is turned on for it; a host without it limits nothing.
    """
    place = (ROOT if version() == "v2" else ROOT / "pids") / group.lstrip("/") / "pids.max"
    if place.exists():
        place.write_text(str(count) if count else "max")


def processes(group: str) -> set[int]:
    """Every process in the group or below, in any hierarchy."""
    pids: set[int] = set()
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / group.lstrip("/")):
            try:
                pids.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text().split())
            except OSError:
                continue  # removed between the walk and the read
    return pids


def kill(group: str) -> None:
    """SIGKILL everything in the group."""
    for pid in processes(group):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def remove(group: str) -> bool:
    """Remove the empty group and all below it; False when something still lives there."""
    is_removed = True
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / group.lstrip("/"), topdown=False):
            try:
                os.rmdir(folder)  # noqa: PTH106 - one of thousands of control files, no Path wanted
            except FileNotFoundError:
                continue
            except OSError:
                is_removed = False
    return is_removed


def below(group: str) -> set[str]:
    """The names of the groups right below, in any hierarchy."""
    folders = [hierarchy / group.lstrip("/") for hierarchy in hierarchies()]
    return {
        entry.name for folder in folders if folder.is_dir() for entry in os.scandir(folder) if entry.is_dir()
    }


def adopt(pid: int, group: str) -> None:
    """Move a process to the group in the hierarchy that service managers end services by."""
    hierarchy = next(
        (path for path in (ROOT / "systemd", ROOT / "unified", ROOT) if (path / "cgroup.procs").exists()),
        None,
    )
    if hierarchy is not None:
        folder = hierarchy / group.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(str(pid))
