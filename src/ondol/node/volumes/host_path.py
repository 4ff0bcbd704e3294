"""`hostPath`: a place of this machine as it is; what containers write there stays."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ondol.node.volumes.volume import (
    Elsewhere,
    Inputs,
    Kind,
    OwnFolder,
    Payload,
    Place,
    Plan,
    VolumeFailed,
)

_CHECKS: Final = {
    "Directory": Path.is_dir,
    "File": Path.is_file,
    "Socket": Path.is_socket,
    "CharDevice": Path.is_char_device,
    "BlockDevice": Path.is_block_device,
}


class HostPathVolume(OwnFolder):
    def resolve(self, inputs: Inputs) -> Plan:  # noqa: ARG002 - it is named in the pod
        return Elsewhere(Path(self.source["path"]), str(self.source.get("type") or ""))

    def place(self, at: Place, files: Payload) -> None:  # noqa: ARG002 - it has none
        check(at.folder, at.type)

    def remove(self, folder: Path) -> None:
        """It is the machine's, not the pod's."""


def check(path: Path, type_: str) -> None:
    """Make sure that there is what the type says, or make it; `VolumeFailed`. Blocks."""
    if type_ == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif type_ == "FileOrCreate":
        path.touch(mode=0o644)
    elif type_ and not _CHECKS[type_](path):
        raise VolumeFailed(f"hostPath type check failed: {path} is not a {type_}")


KIND: Final[Kind] = HostPathVolume
