"""The OCI runtime spec of a container as a pure function of what the pod says."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.node.runtime.forking import capabilities

Document = dict[str, Any]

DEFAULT_CAPABILITIES: Final = capabilities.DEFAULT
ALL_CAPABILITIES: Final = capabilities.ALL
# What tells of the machine or of others on it: containerd's list, and the kernel's own memory beside it.
_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
# The folder of control groups is a writable tmpfs with their version 1 otherwise. Made read-only it shows
# copies of the trees in it, which crun has left writable at that time: each has to be named as well.
_READ_ONLY: Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/sys/fs/cgroup",
)


@dataclass(frozen=True, slots=True)
class User:
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """cgroup limits; None means none. CPU in thousandths of a core."""

    cpu_request_millis: int = 0
    cpu_limit_millis: int | None = None
    memory_limit_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """Everything a runtime spec is made of. `namespaces` maps kinds to paths, "" for a new one."""

    rootfs: str
    args: Sequence[str]
    cgroup: str
    env: Sequence[str] = ()
    cwd: str = "/"
    user: User = User()
    mounts: Sequence[Document] = ()
    namespaces: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    capabilities: Sequence[str] = DEFAULT_CAPABILITIES
    privileged: bool = False
    is_proc_masked: bool = True
    also_masked: Sequence[str] = ()
    also_read_only: Sequence[str] = ()
    """Paths beside those of every machine."""
    seccomp: Document | None = None
    """The profile that filters system calls; None for no filter."""
    read_only_root: bool = False
    no_new_privileges: bool = False
    own_pid_namespace: bool = True
    oom_score_adj: int | None = None
    terminal: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)


def bind(
    source: str, destination: str, *, read_only: bool = False, propagation: str = "rprivate"
) -> Document:
    options = ["rbind", propagation, "ro" if read_only else "rw"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def capabilities_of(mask: int) -> tuple[str, ...]:
    """The names of the capabilities in a mask as `/proc/<pid>/status` shows it."""
    return tuple(name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1)


def tmpfs(destination: str, *options: str) -> Document:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", *options]}


def runtime_spec(container: Container) -> Document:
    return {
        "ociVersion": "1.0.2",
        "process": _process(container),
        "root": {"path": container.rootfs, "readonly": container.read_only_root},
        "mounts": list(in_order(_base_mounts(container), container.mounts)),
        "annotations": dict(container.annotations),
        "linux": _linux(container),
    }


def in_order(base: Sequence[Document], own: Sequence[Document]) -> Iterator[Document]:
    """All mounts, a folder's before those in it whatever the order they are listed in; own ones win."""
    taken = {posixpath.normpath(mount["destination"]) for mount in own}
    inherited = [mount for mount in base if mount["destination"] not in taken]
    yield from sorted([*inherited, *own], key=lambda mount: _depth(mount["destination"]))


def _depth(path: str) -> int:
    return len([part for part in posixpath.normpath(path).split("/") if part])


def _process(container: Container) -> Document:
    capabilities = list(container.capabilities)
    sets: Document = {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}
    if container.user.uid != 0:
        sets = {"bounding": capabilities, "effective": [], "permitted": []}
    process: Document = {
        "terminal": container.terminal,
        "user": {
            "uid": container.user.uid,
            "gid": container.user.gid,
            "additionalGids": list(container.user.groups),
        },
        "args": list(container.args),
        "env": list(container.env),
        "cwd": container.cwd,
        "capabilities": {**sets, "inheritable": [], "ambient": []},
        "noNewPrivileges": container.no_new_privileges,
    }
    if container.oom_score_adj is not None:
        process["oomScoreAdj"] = container.oom_score_adj
    return process


def _base_mounts(container: Container) -> list[Document]:
    access = "rw" if container.privileged else "ro"
    mounts = [
        {
            "destination": "/proc",
            "type": "proc",
            "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        }
    ]
    if container.privileged:
        mounts.append(bind("/dev", "/dev", propagation="rslave"))
    else:
        mounts.append(tmpfs("/dev", "strictatime", "mode=755", "size=65536k"))
        mounts.append(
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            }
        )
    mounts.append(tmpfs("/dev/shm", "noexec", "nodev", "mode=1777", "size=65536k"))  # noqa: S108 - the place a container expects
    shared = ["nosuid", "noexec", "nodev"]
    mounts.append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": shared})
    mounts.append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*shared, access]})
    mounts.append(
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*shared, "relatime", access],
        }
    )
    return mounts


def _linux(container: Container) -> Document:
    namespaces: list[Document] = [{"type": "mount"}, {"type": "cgroup"}]
    if container.own_pid_namespace:
        namespaces.append({"type": "pid"})
    for kind, path in container.namespaces.items():
        namespaces.append({"type": kind, "path": path} if path else {"type": kind})
    is_masked = container.is_proc_masked and not container.privileged
    linux: Document = {
        "namespaces": namespaces,
        "cgroupsPath": container.cgroup,
        "resources": _resources(container),
        "maskedPaths": [*_MASKED, *container.also_masked] if is_masked else [],
        "readonlyPaths": [*_READ_ONLY, *container.also_read_only] if is_masked else [],
    }
    if container.seccomp is not None:
        linux["seccomp"] = container.seccomp
    return linux


def cpu_shares(millis: int) -> int:
    """As the kubelet does: 1024 shares a core, at least 2."""
    return max(2, min(millis * 1024 // 1000, 262144))


def cpu_quota(millis: int) -> int:
    """Microseconds of each period of 100 ms, at least one millisecond."""
    return max(1000, millis * 100)


CPU_PERIOD: Final = 100_000
"""Microseconds."""


def update_options(limits: Limits) -> list[str]:
    """What a runtime's `update` is told; both crun's and runc's."""
    options = [f"--cpu-share={cpu_shares(limits.cpu_request_millis)}"]
    if limits.cpu_limit_millis is not None:
        options += [f"--cpu-period={CPU_PERIOD}", f"--cpu-quota={cpu_quota(limits.cpu_limit_millis)}"]
    if limits.memory_limit_bytes is not None:
        options.append(f"--memory={limits.memory_limit_bytes}")
    return options


def _resources(container: Container) -> Document:
    limits = container.limits
    cpu: Document = {"shares": cpu_shares(limits.cpu_request_millis)}
    if limits.cpu_limit_millis is not None:
        cpu |= {"period": CPU_PERIOD, "quota": cpu_quota(limits.cpu_limit_millis)}
    resources: Document = {
        "devices": [{"allow": container.privileged, "access": "rwm"}],
        "cpu": cpu,
    }
    if limits.memory_limit_bytes is not None:
        resources["memory"] = {"limit": limits.memory_limit_bytes}
    if limits.pids is not None:
        resources["pids"] = {"limit": limits.pids}
    return resources
