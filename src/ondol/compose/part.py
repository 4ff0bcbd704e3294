"""What a part of the platform is to its supervisor: a process, declared once, that reports how it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass


class Notify:
    """A part's end of the pipe to its supervisor: called once the part serves."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self) -> None:
        self.write("READY")

    def alive(self) -> None:
        """Report that the part's event loop goes round; nothing while the last report is still unread.

        So the pipe never fills, and nobody waits, however long the supervisor does not read.
        """
        unread = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        if not unread:
            self.write("ALIVE")

    def failed(self, message: str) -> None:
        """Report why the part ends."""
        self.write(f"FAILED {message}")

    def write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, f"{line}\n".encode())


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the platform.

    `run` is called in the forked child and does not return before the part ends (an engine replaces the
    process by `exec`). It starts once the parts in `needs` are ready, and is asked to end once those in
    `outlives` have ended. Ready is a Python part when it calls its `Notify`; an engine cannot, so it has a
    `probe` instead, which must answer at once. One with a `silence_max_s` reports that it is alive, or
    answers its probe, more often than that, or it is killed and started again: a Python part later if it
    works all the while than if it hangs.

    `address` is where it listens, as `ondol status` prints it. `idle_memory_mib` is what it may take of
    memory at rest (proportional set size); the benchmarks name a part that takes more.
    """

    name: str
    run: Callable[[Notify], None]
    needs: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    probe: Callable[[], bool] | None = None
    silence_max_s: float | None = None
    address: str = ""
    idle_memory_mib: int = 0
