"""Facts about a process from `/proc` (proc(5)); 0 where the kernel has none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def descriptors() -> list[int]:
    """What this process has open, of which some may be closed by now."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def children() -> list[int]:
    """The processes whose parent is this one, or rather its first thread."""
    with contextlib.suppress(OSError):
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        return [int(word) for word in listed.split()]
    return []


def memory_bytes(pid: int) -> int:
    """Proportional set size of a process, or its resident size where that may not be read."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    return 0


def cpu_s(pid: int) -> float:
    """Processor seconds a process has used, its own and the kernel's for it."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return 0.0


def runnable_s(pid: int) -> float:
    """How long a process's first thread, whose event loop it is, has run or waited for a processor.

    On a full machine the wait belongs to it.
    """
    with contextlib.suppress(OSError, ValueError):
        run_ns, wait_ns, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
        return (int(run_ns) + int(wait_ns)) / 1e9
    return 0.0
