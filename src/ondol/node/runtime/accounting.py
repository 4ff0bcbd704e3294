"""What the kernel's books say of a cgroup: all its counters, of version 1 and of version 2, in one shape.

What a kernel does not count is 0. Counters hold for the group and all below it, like cAdvisor's; the files
are read when somebody asks, and once more when a container has ended and before its group goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.node.runtime import cgroups

_PROC_STAT: Final = Path("/proc/stat")
_UNLIMITED: Final = 1 << 62
"""Version 1 writes a number of about this size where there is no limit."""
_DIRECTIONS: Final = {"Read": "read", "Write": "write"}


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor time in 10⁻⁹ s; `quota_us` is 0 where there is no limit."""

    total_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    quota_us: int = 0
    period_us: int = 0
    shares: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, and how often something was so; a limit of 0 is none."""

    usage: int = 0
    working_set: int = 0
    rss: int = 0
    cache: int = 0
    mapped_file: int = 0
    swap: int = 0
    kernel: int = 0
    max_usage: int = 0
    active_file: int = 0
    inactive_file: int = 0
    limit_hits: int = 0
    faults: int = 0
    major_faults: int = 0
    oom_kills: int = 0
    limit: int = 0
    swap_limit: int = 0
    reservation: int = 0


@dataclass(frozen=True, slots=True)
class Transfers:
    """What went to and from one device."""

    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """A group's books at one time."""

    cpu: Cpu = field(default_factory=Cpu)
    memory: Memory = field(default_factory=Memory)
    devices: Mapping[str, Transfers] = field(default_factory=dict)
    """By `major:minor`."""
    processes: int = 0
    threads: int = 0
    threads_max: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the cgroups are mounted, and how."""

    root: Path
    is_unified: bool

    @classmethod
    def of(cls, root: Path) -> Tree:
        return cls(root, (root / "cgroup.controllers").exists())

    def folder(self, controller: str, group: str) -> Path:
        """A group's folder for a controller of version 1, or its one folder of version 2."""
        path = group.lstrip("/")
        if self.is_unified:
            return self.root / path
        joined = self.root / "cpu,cpuacct"
        if controller in ("cpu", "cpuacct") and joined.exists():
            return joined / path
        return self.root / controller / path


def host() -> Tree:
    """This machine's."""
    return Tree.of(cgroups.ROOT)


def read(tree: Tree, group: str) -> Counters | None:
    """The books of a group; None if it is gone."""
    if not tree.folder("memory", group).exists() and not tree.folder("cpuacct", group).exists():
        return None
    return _unified(tree.folder("", group)) if tree.is_unified else _divided(tree, group)


def machine() -> Counters:
    """The whole machine's, of which version 2 has no group."""
    used = cgroups.machine_usage()
    fields = [int(word) for word in _text(_PROC_STAT).partition("\n")[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, *_ = [*fields, *[0] * 7]
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    times = Cpu(
        total_ns=used.cpu_ns,
        user_ns=(user + nice) * tick_ns,
        system_ns=(system + irq + softirq) * tick_ns,
    )
    return Counters(times, Memory(usage=used.memory_bytes, working_set=used.working_set_bytes))


def descriptors(tree: Tree, group: str) -> int:
    """How many files the processes of a group have open."""
    count = 0
    for pid in _text(tree.folder("memory", group) / "cgroup.procs").split():
        try:
            count += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names alone are wanted
        except OSError:
            continue  # it has ended since
    return count


# Version 2


def _unified(folder: Path) -> Counters:
    cpu, memory = _fields(folder / "cpu.stat"), _fields(folder / "memory.stat")
    events = _fields(folder / "memory.events")
    usage = _number(folder / "memory.current")
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return Counters(
        Cpu(
            total_ns=cpu.get("usage_usec", 0) * 1000,
            user_ns=cpu.get("user_usec", 0) * 1000,
            system_ns=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_ns=cpu.get("throttled_usec", 0) * 1000,
            quota_us=_whole(quota),
            period_us=_whole(period),
            shares=_shares(_number(folder / "cpu.weight")),
        ),
        Memory(
            usage=usage,
            working_set=max(0, usage - memory.get("inactive_file", 0)),
            rss=memory.get("anon", 0),
            cache=memory.get("file", 0),
            mapped_file=memory.get("file_mapped", 0),
            swap=_number(folder / "memory.swap.current"),
            kernel=memory.get("kernel", 0),
            max_usage=_number(folder / "memory.peak"),
            active_file=memory.get("active_file", 0),
            inactive_file=memory.get("inactive_file", 0),
            limit_hits=events.get("max", 0),
            faults=memory.get("pgfault", 0),
            major_faults=memory.get("pgmajfault", 0),
            oom_kills=events.get("oom_kill", 0),
            limit=_number(folder / "memory.max"),
            swap_limit=_number(folder / "memory.swap.max"),
            reservation=_number(folder / "memory.low"),
        ),
        dict(_io_stat(_text(folder / "io.stat"))),
        *_tasks(folder, folder),
    )


def _shares(weight: int) -> int:
    """A weight of version 2 as the shares of version 1 that it stands for."""
    return 0 if not weight else (weight - 1) * 262142 // 9999 + 2


def _io_stat(text: str) -> Iterator[tuple[str, Transfers]]:
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        values = dict(part.partition("=")[::2] for part in rest.split())
        amounts = [_whole(values.get(name, "")) for name in ("rbytes", "wbytes", "rios", "wios")]
        if any(amounts):
            yield device, Transfers(*amounts)


# Version 1


def _divided(tree: Tree, group: str) -> Counters:
    cpu, acct, memory = (tree.folder(name, group) for name in ("cpu", "cpuacct", "memory"))
    return Counters(
        _divided_cpu(cpu, acct),
        _divided_memory(memory),
        _throttle(tree.folder("blkio", group)),
        *_tasks(memory, tree.folder("pids", group)),
    )


def _divided_cpu(cpu: Path, acct: Path) -> Cpu:
    stat = _fields(cpu / "cpu.stat")
    return Cpu(
        total_ns=_number(acct / "cpuacct.usage"),
        user_ns=_number(acct / "cpuacct.usage_user"),
        system_ns=_number(acct / "cpuacct.usage_sys"),
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_time", 0),
        quota_us=max(0, _number(cpu / "cpu.cfs_quota_us")),
        period_us=_number(cpu / "cpu.cfs_period_us"),
        shares=_number(cpu / "cpu.shares"),
    )


def _divided_memory(folder: Path) -> Memory:
    stat = _fields(folder / "memory.stat")
    usage = _number(folder / "memory.usage_in_bytes")
    return Memory(
        usage=usage,
        working_set=max(0, usage - stat.get("total_inactive_file", 0)),
        rss=stat.get("total_rss", 0),
        cache=stat.get("total_cache", 0),
        mapped_file=stat.get("total_mapped_file", 0),
        swap=stat.get("total_swap", 0),
        kernel=_number(folder / "memory.kmem.usage_in_bytes"),
        max_usage=_number(folder / "memory.max_usage_in_bytes"),
        active_file=stat.get("total_active_file", 0),
        inactive_file=stat.get("total_inactive_file", 0),
        limit_hits=_number(folder / "memory.failcnt"),
        faults=stat.get("total_pgfault", 0),
        major_faults=stat.get("total_pgmajfault", 0),
        oom_kills=_fields(folder / "memory.oom_control").get("oom_kill", 0),
        limit=_limit(folder / "memory.limit_in_bytes"),
        swap_limit=_limit(folder / "memory.memsw.limit_in_bytes"),
        reservation=_limit(folder / "memory.soft_limit_in_bytes"),
    )


def _limit(path: Path) -> int:
    number = _number(path)
    return 0 if number > _UNLIMITED else number


def _throttle(folder: Path) -> dict[str, Transfers]:
    amounts: dict[str, dict[str, int]] = {}
    for suffix, file in (("bytes", "io_service_bytes"), ("s", "io_serviced")):
        for line in _text(folder / f"blkio.throttle.{file}_recursive").splitlines():
            device, *words = line.split()
            if len(words) == 2 and words[0] in _DIRECTIONS:
                name = _DIRECTIONS[words[0]]
                key = f"{name}_bytes" if suffix == "bytes" else f"{name}s"
                amounts.setdefault(device, {})[key] = _whole(words[1])
    return {device: Transfers(**each) for device, each in amounts.items() if any(each.values())}


# Files


def _tasks(folder: Path, pids: Path) -> tuple[int, int, int]:
    """Processes of the group itself, threads in it and below, and how many those may be (0: any number)."""
    processes = len(_text(folder / "cgroup.procs").split())
    return processes, _number(pids / "pids.current"), _number(pids / "pids.max")


def _text(path: Path) -> str:
    """The content of a file, without the line's end; nothing where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    """The number in a file; 0 where there is none, or `max`."""
    return _whole(_text(path))


def _whole(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else 0


def _fields(path: Path) -> dict[str, int]:
    return {
        key: _whole(value) for key, _, value in (line.partition(" ") for line in _text(path).splitlines())
    }
