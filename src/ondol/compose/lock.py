"""One supervisor a data directory: an advisory lock whose file names its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.compose import hints, processes
from ondol.compose.waiting import Deadline, sleep

_ENDING_S: Final = 15.0
_POLL_S: Final = 0.02
# `struct flock` of 64-bit Linux: type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi0q")


@contextlib.contextmanager
def hold(file: Path, *, ending_s: float = _ENDING_S, inherited: bool = False) -> Iterator[int]:
    """Hold the lock for this process and those it forks; `HostError` if another process has it.

    The kernel frees it when they are gone, however they end. Those of a holder that was killed are
    ending: they are waited for. A process that was other code before its `exec` may have it already:
    with `inherited` it goes on with that. The descriptor that holds it is in the block.
    """
    fd = (_inherited(file) if inherited else None) or _opened(file)
    try:
        deadline = Deadline(ending_s)
        while not _taken(fd):
            holder = _named(fd)
            if _is_alive(holder) or deadline.has_passed:
                raise errors.HostError(
                    f"a platform is already running on {file.parent} (pid {holder or 'unknown'})",
                    remedy=f"{hints.command('status', file.parent)}; or another --data-dir",
                )
            sleep(_POLL_S)
        if _named(fd) != os.getpid():  # else there would be an instant at which it names nobody
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield fd
    finally:
        os.close(fd)


def _inherited(file: Path) -> int | None:
    """This process's open descriptor of the file, if it came with one."""
    with contextlib.suppress(OSError):
        place = file.stat()
        for descriptor in processes.descriptors():
            with contextlib.suppress(OSError):
                status = os.fstat(descriptor)
                if (status.st_dev, status.st_ino) == (place.st_dev, place.st_ino):
                    os.set_inheritable(descriptor, False)
                    return descriptor
    return None


@contextlib.contextmanager
def turn(file: Path) -> Iterator[None]:
    """Wait for this process's turn at something short."""
    fd = _opened(file)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def holder(file: Path) -> int | None:
    """The pid that holds the lock, or None; `HostError` if this user may not know, or not end it.

    The file may be a user's who has had the folder before root's platform; what is in it then is root's.

    Asking does not touch it: a start at that moment succeeds.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise _of_another_user(file.parent) from error
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        pid = None if _FLOCK.unpack(answer)[0] == fcntl.F_UNLCK else _named(fd)
    finally:
        os.close(fd)
    if pid and not _may_signal(pid):
        raise _of_another_user(file.parent)
    return pid


def _of_another_user(data_dir: Path) -> errors.HostError:
    return errors.HostError(
        f"the platform on {data_dir} belongs to another user",
        remedy=f"{hints.as_root(data_dir)}; or choose another --data-dir",
    )


def _opened(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.HostError(
            f"{file} cannot be written: {error.strerror}",
            remedy=f"{hints.as_root(file.parent)}; or choose another --data-dir",
        ) from error


def _taken(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def _named(fd: int) -> int:
    """The pid the file names; 0 if none, as for an instant after the lock was taken."""
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if not pid:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _may_signal(pid: int) -> bool:
    """Whether the process is one that this user may end; one that has ended is nobody's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True
