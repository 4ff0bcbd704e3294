"""The folders of the machine's own volumes, below the data directory.

    volumes/            root's alone, 0700
    volumes/pvc-<uid>   one volume, 0777: containers of any user write there, and nobody else can get in
    volumes/making/     an empty file for each folder that is not known to have its volume yet

A folder is marked before it is made and the mark goes when the API server has the volume: what was begun and
came to nothing is removed, also by a later agent. What is in a volume is containers' doing, so it is removed
by descriptors, through no link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ondol.base import errors, trees
from ondol.node import linux

_MARKS: Final = "making"
_CLOSED: Final = 0o700
_OPEN: Final = 0o777
_NAME: Final = re.compile(r"pvc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Folders:
    """All of it blocks, and raises `OSError`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> Path:
        """Where the volume is; `Invalid` for a name that the provisioner gives to none."""
        if not _NAME.fullmatch(name):
            raise errors.Invalid(f"{name} is no name of a provisioned volume")
        return self._root / name

    def make(self, name: str) -> Path:
        """The folder, marked as one whose volume is still to come; as it is if it is there."""
        path = self.path(name)
        for folder in (self._root, self._root / _MARKS):
            folder.mkdir(mode=_CLOSED, parents=True, exist_ok=True)
        (self._root / _MARKS / name).touch(mode=0o600)
        try:
            path.mkdir(mode=_CLOSED)
        except FileExistsError:
            return path
        path.chmod(_OPEN)  # whatever the umask
        return path

    def keep(self, name: str) -> None:
        """The API server has the volume: from now on it says what becomes of the folder."""
        (self._root / _MARKS / self.path(name).name).unlink(missing_ok=True)

    def marked(self) -> list[str]:
        """The names of folders that may have no volume."""
        marks = self._root / _MARKS
        return (
            sorted(each.name for each in marks.iterdir() if _NAME.fullmatch(each.name))
            if marks.exists()
            else []
        )

    def remove(self, name: str) -> None:
        """The folder with all that is in it, and its mark; nothing if it is gone. `HostError` while mounted.

        A link in its place is removed, not followed.
        """
        path = self.path(name)
        if linux.mounts_below(str(path)) or path.is_mount():  # what is mounted belongs to someone else
            raise errors.HostError(f"{path} is still mounted", remedy="it is tried again")
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            trees.remove(path)
        self.keep(name)
