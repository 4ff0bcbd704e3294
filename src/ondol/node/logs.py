"""Container logs: files in the CRI format read for a caller, and rotated when they grow.

A line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` marks a part of a longer line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ondol.base import clock as time
from ondol.base.clock import Clock

_CHUNK: Final = 256 * 1024
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class LogOptions:
    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float | None = None
    """Seconds since the epoch: older lines are left out."""
    limit_bytes: int | None = None
    stream: str = ""
    """`stdout` or `stderr` alone; empty for both."""


@dataclass(frozen=True, slots=True)
class Line:
    time: bytes
    stream: bytes
    is_whole: bool
    text: bytes


def parse(raw: bytes) -> Line | None:
    """One line without its end; None if it is not in the format."""
    parts = raw.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    return Line(parts[0], parts[1], parts[2] != b"P", parts[3])


def rendered(line: Line, *, timestamps: bool) -> bytes:
    text = line.text + b"\n" if line.is_whole else line.text
    return line.time.replace(b"+00:00", b"Z") + b" " + text if timestamps else text


class _Filter:
    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        self._is_inside = False

    @property
    def is_full(self) -> bool:
        return self._left is not None and self._left <= 0

    def take(self, raw: bytes) -> bytes:
        """What of this line the caller sees."""
        line = parse(raw)
        if line is None or self._is_old(line):
            return b""
        if self._options.stream and line.stream.decode() != self._options.stream:
            return b""
        shown = rendered(line, timestamps=self._options.timestamps and not self._is_inside)
        self._is_inside = not line.is_whole
        if self._left is not None:
            shown = shown[: self._left]
            self._left -= len(shown)
        return shown

    def _is_old(self, line: Line) -> bool:
        since = self._options.since
        return since is not None and time.parse_rfc3339(line.time.decode()[:19] + "Z") < since


def rotated(path: Path) -> list[Path]:
    """The file's earlier parts, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: part.stat().st_mtime)


async def read(
    path: Path, options: LogOptions, clock: Clock, is_over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The log as chunks; with `follow` until `is_over()` and everything was read."""
    chosen = _Filter(options)
    backlog, offset = await anyio.to_thread.run_sync(_backlog, path, options.tail_lines)
    shown = b"".join(chosen.take(line) for line in backlog)
    for start in range(0, len(shown), _CHUNK):
        yield shown[start : start + _CHUNK]
    if not options.follow:
        return
    rest = b""
    inode = _inode(path)
    while not chosen.is_full:
        was_over = is_over()
        chunk = _read_from(path, offset)
        offset += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        shown = b"".join(chosen.take(line) for line in lines)
        if shown:
            yield shown
        if chunk:
            continue
        current = _inode(path)
        if current not in (0, inode):
            inode, offset = current, 0
        elif was_over:
            return
        else:
            await clock.sleep(_POLL_S)


def _inode(path: Path) -> int:
    """Which file stands under the name now; 0 for none (a rotated log is a new one)."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b""


def _backlog(path: Path, tail_lines: int | None) -> tuple[list[bytes], int]:
    """Whole lines written so far (the last `tail_lines` of them) and where they end."""
    if not path.exists():
        return [], 0
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    lines = content[:end].splitlines()
    if tail_lines is None:
        return [*(line for part in rotated(path) for line in part.read_bytes().splitlines()), *lines], end
    for part in reversed(rotated(path)):
        if len(lines) >= tail_lines:
            break
        lines = [*part.read_bytes().splitlines(), *lines]
    return lines[len(lines) - min(tail_lines, len(lines)) :], end


def due_for_rotation(paths: Iterator[Path], bytes_max: int) -> list[Path]:
    return [path for path in paths if path.exists() and path.stat().st_size >= bytes_max]


def set_aside(path: Path, now: float, files_max: int) -> None:
    """Rename the file and drop the oldest parts; the writer must reopen it."""
    path.rename(path.with_name(f"{path.name}.{int(now * 1000)}"))
    parts = rotated(path)
    for old in parts[: max(0, len(parts) - (files_max - 1))]:
        old.unlink()
