"""Places of the node's own where what a descriptor holds is mounted, for a runtime that takes only names.

A `subPath` was opened without following a link out of its volume; its name may lead elsewhere by the time
the runtime looks. So the runtime is told the name of a place no container reaches, in the run folder, on
which the descriptor itself is mounted. Once the container has been made it has a mount of its own, and
the place is given back.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ondol.node import linux, paths


@dataclass(frozen=True, slots=True)
class Staging:
    """The places for one attempt of a container."""

    folder: Path

    def put(self, descriptor: int) -> Path:
        """Mount what is open there, with all that is mounted below it; the place. Blocks."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self.folder / str(len(os.listdir(self.folder)))  # noqa: PTH208 - only how many
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            place.mkdir(mode=0o700)
        else:
            place.touch(mode=0o600)
        flags = linux.MS_BIND | linux.MS_REC
        linux.mount(paths.by_descriptor(descriptor), str(place), flags=flags)
        return place

    @property
    def is_used(self) -> bool:
        return self.folder.exists()

    def give_back(self) -> None:
        """Unmount and remove every place; what was mounted there is never touched. Blocks."""
        if not self.is_used:
            return
        for place in list(self.folder.iterdir()):
            linux.unmount_all(str(place))
            place.rmdir() if place.is_dir() else place.unlink()
        self.folder.rmdir()


def place_of(run_dir: Path, container_id: str) -> Staging:
    return Staging(run_dir / "staging" / container_id)


def existing(run_dir: Path) -> list[Staging]:
    """Those an agent that ended in the middle left."""
    folder = run_dir / "staging"
    return [Staging(entry) for entry in folder.iterdir()] if folder.exists() else []
