"""A container's control groups.

To move a process into a group takes the kernel 10 to 20 ms, for it waits for all processors. So of version 1
they are made ahead under a name of nobody's, with the blank in them before anybody asks for it; they get the
pod's and the container's names in the end. Groups of version 2 cannot be renamed: there they are made with
their names, and the wait is a part of the start (`is_unified`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from . import devices

ROOT: Final = "/sys/fs/cgroup"
# As runtimes give them whatever the container says: null, zero, full, random, urandom, terminals; nodes of
# any kind may be made, not opened.
_DEVICES: Final = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 5:1 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
)

_CONTROLLERS: Final = ("cpu", "cpuset", "memory", "pids")
_PERIOD_US: Final = 100_000


@functools.cache
def is_unified() -> bool:
    """Whether the machine has version 2 alone."""
    return Path(f"{ROOT}/cgroup.controllers").exists()


@functools.cache
def hierarchies() -> list[str]:
    """Folders of all trees of version 1, or of the one tree of version 2 alone."""
    if is_unified():
        return [ROOT]
    folders = [each for each in sorted(Path(ROOT).iterdir()) if each.is_dir() and not each.is_symlink()]
    return [str(each) for each in folders if each.name != "unified"]


def make(group: str) -> None:
    """The group and its parents, in every tree, with the devices a container may open."""
    if is_unified():
        _make_unified(group)
        return
    for tree in hierarchies():
        folder = tree
        for part in group.strip("/").split("/"):
            above, folder = folder, f"{folder}/{part}"
            if Path(folder).is_dir():
                continue
            Path(folder).mkdir()
            if Path(f"{folder}/cpuset.cpus").exists():
                for name in ("cpuset.cpus", "cpuset.mems"):
                    _write(f"{folder}/{name}", _read(f"{above}/{name}"))
        if Path(f"{folder}/devices.deny").exists():
            _write(f"{folder}/devices.deny", "a")
            for rule in _DEVICES:
                _write(f"{folder}/devices.allow", rule)


def _make_unified(group: str) -> None:
    """A group has the controllers that its parent hands down, each parent what its own does."""
    folder = ROOT
    for part in group.strip("/").split("/"):
        offered = set(_read(f"{folder}/cgroup.controllers").split())
        handed = set(_read(f"{folder}/cgroup.subtree_control").split())
        if missing := sorted(offered.intersection(_CONTROLLERS) - handed):
            _write(f"{folder}/cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
        folder = f"{folder}/{part}"
        Path(folder).mkdir(exist_ok=True)
    devices.allow(folder, _DEVICES)


def join(group: str, pid: int = 0) -> None:
    """Put a process, by default the calling one, into the group, in every tree."""
    for tree in hierarchies():
        _write(f"{tree}{group}/cgroup.procs", str(pid))


def rename(group: str, name: str, parent: str) -> str:
    """Call the group `name` and its parent `parent`; the new path. The parent must not be there yet."""
    above, former = os.path.split(group)
    home, before = os.path.split(above)
    trees = hierarchies()
    if any(Path(f"{tree}{home}/{parent}").is_dir() for tree in trees):
        raise FileExistsError(f"{home}/{parent}: the pod has control groups already")
    for tree in trees:
        Path(f"{tree}{above}/{former}").rename(f"{tree}{above}/{name}")
        Path(f"{tree}{home}/{before}").rename(f"{tree}{home}/{parent}")
    return f"{home}/{parent}/{name}"


def limit(group: str, resources: Mapping[str, Any]) -> None:
    """Hold the group to what the runtime spec says; what it leaves out stays without a limit."""
    values = _unified_values(resources) if is_unified() else _values(resources)
    trees = hierarchies()
    for name, value in values:
        if value is None:
            continue
        for tree in trees:
            if Path(f"{tree}{group}/{name}").exists():
                _write(f"{tree}{group}/{name}", str(value))
                break
        else:
            raise OSError(f"this machine has no {name}")


def _values(resources: Mapping[str, Any]) -> list[tuple[str, Any]]:
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    return [
        ("cpu.shares", cpu.get("shares")),
        ("cpu.cfs_period_us", cpu.get("period")),
        ("cpu.cfs_quota_us", cpu.get("quota")),
        ("memory.limit_in_bytes", memory.get("limit")),
        ("pids.max", (resources.get("pids") or {}).get("limit")),
    ]


def _unified_values(resources: Mapping[str, Any]) -> list[tuple[str, Any]]:
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    shares, quota = cpu.get("shares"), cpu.get("quota")
    time = "max" if quota is None or quota < 0 else str(quota)
    pids = (resources.get("pids") or {}).get("limit")
    return [
        ("cpu.weight", None if shares is None else weight(shares)),
        ("cpu.max", None if quota is None else f"{time} {cpu.get('period') or _PERIOD_US}"),
        ("memory.max", _or_max(memory.get("limit"))),
        ("pids.max", _or_max(pids)),
    ]


def weight(shares: int) -> int:
    """Shares of version 1 (2 to 262144) as a weight of version 2 (1 to 10000), as Kubernetes counts them."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _or_max(limit: int | None) -> str | None:
    return None if limit is None else str(limit) if limit > 0 else "max"


def remove(group: str) -> None:
    """The group and its parent, as far as nobody is in them."""
    for tree in hierarchies():
        for folder in (f"{tree}{group}", f"{tree}{Path(group).parent}"):
            try:
                Path(folder).rmdir()
            except OSError:
                continue


def killed_for_memory(group: str) -> bool:
    """Whether the kernel ended a process of the group because memory ran out."""
    name = "memory.events" if is_unified() else "memory.oom_control"
    for tree in hierarchies():
        try:
            lines = _read(f"{tree}{group}/{name}").splitlines()
        except OSError:
            continue
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)
    return False


def views(group: str) -> Iterable[tuple[str, str]]:
    """Each tree's name and the folder of the group in it, and links between trees."""
    for tree in hierarchies():
        yield Path(tree).name, f"{tree}{group}"


def links() -> Iterable[tuple[str, str]]:
    for each in sorted(Path(ROOT).iterdir()):
        if each.is_symlink():
            yield each.name, str(each.readlink())


def _write(path: str, text: str) -> None:
    with Path(path).open("w", encoding="ascii") as file:
        file.write(text)


def _read(path: str) -> str:
    with Path(path).open(encoding="ascii") as file:
        return file.read()
