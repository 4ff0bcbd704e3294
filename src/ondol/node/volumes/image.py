"""`image`: the files of an image, read-only and never executed from.

The folder is made with the other volumes. The image is brought and mounted with the containers that have
the volume: they wait for it as they do for their own (`pods.image_volumes`).
"""

from __future__ import annotations

from typing import Final

from ondol.node.volumes.volume import Kind, OwnFolder, Payload, Place


class ImageVolume(OwnFolder):
    is_read_only = True
    options = ("noexec",)

    def place(self, at: Place, files: Payload) -> None:  # noqa: ARG002 - it has none
        at.folder.mkdir(parents=True, exist_ok=True, mode=0o755)


KIND: Final[Kind] = ImageVolume
