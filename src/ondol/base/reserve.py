"""Space on a disk that is kept for the moment when nothing else is left.

A reserve is a file of a fixed size beside what it is for. Whoever must write although the disk is full
gives the file up, writes into its space, and takes the reserve again once there is room.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether the call failed for want of space: of the disk, or of the user's share of it."""
    return error.errno in _FULL


class Reserve:
    """`size_bytes` of the disk that `path` is on; `path` itself holds the space and no content.

    Not for two processes at once. From several threads it may be used by one at a time.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def take(self) -> bool:
        """Whether the space is reserved; False where the disk has no room for it. Leaves no half of it."""
        if self._path.exists():
            return True
        draft = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size_bytes)
            finally:
                os.close(descriptor)
            draft.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            return False
        return True

    def give_up(self) -> bool:
        """Free the space; False if it is not reserved."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def write(self, write: Callable[[], T]) -> T:
        """What `write` returns; where the disk is full, it is called once more in the space of the reserve.

        `write` must leave nothing behind when it raises. `OSError` as from `write`, if there was no reserve
        or it was not enough.
        """
        try:
            return write()
        except OSError as error:
            if not is_full(error) or not self.give_up():
                raise
        return write()
