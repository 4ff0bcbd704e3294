"""What the code before the `exec` has left to this process: gone on with, or done away with if unreadable."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from typing import Final

from ondol.base import errors, log
from ondol.compose import handover, processes, waiting
from ondol.compose.handover import Handover

_GRACE_S: Final = 10.0


def taken_up(descriptor: int, *, spared: Collection[int]) -> Handover | None:
    """The predecessor's document, whose descriptor is closed; None if it is not for us.

    Then its processes are ended and its descriptors closed, but for those `spared`: a start from nothing is
    what is left.
    """
    try:
        left = handover.read(descriptor)
        handover.require_for(left, os.getpid())
    except errors.HostError as error:
        log.get("supervisor").error("nothing_taken_up", why=str(error))
        _end(processes.children())
        _close_others(spared)
        return None
    os.close(descriptor)
    return left


def _end(pids: Collection[int]) -> None:
    """Ask them to end, then insist."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        if waiting.until(lambda: not _remaining(pids), timeout_s=_GRACE_S):
            return


def _remaining(pids: Collection[int]) -> list[int]:
    """Those that have not ended; the others are forgotten by the kernel."""
    left = []
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                left.append(pid)
    return left


def _close_others(spared: Collection[int]) -> None:
    """Close what came open through the `exec`: nobody knows what it is."""
    for descriptor in processes.descriptors():
        with contextlib.suppress(OSError):
            if descriptor > 2 and descriptor not in spared and os.get_inheritable(descriptor):
                os.close(descriptor)
