"""Files that are never half-written: drafted beside their place, then renamed over it.

A reader sees the former content or the new one, whole, whenever it looks and whatever ends the writer.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which takes `path`'s place when the block ends without an error.

    `mode` is for a file that only now comes to be, and for one that is replaced; the umask takes from it.
    `durable` also asks the disk to have it, and its name, before this returns: without, a loss of power may
    bring the former content back (never a part of the new one on a journalling file system). `OSError` as
    from the system; then nothing has changed and no draft is left.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")  # two writers never share a draft
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def replace(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file's content in one step; arguments and errors as `replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content)


def sync_folder(path: Path) -> None:
    """Have the disk know which names a folder holds."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tail(path: Path, count: int) -> bytes:
    """The last bytes of a file that may be of any size; nothing when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(-min(count, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read(count)
    except FileNotFoundError:
        return b""


def read(path: Path) -> bytes | None:
    """The content, None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
