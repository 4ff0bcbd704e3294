"""A container's root file system: read-only layers with a writable directory of its own on top."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.node import linux
from ondol.node.runtime import spec

_LINKS_MAX: Final = 40
_OPTIONS_MAX: Final = 4000  # the kernel takes one page of mount options


@dataclass(frozen=True, slots=True)
class RootFolders:
    root: Path

    def mounted(self, container_id: str) -> Path:
        return self.root / container_id / "root"


def mount(folders: RootFolders, container_id: str, layers: Sequence[Path]) -> Path:
    """Stack the layers (lowest first) under a fresh writable directory; the mount point. Blocks."""
    own = folders.root / container_id
    remove(folders, container_id)
    for name in ("upper", "work", "root"):
        (own / name).mkdir(parents=True, mode=0o755)
    if not layers:
        return own / "root"  # an image without layers: an empty, writable root
    parent = layers[0].parent.resolve()
    lower = ":".join(os.path.relpath(layer.resolve(), parent) for layer in reversed(layers))
    above = os.path.relpath(own.resolve(), parent)
    options = f"lowerdir={lower},upperdir={above}/upper,workdir={above}/work"
    if len(options) > _OPTIONS_MAX:
        raise errors.HostError(
            f"the image has {len(layers)} layers, more than one overlay mount takes",
            remedy="build the image with fewer layers",
        )
    linux.in_own_thread(lambda: _overlay(parent, own / "root", options))
    return own / "root"


def _overlay(parent: Path, target: Path, options: str) -> None:
    # Relative names keep the options short and free of what a data directory's name may hold (`:`, `,`);
    # only this thread moves.
    linux.unshare(linux.CLONE_FS)
    os.chdir(parent)
    try:
        linux.mount("overlay", str(target), "overlay", 0, f"{options},volatile")
    except OSError:
        # Before Linux 5.10 there is no volatile; without it an unmount also writes everything out.
        linux.mount("overlay", str(target), "overlay", 0, options)


def remove(folders: RootFolders, container_id: str) -> None:
    own = folders.root / container_id
    if own.exists():
        linux.unmount_all(str(own / "root"))
        shutil.rmtree(own)


def existing(folders: RootFolders) -> list[str]:
    return sorted(entry.name for entry in folders.root.iterdir()) if folders.root.exists() else []


def user(root: Path, wanted: str) -> spec.User:
    """An image's `User` (`name`, `uid`, `name:group`, …) as numbers, by the root's own passwd and group."""
    name, _, group = wanted.partition(":")
    accounts, groups = _table(root, "etc/passwd"), _table(root, "etc/group")
    uid, gid, login = 0, 0, name
    if name.isdigit():
        uid = int(name)
        entry = next((fields for fields in accounts.values() if fields[2] == name), None)
        login = entry[0] if entry else name
    elif name:
        entry = accounts.get(name)
        if entry is None:
            raise errors.Invalid(f"unable to find user {name}: no matching entries in passwd file")
    else:
        entry, login = accounts.get("root"), "root"
    if entry is not None:
        uid, gid = int(entry[2]), int(entry[3])
    if group:
        gid = _group(groups, group)
    also = tuple(sorted(int(g[2]) for g in groups.values() if len(g) > 3 and login in g[3].split(",")))
    return spec.User(uid, gid, also)


def _group(groups: Mapping[str, list[str]], wanted: str) -> int:
    if wanted.isdigit():
        return int(wanted)
    if wanted not in groups:
        raise errors.Invalid(f"unable to find group {wanted}: no matching entries in group file")
    return int(groups[wanted][2])


def within(root: Path, path: str) -> Path:
    """Where a path leads for a process that has `root` as its root: no link leads out of it."""
    found, left, links = root, [part for part in path.split("/") if part], 0
    while left:
        part = left.pop(0)
        if part == "..":
            found = found.parent if found != root else root
        elif part != ".":
            step = found / part
            if not step.is_symlink():
                found = step
                continue
            links += 1
            if links > _LINKS_MAX:
                raise errors.Invalid(f"too many links on the way to {path}")
            target = str(step.readlink())
            found = root if target.startswith("/") else found
            left = [p for p in target.split("/") if p] + left
    return found


def _table(root: Path, name: str) -> dict[str, list[str]]:
    path = within(root, name)
    if not path.is_file():
        return {}
    rows = (line.split(":") for line in path.read_text(errors="replace").splitlines())
    return {fields[0]: fields for fields in rows if len(fields) > 3 or (len(fields) == 3 and "group" in name)}
