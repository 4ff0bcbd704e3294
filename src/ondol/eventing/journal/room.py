"""Room on the disk for the journal: refused in time, for the server does not get over a disk that was full.

When a write fails it answers nothing, and that stream takes nothing more until the server is started anew.
So events are refused while there is some room left. Where it went wrong all the same, a file in its folder
has the server started anew (`engine.ready` sees it) as soon as there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from ondol.base import log
from ondol.base.clock import Clock
from ondol.eventing.journal.port import Full

MARGIN_BYTES: Final = 48 << 20
"""What stays free: several groups of events in flight, and what the server writes besides."""
STUCK: Final = "stuck"
"""The file that says that the server has to be started anew."""
_LOOK_S: Final = 0.5
_OVERDUE_MAX: Final = 3


class Room:
    """Looks at the file system of a folder, at most twice a second."""

    def __init__(self, folder: Path, *, clock: Clock, margin_bytes: int = MARGIN_BYTES) -> None:
        self._folder = folder
        self._clock = clock
        self._margin_bytes = margin_bytes
        self._looked_s = float("-inf")
        self._is_there = True
        self._overdue: dict[str, int] = {}
        self._fell_full: set[str] = set()
        """Streams that were not answered for while the disk was full."""
        self._log = log.get("journal")

    def require(self) -> None:
        """`Full` if there is none."""
        if not self._has_room():
            raise Full("the disk has no room for events: free some", retry_after_s=5)

    def _has_room(self) -> bool:
        now_s = self._clock.monotonic()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._is_there = self._free_bytes() >= self._margin_bytes
            if self._is_there and self._fell_full:
                self._stuck()
        return self._is_there

    def _free_bytes(self) -> int:
        try:
            status = os.statvfs(self._folder)
        except OSError:
            return self._margin_bytes  # there is no such folder yet: the server makes it
        return status.f_bavail * status.f_frsize

    def answered(self, stream: str) -> None:
        """The server said that something is kept of a stream."""
        self._overdue.pop(stream, None)
        self._fell_full.discard(stream)

    def overdue(self, stream: str) -> None:
        """It did not say in time whether something is kept; several times in a row the stream is stuck.

        With the disk full once is enough: there is no more to be learnt until there is room.
        """
        self._looked_s = float("-inf")
        self._overdue[stream] = self._overdue.get(stream, 0) + 1
        if not self._has_room():
            self._fell_full.add(stream)
        elif self._overdue[stream] >= _OVERDUE_MAX:
            self._stuck()

    def _stuck(self) -> None:
        self._overdue.clear()
        self._fell_full.clear()
        self._log.error("journal_stuck", why="it answers to no event: it is to be started anew")
        with contextlib.suppress(OSError):
            (self._folder / STUCK).touch(mode=0o600)
