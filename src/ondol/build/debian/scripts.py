"""Which accounts a package's installation scripts would make, read and not run. Pure.

A script is a program, and only its plainest words are understood: `adduser --system … NAME` (or `useradd`)
and `chown NAME FOLDER` with literal words, as nearly all packages of daemons have them.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_NAME: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_ENDS: Final = re.compile(r"\|\||&&|[;|>]|2>")
_COMMAND: Final = re.compile(r"(?:^|[\s;&|(!/=])(adduser|useradd|chown)\s(.*)")
_SYSTEM: Final = ("--system", "-r")
_OWN: Final = ("/var/", "/run/")
_HOMES: Final = ("--home", "--home-dir", "-d")


@dataclass(slots=True)
class Accounts:
    """Accounts by name, and the folders that are given to each."""

    names: set[str] = field(default_factory=set)
    folders: dict[str, str] = field(default_factory=dict)


def accounts(script: str) -> Accounts:
    """What the script makes, as far as it says so plainly; lines that cannot be read are passed over."""
    listed = Accounts()
    for command, words in _commands(script):
        if command == "chown":
            _give(listed, words)
        elif any(word in _SYSTEM for word in words) and _NAME.fullmatch(words[-1]):
            listed.names.add(words[-1])
            for option, value in itertools.pairwise(words):
                if option in _HOMES:
                    _give(listed, [words[-1], value])
    return listed


def _commands(script: str) -> Iterator[tuple[str, list[str]]]:
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        match = None if line.lstrip().startswith("#") else _COMMAND.search(line)
        if match is None:
            continue
        try:
            words = shlex.split(_ENDS.split(match[2])[0])
        except ValueError:
            continue  # quotes over several lines
        if words:
            yield match[1], words


def _give(listed: Accounts, words: list[str]) -> None:
    owner, *folders = [word for word in words if not word.startswith("-")] or [""]
    name = owner.partition(":")[0]
    if _NAME.fullmatch(name):
        own = [
            path
            for path in folders
            if path.startswith(_OWN) and not set(path) & set("$*?`") and "/../" not in path
        ]
        # With a dot in its name it is a file, as a log is: no folder may stand in its place.
        listed.folders |= {path.rstrip("/"): name for path in own if "." not in path.rpartition("/")[2]}
