"""Makes the interpreter that was forked look as one that was started for its program, and runs that."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import random
import signal
import site
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from . import calls

_ARGUMENTS_START: Final = 48  # of the fields of /proc/<pid>/stat, counted from one
_HEEDED: Final = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def unfit(process: Mapping[str, Any]) -> str:
    """What of a process is no program of Python that can be run here; empty where nothing is."""
    args = process["args"]
    if len(args) < 3 or args[1] != "-m" or not args[2] or args[2].startswith("-"):
        return "a command that is not `python3 -m <module>`"
    environment = variables(process["env"])
    others = [name for name in environment if name.startswith("PYTHON") and name not in _HEEDED]
    if others:
        return f"variable {others[0]}"
    if environment.get("LANG") != "C.UTF-8" or any(name.startswith("LC_") for name in environment):
        return "its locale"
    loader = [name for name in environment if name.startswith(("LD_", "MALLOC_", "GLIBC_TUNABLES"))]
    return f"variable {loader[0]}" if loader else ""


def variables(listed: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in listed)}


class _Nowhere:
    """A finder that knows of no module."""

    def find_spec(self, *_: object) -> None:
        return None


@contextlib.contextmanager
def no_imports() -> Iterator[None]:
    """What is not loaded cannot be: the image brings what would be found, and the rights are still root's."""
    finders = sys.meta_path[:]
    sys.meta_path[:] = [_Nowhere()]
    try:
        yield
    finally:
        sys.meta_path[:] = finders


def show_command(args: Sequence[str]) -> None:
    """Have `ps` show the command that the container was started for.

    Without CAP_SYS_RESOURCE nothing but zeros follow it to where the template's own command ended.
    """
    with Path("/proc/self/stat").open(encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = (int(fields[number - 3]) for number in (_ARGUMENTS_START, _ARGUMENTS_START + 1))
    text = b"".join(os.fsencode(arg) + b"\0" for arg in args)[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
    with contextlib.suppress(OSError):
        calls.prctl(calls.PR_SET_MM, calls.MM_ARG_END, start + len(text))
    calls.name_process(Path(args[0]).name)


def become(process: Mapping[str, Any]) -> str:
    """Environment, arguments, paths, random numbers and output as the process has them; its module."""
    args, environment = process["args"], variables(process["env"])
    _reset_signals()
    os.chdir(process["cwd"])
    os.umask(0o022)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = args[0]
    vars(sys)["_base_executable"] = args[0]
    sys.orig_argv = list(args)
    sys.argv = ["-m", *args[3:]]
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    added = [part for part in environment.get("PYTHONPATH", "").split(":") if part]
    folders = site.getsitepackages()  # of which the machine may have others than the image
    sys.path[:] = [str(Path.cwd()), *added, *(part for part in sys.path if part and part not in folders)]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    for folder in folders:
        if Path(folder).is_dir():
            site.addsitedir(folder)
    random.seed()
    _open_output(is_buffered=not environment.get("PYTHONUNBUFFERED"))
    for name in [name for name in sys.modules if name == "forking" or name.startswith("forking.")]:
        del sys.modules[name]
    return str(args[2])


def _reset_signals() -> None:
    """As at the start of an interpreter, whatever whoever began the platform had them do."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        ignored = number in (signal.SIGPIPE, signal.SIGXFSZ)
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _open_output(*, is_buffered: bool) -> None:
    """The standard streams as an interpreter opens them in this locale on pipes."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        handled = "backslashreplace" if number == 2 else "surrogateescape"
        raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
        if number == 0:
            buffer: Any = io.BufferedReader(raw)
        else:
            buffer = io.BufferedWriter(raw) if is_buffered else raw
        stream = io.TextIOWrapper(
            buffer,
            encoding="utf-8",
            errors=handled,
            line_buffering=number == 2 and is_buffered,
            write_through=not is_buffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
