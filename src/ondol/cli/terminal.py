"""Standard output and standard error, and how a command ends when its reader has closed them."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

_LOST: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})


class OutputLost(Exception):
    """Standard output takes no more; `is_closed` when its reader has ended, as in `| head -1`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror or error}")
        self.is_closed = isinstance(error, BrokenPipeError)


def write(text: str = "") -> None:
    with _watched():
        sys.stdout.write(f"{text}\n")


def write_bytes(chunk: bytes) -> None:
    """Print bytes as they are, at once."""
    with _watched():
        sys.stdout.flush()
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@contextmanager
def binary() -> Iterator[BinaryIO]:
    """Standard output for a document of bytes that something else writes."""
    with _watched():
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


def flush() -> None:
    with _watched():
        sys.stdout.flush()


def note(text: str) -> None:
    """Say something to the person, not to the pipe."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def columns() -> int:
    """How wide the terminal is; 0 where the output goes to a file or a program."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 0


@contextmanager
def watched() -> Iterator[None]:
    """While libraries print by themselves, as help is: what a stream refuses is lost output.

    An error that names a file, or is of another kind, is none of ours and goes on.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in _LOST:
            raise
        raise OutputLost(error) from error


@contextmanager
def _watched() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputLost(error) from error


def abandon() -> None:
    """Let go what could not be written, so that the interpreter does not try again as it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
