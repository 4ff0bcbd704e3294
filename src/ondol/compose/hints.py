"""Commands as a user types them next, for the remedies of errors: they keep the user's data directory."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ondol.base import errors

DEFAULT_DATA_DIR: Final = Path("/var/lib/ondol")
"""One for the machine, whoever asks: only root can start a platform, with or without sudo."""
_OWN_PROGRAMS: Final = ("ondol", "__main__.py")


def sudo() -> str:
    """What who came by sudo puts before the next command too: the platform's files are root's."""
    return "sudo " if "SUDO_UID" in os.environ else ""


def as_root(data_dir: Path) -> str:
    """The command that was typed, for who may not run it; sudo passes nothing of the environment on."""
    program, *words = sys.argv
    if Path(program).name not in _OWN_PROGRAMS:
        return "run as root"
    is_named = any(word.partition("=")[0] == "--data-dir" for word in words)
    typed = ["sudo", "ondol", *words]
    return shlex.join(
        typed if is_named or data_dir == DEFAULT_DATA_DIR else [*typed, "--data-dir", str(data_dir)]
    )


@contextlib.contextmanager
def restorable(data_dir: Path) -> Iterator[None]:
    """While the data are read: where they are damaged or lost, the remedy names the commands that help."""
    try:
        yield
    except errors.Damaged as error:
        ways = f"{command('restore FILE', data_dir)} (a backup), or "
        ways += f"{command('restore --salvage', data_dir)} (what can still be read)"
        remedy = f"{ways}; {error.remedy}" if error.remedy else ways
        raise errors.HostError(str(error), remedy=remedy) from error


def command(words: str, data_dir: Path) -> str:
    """`ondol <words>` for the platform of a data directory, quoted for a shell."""
    place = "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"{sudo()}ondol {words}{place}"
