"""Options that the commands about functions share, and how they reach a function's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ondol.cli import terminal
from ondol.cli.output import UsageError
from ondol.compose.functions import folder as folders
from ondol.compose.functions.folder import Folder

PathOption = Annotated[
    Path,
    typer.Option("--path", "-p", envvar="FUNC_PATH", help="Folder of the function.", show_default="this one"),
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", help="NAME=VALUE, or NAME- to take one away; may be given again."),
]


def load(path: Path) -> Folder:
    """The function of a folder, for commands that make something of it: what has no effect is said."""
    folder = folders.load(path)
    for warning in folder.warnings:
        terminal.note(f"warning: {warning}")
    return folder


def look(path: Path) -> Folder:
    """The function of a folder, without a word of what has no effect."""
    return folders.load(path)


def pairs(words: list[str] | None, option: str) -> dict[str, str]:
    """`NAME=VALUE` words."""
    chosen = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {word}: write NAME=VALUE")
        chosen[name] = value
    return chosen
