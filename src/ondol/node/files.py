"""Files that are never half-written: written beside, then renamed over."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace the file's content in one step."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
    beside.replace(path)


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
