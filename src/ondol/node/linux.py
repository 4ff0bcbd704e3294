"""The Linux calls the standard library lacks: namespaces, mounts and work in a thread of their own.

Used by the network (sandboxes), the images (overlay mounts) and the volumes (tmpfs). A thread that
has left its namespaces must not return to a pool, so such work runs in a fresh thread that ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str, path: str = "") -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", path)


def unshare(flags: int) -> None:
    """Move the calling thread to new namespaces (`CLONE_NEW*`) or its own directory (`CLONE_FS`)."""
    _checked(_libc.unshare(flags), "unshare")


def enter(path: str, kind: int) -> None:
    """Move the calling thread to the namespace that the file stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, kind), "setns", path)
    finally:
        os.close(descriptor)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _checked(result, f"mount {kind or 'bind'} {source}", target)


def unmount(target: str) -> bool:
    """Detach what is mounted at `target`; False when nothing is (or the place is gone)."""
    if _libc.umount2(target.encode(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT):
        return False
    raise OSError(number, f"unmount: {os.strerror(number)}", target)


def unmount_all(target: str) -> None:
    """Detach every mount stacked at `target`."""
    while unmount(target):
        pass


def mounts_below(directory: str) -> list[str]:
    """Mount points inside `directory`, the deepest first."""
    prefix = directory.rstrip("/") + "/"
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    points = [mount_point(line) for line in lines]
    return sorted((p for p in points if p.startswith(prefix)), key=len, reverse=True)


def mount_point(line: bytes) -> str:
    """The mount point in a line of mountinfo, in which blanks and backslashes stand in octal."""
    return os.fsdecode(_OCTAL.sub(lambda code: bytes([int(code[1], 8)]), line.split()[4]))


def in_own_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread that ends afterwards, so that it may leave its namespaces behind."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
            failure.append(error)

    thread = threading.Thread(target=body, name="ondol-namespaces")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def boot_id() -> str:
    """Differs after every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def capability_mask() -> int:
    """What this process may pass on to those it starts."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapBnd:")), 16)


def process_started(pid: int) -> int:
    """Clock ticks after boot at which the process began, 0 when there is none: pids are reused."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])
