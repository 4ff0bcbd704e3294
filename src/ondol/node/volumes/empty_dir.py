"""`emptyDir`: an empty folder on the node's disk, or in its memory, for as long as the pod is here."""

from __future__ import annotations

import os
from typing import Final

from ondol.api import volume_kinds
from ondol.base import quantity
from ondol.node import linux
from ondol.node.volumes.volume import Kind, OwnFolder, Payload, Place


class EmptyDirVolume(OwnFolder):
    """A `sizeLimit` of one on the disk is looked after from time to time, see `pods.storage`."""

    def unsupported(self) -> list[str]:
        medium = self.source.get("medium")
        return [] if (medium or "") in volume_kinds.MEDIA else [f"medium={medium}"]

    def place(self, at: Place, files: Payload) -> None:  # noqa: ARG002 - it has none
        folder = at.folder
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if self.source.get("medium") == "Memory" and not os.path.ismount(folder):
            limit = self.source.get("sizeLimit")
            options = "mode=1777" + (f",size={quantity.bytes_of(limit)}" if limit else "")
            linux.mount("tmpfs", str(folder), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
            is_new = True
        if is_new:
            folder.chmod(0o777)
            if at.fs_group is not None:
                os.chown(folder, -1, at.fs_group)
                folder.chmod(0o2777)


KIND: Final[Kind] = EmptyDirVolume
