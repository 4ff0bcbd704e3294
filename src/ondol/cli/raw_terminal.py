"""The person's own terminal while it is a process' in a pod: every key goes there, and so does its size."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from typing import Final

import anyio

_CHUNK: Final = 32 * 1024


def is_terminal() -> bool:
    """Whether a person types, as opposed to a file or a program."""
    return os.isatty(sys.stdin.fileno())


@contextlib.contextmanager
def raw(*, is_asked: bool) -> Iterator[None]:
    """Hand on keys as they are pressed, Ctrl-C too; the terminal is as before afterwards."""
    if not is_asked:
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def typed() -> AsyncIterator[bytes]:
    """Standard input to its end."""
    descriptor = sys.stdin.fileno()
    while data := await _read(descriptor):
        yield data


async def _read(descriptor: int) -> bytes:
    with contextlib.suppress(PermissionError):  # a file, which never keeps anybody waiting
        await anyio.wait_readable(descriptor)
    return os.read(descriptor, _CHUNK)


async def sizes() -> AsyncIterator[tuple[int, int]]:
    """Columns and rows, now and whenever they change."""
    with anyio.open_signal_receiver(signal.SIGWINCH) as changes:
        yield _size()
        async for _ in changes:
            yield _size()


def _size() -> tuple[int, int]:
    columns, rows = os.get_terminal_size(sys.stdin.fileno())
    return columns, rows
