"""Files written so that the disk is never filled to its end: of whatever others may have packed."""

from __future__ import annotations

import errno
import os
from typing import IO, Final

_EXAMINED_BYTES: Final = 16 << 20
_EXAMINED_FILES: Final = 4096
_SHARE_LEFT: Final = 20


class Room:
    """What is left on a disk, looked at every so often while something is unpacked to it.

    A packed archive of kilobytes may unpack to terabytes or millions of files, and what else lives on the
    disk is not to die of it: `OSError` (ENOSPC) where less than a twentieth would be left to others.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = 0
        self._files = 0

    def take(self, size_bytes: int, files: int = 0) -> None:
        """Before so much more is written."""
        self._bytes += size_bytes
        self._files += files
        if self._bytes < _EXAMINED_BYTES and self._files < _EXAMINED_FILES:
            return
        self._bytes = self._files = 0
        disk = os.fstatvfs(self._descriptor)
        if disk.f_bavail * _SHARE_LEFT < disk.f_blocks:
            raise OSError(errno.ENOSPC, "it would leave less than a twentieth of the disk free")
        if disk.f_files and disk.f_favail * _SHARE_LEFT < disk.f_files:
            raise OSError(errno.ENOSPC, "it would leave less than a twentieth of the disk's files free")


class Sparing:
    """A file being written that leaves the last twentieth of its disk to others, as `Room` says."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._room = Room(file.fileno())

    def write(self, data: bytes) -> int:
        self._room.take(len(data))
        return self._file.write(data)
