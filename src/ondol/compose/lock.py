"""One supervisor a data directory: an advisory lock whose file names its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ondol.base import errors


@contextlib.contextmanager
def hold(file: Path) -> Iterator[None]:
    """Hold the lock for this process and its life; `HostError` if another process has it.

    The kernel frees it when the holder dies, however it dies.
    """
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.HostError(
            f"{file} cannot be written: {error.strerror}",
            remedy="run as the user that owns it, or choose another --data-dir",
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode().strip() or "unknown"
            raise errors.HostError(
                f"a platform is already running on {file.parent} (pid {holder})",
                remedy="ondol status, ondol down, or another --data-dir",
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(file: Path) -> int | None:
    """The pid that holds the lock, or None; `HostError` if this user may not know."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise errors.HostError(
            f"the platform on {file.parent} belongs to another user",
            remedy="run with sudo, or choose another folder with --data-dir",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(fd, 32, 0).decode().strip() or 0)
    finally:
        os.close(fd)
    return None
