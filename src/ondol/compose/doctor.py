"""What this machine offers and lacks, tried rather than guessed, each with the command that mends it."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.compose import hints, lock
from ondol.compose import instance as instances
from ondol.compose.settings import Settings

_CLONE_NEWNET: Final = 0x40000000
_DISK_BYTES_MIN: Final = 1 << 30
_INOTIFY_INSTANCES_MIN: Final = 128


class Verdict(enum.StrEnum):
    """`fail` stops the platform from working; `warn` only narrows what it can do."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found and, unless all is well, what to do."""

    name: str
    verdict: Verdict
    observed: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; changes nothing that stays."""
    return [*machine(settings), *_data(settings)]


def machine(settings: Settings) -> list[Finding]:
    """What a start needs to know; the data are looked at by who opens them."""
    return [
        *_software(),
        *_events(settings),
        *_kernel(),
        _disk(settings.data_dir),
        *_ports(settings),
    ]


def _data(settings: Settings) -> Iterator[Finding]:
    """Whether every object that is kept can be read. Not asked while a platform runs, which has them open."""
    existing = instances.load(settings.data_dir)
    if existing is None or lock.holder(existing.lock_file) is not None:
        return
    from ondol.apiserver import documents  # noqa: PLC0415 - none of the other findings needs the store
    from ondol.store import repair  # noqa: PLC0415 - likewise

    if not repair.ever_existed(existing.store_file):
        return
    try:
        with hints.restorable(settings.data_dir):
            rows = repair.examine(existing.store_file, documents.is_whole)
    except errors.HostError as error:
        yield Finding("objects", Verdict.FAIL, str(error), error.remedy)
        return
    yield Finding("objects", Verdict.OK, f"{rows} rows at {existing.store_file}")


def require(settings: Settings) -> None:
    """Raise `HostError` with the first finding that would stop the platform."""
    for finding in machine(settings):
        if finding.verdict is Verdict.FAIL:
            raise errors.HostError(f"{finding.name}: {finding.observed}", remedy=finding.remedy)


def _software() -> Iterator[Finding]:
    version = platform.python_version()
    ok = sys.version_info >= (3, 11)
    yield Finding("python", _verdict(ok), version, "" if ok else "install Python 3.11 or newer")
    yield _program("container runtime", ("crun", "runc"), package="crun")
    yield _program("container monitor", ("conmon",), package="conmon")
    yield _program("nftables", ("nft",), package="nftables")
    yield _program("kubectl", ("kubectl",), package="kubernetes-client", needed=False)


def _events(settings: Settings) -> Iterator[Finding]:
    """Whether there is what keeps events: nothing else fails without it, and a broker is never ready."""
    if not settings.eventing:
        return
    from ondol.eventing import engine  # noqa: PLC0415 - no other command looks for it

    try:
        yield Finding("event store", Verdict.OK, str(engine.binary()))
    except errors.HostError as error:
        yield Finding("event store", Verdict.WARN, str(error), error.remedy)


def _program(name: str, programs: tuple[str, ...], *, package: str, needed: bool = True) -> Finding:
    paths = [path for program in programs if (path := shutil.which(program))]
    if paths:
        return Finding(name, Verdict.OK, ", ".join(paths))
    verdict = Verdict.FAIL if needed else Verdict.WARN
    return Finding(name, verdict, f"{' or '.join(programs)} not found", _install(package))


def _install(package: str) -> str:
    for manager, command in (("apt-get", "apt-get install -y"), ("dnf", "dnf install -y")):
        if shutil.which(manager):
            return f"{'' if os.geteuid() == 0 else 'sudo '}{command} {package}"
    return f"install {package} with your package manager"


def _kernel() -> Iterator[Finding]:
    root = os.geteuid() == 0
    yield Finding(
        "privileges",
        _verdict(root),
        "root" if root else f"user {os.geteuid()}",
        "" if root else "run with sudo: pods need network namespaces and mounts",
    )
    yield Finding("kernel", Verdict.OK, platform.release())
    yield _cgroups()
    if root:
        yield _try(
            "network namespaces", lambda: _in_child(_CLONE_NEWNET), "enable CONFIG_NET_NS in the kernel"
        )
        yield _try("overlayfs", _mount_overlay, "modprobe overlay")
    forwarding = _read("/proc/sys/net/ipv4/ip_forward") == "1"
    yield Finding(
        "ip forwarding", Verdict.OK, "on" if forwarding else "off: it is switched on when the platform starts"
    )
    limit = int(_read("/proc/sys/fs/inotify/max_user_instances") or 0)
    yield Finding(
        "inotify instances",
        Verdict.OK if limit >= _INOTIFY_INSTANCES_MIN else Verdict.WARN,
        str(limit),
        "" if limit >= _INOTIFY_INSTANCES_MIN else "sysctl -w fs.inotify.max_user_instances=512",
    )


def _cgroups() -> Finding:
    mounts = _read("/proc/self/mounts").splitlines()
    kinds = {line.split()[2] for line in mounts if line.split()[1].startswith("/sys/fs/cgroup")}
    if "cgroup" in kinds:
        mode = "hybrid (v1 controllers beside v2)" if "cgroup2" in kinds else "v1"
    else:
        mode = "v2" if "cgroup2" in kinds else ""
    if not mode:
        return Finding("cgroups", Verdict.FAIL, "not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    return Finding("cgroups", Verdict.OK, mode)


def _try(name: str, attempt: Callable[[], None], remedy: str) -> Finding:
    try:
        attempt()
    except OSError as error:
        return Finding(name, Verdict.FAIL, error.strerror or str(error), remedy)
    return Finding(name, Verdict.OK, "works")


def _in_child(flags: int) -> None:
    """Unshare in a child process, so that this one stays where it is."""
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os._exit(ctypes.get_errno() if libc.unshare(flags) else 0)
    _, status = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(code, os.strerror(code))


def _mount_overlay() -> None:
    with tempfile.TemporaryDirectory(prefix="ondol-doctor-") as folder, contextlib.ExitStack() as undo:
        # The scratch folder may itself be on an overlay, which cannot hold another's upper folder.
        _run("mount", "-t", "tmpfs", "tmpfs", folder)
        undo.callback(_run, "umount", folder)
        parts = [Path(folder) / part for part in ("lower", "upper", "work", "merged")]
        for part in parts:
            part.mkdir()
        lower, upper, work, merged = parts
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "overlay", "-o", options, str(merged))
        undo.callback(_run, "umount", str(merged))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.returncode, done.stderr.strip() or "failed")


def _disk(data_dir: Path) -> Finding:
    existing = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        "disk",
        Verdict.OK if free >= _DISK_BYTES_MIN else Verdict.WARN,
        f"{free / (1 << 30):.1f} GiB free at {existing}",
        "" if free >= _DISK_BYTES_MIN else "free some space, or choose another folder with --data-dir",
    )


def _ports(settings: Settings) -> Iterator[Finding]:
    """Ports of an instance that exists but is not running must be free; a new one picks free ones."""
    existing = instances.load(settings.data_dir)
    if existing is None or lock.holder(existing.lock_file) is not None:
        return
    for name, port in (("api port", existing.ports.api), ("ingress port", existing.ports.ingress)):
        free = instances.is_free(port, "127.0.0.1")
        yield Finding(
            name,
            _verdict(free),
            f"{port} is {'free' if free else 'in use'}",
            "" if free else f"stop what listens on it: ss -ltnp 'sport = :{port}'",
        )


def _verdict(ok: bool) -> Verdict:
    return Verdict.OK if ok else Verdict.FAIL


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
