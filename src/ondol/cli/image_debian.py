"""`ondol image from-debian`: images of the distribution's packages."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ondol.build.debian import image
from ondol.build.store import ImageStore
from ondol.cli import output, terminal
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import settings


def from_debian(
    packages: Annotated[
        list[str], typer.Argument(help="Packages, each of which becomes an image; perhaps as NAME=VERSION.")
    ],
    tag: Annotated[
        str,
        typer.Option("--tag", "-t", help="Name of the image.", show_default="ondol.local/PACKAGE:VERSION"),
    ] = "",
    entrypoint: Annotated[
        str, typer.Option(help="Command to run, instead of what the package's service runs.")
    ] = "",
    beside: Annotated[
        list[str] | None, typer.Option("--with", help="A package to put in as well; may be repeated.")
    ] = None,
    data_dir: DataDir = None,
    form: Output = Format.TABLE,
) -> None:
    """Make images of Debian or Ubuntu packages with apt, without installing them and without Docker."""
    with output.explained():
        if len(packages) > 1 and (tag or entrypoint):
            raise output.UsageError("--tag and --entrypoint are for one package: each becomes an image")
        store = ImageStore(settings.load(data_dir).data_dir / "images")
        for package in packages:
            request = image.Request(package, tuple(beside or ()), tag, entrypoint)
            built = image.build(request, store, progress=terminal.note)
            _show(built, form)


def _show(built: image.Built, form: Format) -> None:
    for warning in built.warnings:
        terminal.note(f"warning: {warning}")
    if form is not Format.TABLE:
        output.document(dataclasses.asdict(built), form)
        return
    terminal.write(f"{built.reference}  {built.digest}")
    size = output.megabytes(built.size_bytes)
    terminal.note(f"{len(built.packages)} packages, {size}, {built.seconds:.1f} s")
    terminal.note(f"runs as {built.user}: {' '.join(built.command)}")
