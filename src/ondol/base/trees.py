"""Folders removed with all that is in them, however deep: what a container has left may be of any shape.

`shutil.rmtree` calls itself, and keeps a descriptor, for each level: a tree of a thousand folders one within
the other ends it with `RecursionError`, and whoever may write to a volume can make one of a million.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path


def remove(path: Path) -> None:
    """Remove the folder and everything below; it may be missing.

    No link is followed, and nothing that is mounted below is entered or lost: `OSError` (EBUSY) then, and
    other errors as from the system. What was removed before an error is gone. Neither stack nor descriptors
    grow with the depth: the folders within a folder are moved up to the top before it is removed, so that
    only two levels are ever looked at. Each is moved once.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    path.rmdir()


def _empty(top: int) -> None:
    moved = f".{secrets.token_hex(8)}"  # nobody can have made such a name beforehand
    count = 0
    while inner := _only_folders(top):
        for name in inner:
            if _is_removed(top, name):
                continue
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                for below in _only_folders(folder):
                    os.rename(below, f"{moved}{count}", src_dir_fd=folder, dst_dir_fd=top)
                    count += 1
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)


def _is_removed(top: int, name: str) -> bool:
    """Whether a folder was empty, and is gone. The kernel says EBUSY of a mount before it looks into it.

    Also of one from the same file system, whose device says nothing.
    """
    try:
        os.rmdir(name, dir_fd=top)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _only_folders(folder: int) -> list[str]:
    """The names of the folders in it; everything else in it is removed."""
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in listed if is_folder]
