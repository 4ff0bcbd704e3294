"""Programs of others that a build runs: bounded in time, and their own words where they fail."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.build.errors import BuildError

_LINES_MAX: Final = 12
_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class Task:
    """What a program is run for, in the words of its failures.

    `doing` begins "... took more than", `failure` stands before the program's own lines: the first of them if
    `shows_first` (a compiler's), else the last (an installer's).
    """

    doing: str
    if_slow: str
    failure: str
    if_failed: str
    shows_first: bool = False


def run(task: Task, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
    """Run the program in a folder; `BuildError` says how it failed and what mends it."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{task.doing} took more than {_TIMEOUT_S} s", remedy=task.if_slow) from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        shown = lines[:_LINES_MAX] if task.shows_first else lines[-_LINES_MAX:]
        raise BuildError(f"{task.failure}:\n  " + "\n  ".join(shown), remedy=task.if_failed)
