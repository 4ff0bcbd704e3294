"""Gives what is in a volume to the pod's `fsGroup`, whatever other pods do in it meanwhile.

Each entry is opened without following a link and then changed by its descriptor: a container that swaps a
folder for a link to elsewhere has nothing of elsewhere changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ondol.node import paths
from ondol.node.volumes.volume import VolumeFailed

_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = 0o660
_FOLDER: Final = 0o770 | stat.S_ISGID


def give(folder: Path, group: int, *, only_on_mismatch: bool = False) -> None:
    """As the kubelet does: the group's, with its rights, and new files in folders the group's too. Blocks.

    The folder itself comes last: with `only_on_mismatch` it says whether all in it has been given.
    """
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if only_on_mismatch and _has_group(root, group):
            return
        for _, folders, names, above in os.fwalk(".", dir_fd=root, follow_symlinks=False):
            for name in (*folders, *names):
                with suppress(FileNotFoundError), _opened(name, above) as descriptor:  # gone meanwhile
                    _change(descriptor, group)
        _change(root, group)
    except RecursionError as error:
        raise VolumeFailed(
            f"{folder} has more folders inside each other than can be looked through"
        ) from error
    finally:
        os.close(root)


@contextmanager
def _opened(name: str, above: int) -> Iterator[int]:
    descriptor = os.open(name, _LOOK, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_group(descriptor: int, group: int) -> bool:
    facts = os.fstat(descriptor)
    return facts.st_gid == group and facts.st_mode & _FOLDER == _FOLDER


def _change(descriptor: int, group: int) -> None:
    facts = os.fstat(descriptor)
    if stat.S_ISLNK(facts.st_mode):
        return
    more = _FOLDER if stat.S_ISDIR(facts.st_mode) else _FILE
    mode = stat.S_IMODE(facts.st_mode)
    place = paths.by_descriptor(descriptor)
    if facts.st_gid != group:
        os.chown(place, -1, group)
    if mode | more != mode:
        os.chmod(place, mode | more)  # noqa: PTH101 - not a path but a descriptor
