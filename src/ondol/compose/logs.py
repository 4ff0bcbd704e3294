"""Log files that are bounded although other processes have them open for as long as they live."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

LOG_BYTES_MAX: Final = 10 * 1024 * 1024


def bound(file: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Move the end of a log that has grown too large to `.log.1`, and go on with an empty file.

    Those who write to it append, so they go on at its new end. A disk that is full, or anything else
    that goes wrong, costs lines of the log: what is too large is emptied even if it cannot be kept.
    """
    with contextlib.suppress(OSError):
        if file.stat().st_size <= bytes_max:
            return
        fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                _keep_end(fd, file.with_suffix(".log.1"), bytes_max)
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)


def bound_all(folder: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Every log of the folder, whoever writes it."""
    with contextlib.suppress(OSError):
        for file in folder.glob("*.log"):
            bound(file, bytes_max=bytes_max)


def _keep_end(fd: int, target: Path, bytes_max: int) -> None:
    """Write the last lines anew, in the place of what was kept before: on a full disk there is room there."""
    rotated = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        begin = max(0, os.fstat(fd).st_size - bytes_max)
        if begin:
            begin += max(0, os.pread(fd, 4096, begin - 1).find(b"\n"))
        room = 2 * bytes_max  # for what is written meanwhile, too
        while room and (sent := os.sendfile(rotated, fd, begin, room)):
            begin, room = begin + sent, room - sent
    finally:
        os.close(rotated)
