"""A container's root file system: read-only layers with a writable directory of its own on top."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors, trees
from ondol.node import linux, paths
from ondol.node.runtime import spec

_OPTIONS_MAX: Final = 4000  # the kernel takes one page of mount options
_DIGITS_MAX: Final = 10  # those of the largest number of an account; an image may have any text there


@dataclass(frozen=True, slots=True)
class RootFolders:
    root: Path

    def mounted(self, container_id: str) -> Path:
        return self.root / container_id / "root"


def mount(folders: RootFolders, container_id: str, layers: Sequence[Path]) -> Path:
    """Stack the layers (lowest first) under a fresh writable directory; the mount point. Blocks."""
    own = folders.root / container_id
    remove(folders, container_id)
    # No one of the host passes by here to what an image brings, set-uid files among it. `upper` is what the
    # container sees as its root, where everyone passes.
    folders.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    own.mkdir(mode=0o700)
    for name in ("upper", "work", "root"):
        (own / name).mkdir(mode=0o755)
    if not layers:
        return own / "root"  # an image without layers: an empty, writable root
    parent = layers[0].parent.resolve()
    lower = ":".join(os.path.relpath(layer.resolve(), parent) for layer in reversed(layers))
    above = os.path.relpath(own.resolve(), parent)
    options = f"lowerdir={lower},upperdir={above}/upper,workdir={above}/work"
    if len(options) > _OPTIONS_MAX:
        raise _too_many(layers)
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


def mount_read_only(target: Path, layers: Sequence[Path]) -> None:
    """Stack the layers (lowest first) at `target`, for reading alone. Blocks."""
    parent = layers[0].parent.resolve()
    # The kernel wants two layers where nothing is written; by this mount a layer is known to be in use.
    nothing = parent / ".nothing"
    nothing.mkdir(exist_ok=True, mode=0o755)
    lower = ":".join(os.path.relpath(layer.resolve(), parent) for layer in (*reversed(layers), nothing))
    options = f"lowerdir={lower}"
    if len(options) > _OPTIONS_MAX:
        raise _too_many(layers)
    flags = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    place = target.resolve()

    def work() -> None:
        linux.unshare(linux.CLONE_FS)
        os.chdir(parent)
        linux.mount("overlay", str(place), "overlay", flags, options)

    linux.in_own_thread(work)


def _too_many(layers: Sequence[Path]) -> errors.HostError:
    return errors.HostError(
        f"the image has {len(layers)} layers, more than one overlay mount takes",
        remedy="build the image with fewer layers",
    )


def remove(folders: RootFolders, container_id: str) -> None:
    own = folders.root / container_id
    if own.exists():
        linux.unmount_all(str(own / "root"))
        trees.remove(own)


def existing(folders: RootFolders) -> list[str]:
    return sorted(entry.name for entry in folders.root.iterdir()) if folders.root.exists() else []


def user(root: Path, requested: str) -> spec.User:
    """An image's `User` (`name`, `uid`, `name:group`, …) as numbers, by the root's own passwd and group."""
    name, _, group = requested.partition(":")
    accounts, groups = _table(root, "etc/passwd"), _table(root, "etc/group")
    uid, gid, login = 0, 0, name
    if _is_number(name):
        uid = int(name)
        account = next((fields for fields in accounts.values() if fields[2] == name), None)
        login = account[0] if account else name
    elif name:
        account = accounts.get(name)
        if account is None:
            raise errors.Invalid(f"unable to find user {name}: no matching entries in passwd file")
    else:
        account, login = accounts.get("root"), "root"
    if account is not None:
        uid, gid = int(account[2]), int(account[3])
    if group:
        gid = _group(groups, group)
    also = tuple(sorted(int(g[2]) for g in groups.values() if len(g) > 3 and login in g[3].split(",")))
    return spec.User(uid, gid, also)


def _group(groups: Mapping[str, list[str]], name: str) -> int:
    if _is_number(name):
        return int(name)
    if name not in groups:
        raise errors.Invalid(f"unable to find group {name}: no matching entries in group file")
    return int(groups[name][2])


def make_folder(root: Path, path: str, owner: spec.User) -> None:
    """Make the folder a process starts in where the image has none; its missing ones belong to the user."""
    missing = paths.NewFolder(0o755, owner.uid, owner.gid)
    with paths.opened(root, path, as_root=True, missing=missing):
        return


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX


def _table(root: Path, name: str) -> dict[str, list[str]]:
    """The accounts or groups by name; lines that are none are left out, as the C library does."""
    content = paths.read(root, name) or b""
    rows = [line.split(":") for line in content.decode(errors="replace").splitlines()]
    numbers = slice(2, 4) if name.endswith("passwd") else slice(2, 3)
    return {row[0]: row for row in rows if row[numbers] and all(map(_is_number, row[numbers]))}
