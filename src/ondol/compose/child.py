"""What a forked process does to become a part: its own session, log and signals; its end is reported."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Final, NoReturn

from ondol.base import errors
from ondol.compose import logs
from ondol.compose.part import Notify, Part

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


def become(part: Part, notify: Notify, *, parent: int, log_file: Path) -> NoReturn:
    """Run the part in this process, which ends with it, and with the `parent`."""
    code = 1
    try:
        os.setsid()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2):
            signal.signal(signum, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        _end_with_parent(part.name, parent)
        _redirect_output(log_file)
        part.run(notify)
        code = 0
    except errors.OndolError as error:
        remedy = f" ({error.remedy})" if isinstance(error, errors.HostError) and error.remedy else ""
        notify.failed(f"{error}{remedy}")
        traceback.print_exc()  # last: the log may be on a full disk
    except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happened
        notify.failed(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    finally:
        flush_output()
        os._exit(code)


def flush_output() -> None:
    """Write out what is buffered; on a full disk it is lost, and nobody ends for it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _end_with_parent(name: str, parent: int) -> None:
    """Have the kernel end this process when the supervisor dies, and name it in process lists."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, f"ondol-{name}".encode()[:15], 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request was made
        os._exit(1)


def _redirect_output(file: Path) -> None:
    logs.bound(file)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # Whatever the parent had put in their place, the child writes to its own file, line by line.
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
