"""A copy of everything kept, as a file: what `ondol backup` of a running platform is made of.

Only who may do anything may have it: no role but `cluster-admin` allows the path.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ondol.apiserver.core import Core
from ondol.apiserver.exchange import PIECE_BYTES, Stream
from ondol.base import errors

PATH: Final = "/ondol/backup"
SCRATCH: Final = ".backup-"
"""How folders begin that are only used while a backup is made or restored."""
_LIMIT_S: Final = 3600.0
"""How long it may be read: what is not read yet is on the disk, not in memory."""


def remove_leftovers(folder: Path) -> None:
    """Of backups that were cut off."""
    for leftover in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)


async def get(core: Core) -> Stream:
    """The copy is made before the first byte is sent, so that an error has a status."""
    folder = core.config.scratch_dir
    if folder is None:
        raise errors.Unavailable("this server keeps nothing in files")
    place = tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder)
    copy = Path(place.name) / "store.db"
    try:
        await core.store.copy(copy)
    except BaseException:
        place.cleanup()
        raise

    async def produce(emit: Callable[[bytes], Awaitable[None]]) -> None:
        try:
            async with await anyio.open_file(copy, "rb") as file:
                while piece := await file.read(PIECE_BYTES):
                    await emit(piece)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(place.cleanup)

    return Stream(produce, b"application/vnd.sqlite3", limit_s=_LIMIT_S)
