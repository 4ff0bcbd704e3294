"""Unpacked layers that nothing needs any more: neither an image in the store nor a running container."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ondol.base import trees
from ondol.node.images.store import ImageStore

_LOWER: Final = re.compile(r"[\s,]lowerdir=([^\s,]+)")
_REMOVING: Final = ".removing-"
_MOUNTS: Final = Path("/proc/self/mountinfo")


def collect(root: Path, store: ImageStore, *, mounts: Path = _MOUNTS) -> list[str]:
    """Remove what is not needed; the digests (in hexadecimal) of what went. Blocks.

    `ImageCorrupt` before anything is removed when an image's manifest cannot be read: nothing goes on a
    guess. A layer goes by a rename first, so that a container that starts this moment finds it whole or
    not at all, and then tries again.
    """
    needed = {digest.partition(":")[2] for digest in store.layer_digests()}
    needed |= mounted(mounts.read_text(encoding="utf-8"))
    doomed = unneeded([entry.name for entry in root.iterdir()], needed)
    for name in doomed:
        (root / name).rename(root / f"{_REMOVING}{name}")
    for leftover in root.glob(f"{_REMOVING}*"):
        trees.remove(leftover)
    return doomed


def unneeded(names: Collection[str], needed: Collection[str]) -> list[str]:
    """Of the entries of the folder of layers those that are layers and not needed."""
    return sorted(name for name in names if not name.startswith(".") and name not in needed)


def mounted(mountinfo: str) -> set[str]:
    """The folders that overlay mounts stand on, by the last part of their paths."""
    overlays = (line for line in mountinfo.splitlines() if " - overlay " in line)
    lowers = (lower for line in overlays for lower in _LOWER.findall(line))
    return {os.path.basename(path) for lower in lowers for path in lower.split(":")}  # noqa: PTH119 - pure text
