"""Hears when the images of the store change: its index is written anew, by whatever process.

Builds and imports write `index.json` beside its place and rename it; some write it in place. inotify tells
of both, without a look every so often.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskStatus

from ondol.base import log
from ondol.base.clock import Clock

_INDEX: Final = b"index.json"
_CLOSE_WRITE: Final = 0x8
_MOVED_TO: Final = 0x80
_HEAD_BYTES: Final = 16
"""Of an event: watch, mask, cookie and the length of the name that follows, four numbers of 32 bits."""
_BUFFER_BYTES: Final = 64 * 1024
_SETTLE_S: Final = 0.02
"""An import of many images writes the index for each."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_log = log.get("node.images")


async def follow(
    folder: Path,
    clock: Clock,
    changed: Callable[[], Awaitable[None]],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call `changed` after each change of the index in the folder, which is made if need be; for ever.

    `started` once no change is missed. Where the kernel has no watch to give, that is told and images are
    tried again by their back-off alone.
    """
    try:
        descriptor = _watched(folder)
    except OSError as error:
        _log.warning("images_not_watched", folder=str(folder), error=str(error))
        task_status.started()
        return
    task_status.started()
    try:
        while True:
            await anyio.wait_readable(descriptor)
            if _is_about_index(os.read(descriptor, _BUFFER_BYTES)):
                await clock.sleep(_SETTLE_S)
                _drain(descriptor)
                await changed()
    finally:
        os.close(descriptor)


def _watched(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise _failure("inotify_init1")
    if _libc.inotify_add_watch(descriptor, os.fsencode(folder), _CLOSE_WRITE | _MOVED_TO) < 0:
        error = _failure("inotify_add_watch")
        os.close(descriptor)
        raise error
    return descriptor


def _failure(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def _drain(descriptor: int) -> None:
    """What has happened meanwhile is seen by whoever looks now."""
    try:
        os.read(descriptor, _BUFFER_BYTES)
    except BlockingIOError:
        return


def _is_about_index(events: bytes) -> bool:
    """Whether one of the events names the index; one without a name says that some were lost."""
    while events:
        length = int.from_bytes(events[_HEAD_BYTES - 4 : _HEAD_BYTES], "little")
        name = events[_HEAD_BYTES : _HEAD_BYTES + length].rstrip(b"\0")
        if name in (_INDEX, b""):
            return True
        events = events[_HEAD_BYTES + length :]
    return False
