"""Container logs: files in the CRI format read for a caller, and rotated when they grow.

A line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` marks a part of a longer line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import anyio
import anyio.lowlevel
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
        text = rendered(line, timestamps=self._options.timestamps and not self._is_inside)
        self._is_inside = not line.is_whole
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _is_old(self, line: Line) -> bool:
        since = self._options.since
        return since is not None and time.parse_rfc3339(line.time.decode()) < since


def rotated(path: Path) -> list[Path]:
    """The file's earlier parts, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"), key=lambda part: part.stat().st_mtime)


async def read(
    path: Path, options: LogOptions, clock: Clock, is_over: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The log as chunks; with `follow` until `is_over()` and everything was read.

    Files are read as they were opened, whatever is renamed meanwhile, and in blocks: a log of any length
    takes little memory, and others have their turn between two blocks.
    """
    chosen = _Filter(options)
    with contextlib.ExitStack() as stack:
        files = await anyio.to_thread.run_sync(_opened, path, options.tail_lines, stack)
        for file in files:
            async for chunk in _selected(file, chosen):
                yield chunk
        if options.follow:
            last = files[-1] if files else None
            async for chunk in _followed(last, chosen, path, stack, clock=clock, is_over=is_over):
                yield chunk


def _opened(path: Path, tail_lines: int | None, stack: contextlib.ExitStack) -> list[BinaryIO]:
    """The parts and the file itself, the oldest first, each where reading begins."""
    files: list[BinaryIO] = []
    inodes: set[int] = set()
    # The newest first: one that is renamed meanwhile is met again as a part, and known by its inode.
    for place in [path, *reversed(rotated(path))]:
        try:
            file = stack.enter_context(place.open("rb"))
        except FileNotFoundError:
            continue
        inode = os.fstat(file.fileno()).st_ino
        if inode in inodes:
            continue
        inodes.add(inode)
        files.insert(0, file)
        if tail_lines is not None:
            tail_lines -= _seek_tail(file, tail_lines)
            if tail_lines <= 0:
                break
    return files


def _seek_tail(file: BinaryIO, lines: int) -> int:
    """Stand before the last `lines` lines, or at the beginning; how many there are from there on.

    Parts of a line are one: a program that does not buffer, as Python does in most images, writes a line and
    its end apart, and whoever asks for one line would often be given the end alone.
    """
    counted = 0
    for position, entry in _backwards(file):
        parsed = parse(entry)
        if parsed is None or parsed.is_whole or counted == 0:
            if counted == lines:
                file.seek(position + len(entry) + 1)
                return lines
            counted += 1
    file.seek(0)
    return counted


def _backwards(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The entries of a file from the newest on, without their ends, each with where it begins."""
    end = file.seek(0, os.SEEK_END)
    rest = b""
    while end > 0:
        start = max(end - _CHUNK, 0)
        file.seek(start)
        first, *entries = (file.read(end - start) + rest).split(b"\n")
        position = start + len(first) + sum(len(entry) + 1 for entry in entries) + 1
        for entry in reversed(entries):
            position -= len(entry) + 1
            if entry:  # behind the last end there is nothing
                yield position, entry
        rest, end = first, start
    if rest:
        yield 0, rest


async def _selected(file: BinaryIO, chosen: _Filter) -> AsyncIterator[bytes]:
    """What the caller sees of the whole lines from where the file stands; half a line is left for later."""
    rest = b""
    while not chosen.is_full:
        chunk = file.read(_CHUNK)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        selected = b"".join(chosen.take(line) for line in lines)
        if selected:
            yield selected
        await anyio.lowlevel.checkpoint()
    file.seek(-len(rest), os.SEEK_CUR)


async def _followed(
    file: BinaryIO | None,
    chosen: _Filter,
    path: Path,
    stack: contextlib.ExitStack,
    *,
    clock: Clock,
    is_over: Callable[[], bool],
) -> AsyncIterator[bytes]:
    while not chosen.is_full:
        was_over = is_over()
        # Once there is a new file nobody writes to this one any more: it is read to its end first.
        following = _successor(path, file, stack)
        if file is not None:
            async for chunk in _selected(file, chosen):
                yield chunk
        if following is not None:
            file = following
        elif was_over:
            return
        else:
            await clock.sleep(_POLL_S)


def _successor(path: Path, file: BinaryIO | None, stack: contextlib.ExitStack) -> BinaryIO | None:
    """The file that stands under the name now, if it is another one (a rotated log is a new one)."""
    try:
        if file is not None and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return None
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def due_for_rotation(paths: Iterator[Path], bytes_max: int) -> list[Path]:
    return [path for path in paths if path.exists() and path.stat().st_size >= bytes_max]


def set_aside(path: Path, now: float, files_max: int) -> None:
    """Rename the file and drop the oldest parts; the writer must reopen it."""
    path.rename(path.with_name(f"{path.name}.{int(now * 1000)}"))
    parts = rotated(path)
    for old in parts[: max(0, len(parts) - (files_max - 1))]:
        old.unlink()
