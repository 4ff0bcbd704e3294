"""The commands `backup` and `restore`: the state of a platform as one archive."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ondol.base import errors
from ondol.cli import output, terminal
from ondol.cli.output import DataDir
from ondol.compose import backups, settings

_PROBLEMS_MAX = 20


def backup(
    file: Annotated[str, typer.Argument(help="Where to write it, or - for standard output.")],
    data_dir: DataDir = None,
) -> None:
    """Write objects, certificates and settings into one archive, also while the platform runs."""
    with output.explained():
        chosen = settings.load(data_dir)
        if file == "-":
            if sys.stdout.isatty():
                raise errors.HostError(
                    "a backup cannot be written to a terminal", remedy="name a file, or use a pipe"
                )
            backups.create(chosen, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with output.whole_file(Path(file), mode=0o600) as out:
            backups.create(chosen, out)
        terminal.note(f"wrote {file}; it holds secrets and the keys of the platform")


def restore(
    file: Annotated[str, typer.Argument(help="The backup, or - for standard input.")] = "",
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Without a backup: keep what can still be read.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where the objects that are there are whole.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Put a backup into an empty or damaged data directory; what was there is kept beside it."""
    with output.explained():
        chosen = settings.load(data_dir)
        if salvage == bool(file):
            raise errors.HostError("nothing to restore", remedy="name a backup, or use --salvage")
        if salvage:
            saved, aside = backups.salvage(chosen)
            for problem in saved.problems[:_PROBLEMS_MAX]:
                terminal.note(f"lost: {problem}")
            if (more := len(saved.problems) - _PROBLEMS_MAX) > 0:
                terminal.note(f"and {more} more")
            terminal.note(f"saved {saved.rows} rows")
        elif file == "-":
            aside = backups.restore(chosen, sys.stdin.buffer, force=force)
        else:
            aside = _read(chosen, Path(file), force=force)
        terminal.note(f"what was there is kept in {aside}" if aside else "restored")


def _read(chosen: settings.Settings, source: Path, *, force: bool) -> Path | None:
    try:
        with source.open("rb") as archive:
            return backups.restore(chosen, archive, force=force)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise errors.HostError(
            f"{source} cannot be read: {error.strerror}", remedy="name a backup"
        ) from error
