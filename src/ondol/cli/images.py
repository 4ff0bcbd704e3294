"""Commands about images: build, ls, rm."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ondol.base import errors
from ondol.build import image
from ondol.build.store import ImageStore
from ondol.cli import output
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Images of this machine: build, ls, rm.")


def _store(data_dir: Path | None) -> ImageStore:
    return ImageStore(settings.load(data_dir).data_dir / "images")


@app.command("build")
def build_image(
    directory: Annotated[Path, typer.Argument(help="Folder of a Python application.")],
    tag: Annotated[str, typer.Option("--tag", "-t", help="Name of the image; the folder's by default.")] = "",
    data_dir: DataDir = None,
    form: Output = Format.TABLE,
) -> None:
    """Turn a Python application into an image, without Docker and without a registry."""
    with output.explained():
        reference = tag or f"ondol.local/{directory.resolve().name.lower()}:latest"
        built = image.build(directory, reference, _store(data_dir), progress=output.note)
        for warning in built.warnings:
            output.note(f"warning: {warning}")
        if form is not Format.TABLE:
            output.document(dataclasses.asdict(built), form)
            return
        output.write(f"{built.reference}  {built.digest}")
        rows = [
            (layer.kind, output.megabytes(layer.size_bytes), "reused" if layer.reused else "built")
            for layer in built.layers
        ]
        output.table(("LAYER", "SIZE", ""), rows)
        output.note(f"{built.seconds:.1f} s; runs: {' '.join(built.command)}")


@app.command("ls")
def list_images(data_dir: DataDir = None, form: Output = Format.TABLE) -> None:
    """List the images of this machine."""
    with output.explained():
        found = _store(data_dir).images()
        if form is not Format.TABLE:
            output.document([dataclasses.asdict(i) for i in found], form)
            return
        rows = [(i.reference, i.digest[:19], output.megabytes(i.size_bytes)) for i in found]
        output.table(("IMAGE", "DIGEST", "SIZE"), rows)


@app.command("rm")
def remove_image(
    reference: Annotated[str, typer.Argument(help="Name of the image.")], data_dir: DataDir = None
) -> None:
    """Remove an image and what only it needed."""
    with output.explained():
        store = _store(data_dir)
        if not store.remove(reference):
            raise errors.NotFound(f"there is no image {reference}")
        freed = store.garbage_collect()
        output.write(f"{reference} removed, {output.megabytes(freed.size_bytes)} freed")
