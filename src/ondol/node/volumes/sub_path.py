"""`subPath`: a part of a volume, opened so that no link leads out of it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ondol.node import paths
from ondol.node.volumes.volume import VolumeFailed


@contextmanager
def opened(folder: Path, path: str) -> Iterator[int]:
    """A descriptor of what a `subPath` of a volume is, open for the length of a block.

    What is missing is made as a folder like the volume's own, as the kubelet does. Links may not lead out
    of the volume, whatever containers that have it mounted do meanwhile. Blocks.
    """
    if path.startswith("/") or ".." in path.split("/"):
        raise VolumeFailed(f"subPath {path!r} must be relative and without '..'")
    with ExitStack() as stack:
        try:
            own = folder.stat()
            missing = paths.NewFolder(stat.S_IMODE(own.st_mode), gid=own.st_gid)
            descriptor = stack.enter_context(paths.opened(folder, path, missing=missing))
        except paths.PathEscapes as error:
            raise VolumeFailed(f"subPath {path!r} leads out of the volume") from error
        except OSError as error:
            raise VolumeFailed(f"subPath {path!r} cannot be opened: {error.strerror}") from error
        yield descriptor
