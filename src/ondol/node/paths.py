"""Paths below a folder whose contents a container or an image decides on: walked by descriptors.

A name that was checked and is then used again may stand for something else by then: a container that
swaps a folder for a link between the two leads whoever uses the name to a place of its choice (as in
CVE-2021-25741). So a path is opened here one component at a time, never through a link the kernel
follows by itself, and what was opened is what is used: through its descriptor, never by its name.

The walk is done here and not by `openat2`, since it also makes what is missing, must work on kernels
that lack the call, and so is one way that is always the tested one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors

_LINKS_MAX: Final = 40  # the limit of the kernel itself
_FILE_MAX_BYTES: Final = 1 << 20
_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class PathEscapes(errors.Invalid):
    """The path leads out of the folder it is taken below."""


@dataclass(frozen=True, slots=True)
class NewFolder:
    """What a missing folder becomes."""

    mode: int
    uid: int = 0
    gid: int = 0


@contextmanager
def opened(
    root: Path | str, path: str, *, as_root: bool = False, missing: NewFolder | None = None
) -> Iterator[int]:
    """An `O_PATH` descriptor of what `path` is below the folder `root`, open for the length of a block.

    Links on the way are followed as long as they stay below. `as_root` reads the path as a process does
    that has `root` as its root: an absolute link begins there again and `..` above it stays; without it
    both are an escape. With `missing`, folders that are not there are made; without, `FileNotFoundError`.
    """
    walk = _Walk(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), path, as_root, missing)
    try:
        yield walk.to_the_end()
    finally:
        walk.close()


def by_descriptor(descriptor: int) -> str:
    """A name for what is open, for calls that take only names."""
    return f"/proc/self/fd/{descriptor}"


def read(root: Path, path: str) -> bytes | None:
    """A regular file below `root` as a process sees it that has `root` as its root; None if there is none.

    `Invalid` for one of more than 1 MiB: an image decides what it holds.
    """
    try:
        with opened(root, path, as_root=True) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None  # neither waited for (a FIFO) nor talked to (a device)
            with open(by_descriptor(descriptor), "rb") as file:  # noqa: PTH123 - not a path but a descriptor
                content = file.read(_FILE_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(content) > _FILE_MAX_BYTES:
        raise errors.Invalid(f"{path} is larger than {_FILE_MAX_BYTES} bytes")
    return content


class _Walk:
    """The folders from the root to where the walk is, all open: `..` goes back to one that was passed."""

    def __init__(self, root: int, path: str, as_root: bool, missing: NewFolder | None) -> None:
        self._open = [root]
        self._path = path
        self._as_root = as_root
        self._missing = missing

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def to_the_end(self) -> int:
        remaining, links = self._parts(self._path), 0
        while remaining:
            part = remaining.pop()
            if part == "..":
                self._back()
                continue
            step = self._step(part)
            if stat.S_ISLNK(os.fstat(step).st_mode):
                links += 1
                remaining += self._through(step, links)
            else:
                self._open.append(step)
        return self._open[-1]

    def _parts(self, path: str) -> list[str]:
        """The components, the first one last; from an absolute path on the walk is at the root again."""
        if path.startswith("/"):
            if not self._as_root:
                raise self._escapes()
            while len(self._open) > 1:
                os.close(self._open.pop())
        return [part for part in reversed(path.split("/")) if part not in ("", ".")]

    def _back(self) -> None:
        if len(self._open) > 1:
            os.close(self._open.pop())
        elif not self._as_root:
            raise self._escapes()

    def _escapes(self) -> PathEscapes:
        return PathEscapes(f"{self._path!r} leads out of the folder it is in")

    def _through(self, link: int, links: int) -> list[str]:
        """What a link holds, as text: so even one of procfs leads nowhere but below the root."""
        try:
            if links > _LINKS_MAX:
                raise errors.Invalid(f"too many links on the way to {self._path}")
            return self._parts(os.readlink("", dir_fd=link))
        finally:
            os.close(link)

    def _step(self, part: str) -> int:
        above = self._open[-1]
        try:
            return os.open(part, _LOOK, dir_fd=above)
        except FileNotFoundError:
            if self._missing is None:
                raise
        try:
            os.mkdir(part, 0o700, dir_fd=above)
        except FileExistsError:  # made by someone else meanwhile: taken as it is now
            return os.open(part, _LOOK, dir_fd=above)
        _set_owner_and_mode(part, above, self._missing)
        return os.open(part, _LOOK, dir_fd=above)


def _set_owner_and_mode(part: str, above: int, new: NewFolder) -> None:
    descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        os.fchown(descriptor, new.uid, new.gid)
        os.fchmod(descriptor, new.mode)
    finally:
        os.close(descriptor)
