"""Volumes whose files the node writes: how they are put in place, all at once.

A new folder is filled beside the former one and the link `..data` is swung over to it, so that a reader
sees one state or the next, never a mixture:

    <volume>/..17000001/a   the files as they were resolved last
    <volume>/..data         -> ..17000001
    <volume>/a              -> ..data/a
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, Protocol

from ondol.base import trees
from ondol.node.volumes.volume import (
    File,
    Files,
    Inputs,
    OwnFolder,
    Payload,
    Place,
    Plan,
    Spec,
    VolumeFailed,
    Waits,
)

_DEFAULT_MODE: Final = 0o644


class Project(Protocol):
    """The files of one source; each module of a projection has one, called `project`. Pure."""

    def __call__(self, source: Spec, inputs: Inputs, *, volume: str, mode: int) -> Payload:
        """`source` is what stands under the source's name, `mode` of files that have none of their own."""


class WrittenVolume(OwnFolder):
    """Read-only for containers; written anew whenever what it shows has changed."""

    is_read_only = True

    @property
    def mode(self) -> int:
        return mode(self.source.get("defaultMode"), _DEFAULT_MODE)

    def files(self, inputs: Inputs) -> Payload:
        """What must be there; `VolumeFailed` while something it is made from is missing. Pure."""
        raise NotImplementedError

    def resolve(self, inputs: Inputs) -> Plan:
        try:
            return Files(self.files(inputs))
        except VolumeFailed as missing:
            return Waits(str(missing))

    def place(self, at: Place, files: Payload) -> None:
        write(at, files)

    def refresh(self, at: Place, files: Payload) -> None:
        write(at, files)


def mode(own: int | None, default: int) -> int:
    return default if own is None else int(own)


def write(at: Place, files: Payload) -> bool:
    """Put the files in place in one step; False when they already are. Blocks."""
    folder = at.folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    if _current(folder) == {path: file.content for path, file in files.items()}:
        return False
    fresh = folder / f"..{at.revision}"
    trees.remove(fresh)
    fresh.mkdir(mode=0o755)
    for path, file in files.items():
        _write_file(fresh, path, file, at.fs_group)
    _swing(folder, fresh, files)
    return True


def _write_file(root: Path, path: str, file: File, fs_group: int | None) -> None:
    target = root / path
    if path.startswith("..") or ".." in Path(path).parts or Path(path).is_absolute():
        raise VolumeFailed(f"path {path!r} leads out of the volume")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.content)
    os.chown(target, -1 if file.owner is None else file.owner, -1 if fs_group is None else fs_group)
    target.chmod(file.mode if fs_group is None else file.mode | 0o440)


def _current(folder: Path) -> dict[str, bytes] | None:
    data = folder / "..data"
    if not data.exists():
        return None
    return {str(p.relative_to(data)): p.read_bytes() for p in sorted(data.rglob("*")) if p.is_file()}


def _swing(folder: Path, fresh: Path, files: Payload) -> None:
    data = folder / "..data"
    former = data.resolve() if data.is_symlink() else None
    beside = folder / "..data_tmp"
    beside.unlink(missing_ok=True)
    beside.symlink_to(fresh.name)
    beside.replace(data)
    heads = {Path(path).parts[0] for path in files}
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in heads:
            entry.unlink()
    for head in heads:
        _link(folder / head, f"..data/{head}")
    if former is not None and former != fresh:
        shutil.rmtree(former, ignore_errors=True)


def _link(link: Path, target: str) -> None:
    """Make the link; a folder in its place was made for a `subPath` that was not there at the time."""
    if link.is_dir() and not link.is_symlink():
        trees.remove(link)  # containers that have it mounted keep it until they start anew
    if not link.is_symlink():
        link.symlink_to(target)
