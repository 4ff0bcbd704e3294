"""Commands about images: build, ls, rm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from ondol.base import errors
from ondol.build import image
from ondol.build.store import ImageStore
from ondol.cli import output, terminal
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import settings

_NAMED_MAX: Final = 5

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
        built = image.build(directory, reference, _store(data_dir), progress=terminal.note)
        for warning in built.warnings:
            terminal.note(f"warning: {warning}")
        if form is not Format.TABLE:
            output.document(dataclasses.asdict(built), form)
            return
        terminal.write(f"{built.reference}  {built.digest}")
        rows = [
            (layer.kind, output.megabytes(layer.size_bytes), "reused" if layer.reused else "built")
            for layer in built.layers
        ]
        output.table(("LAYER", "SIZE", ""), rows)
        terminal.note(f"{built.seconds:.1f} s; runs: {' '.join(built.command)}")


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
    reference: Annotated[str, typer.Argument(help="Name of the image.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Also one that pods use.")] = False,
) -> None:
    """Remove an image and what only it needed; one that pods of a running platform use is kept."""
    with output.explained():
        store = _store(data_dir)
        if (image := store.find(reference)) is None:
            raise errors.NotFound(f"there is no image {reference}")
        if not force:
            from ondol.cli import image_users  # noqa: PLC0415 - a client, which the other commands do not need

            _refuse_used(image.reference, image_users.pods(image, store.images(), data_dir))
        store.remove(reference)
        freed = store.garbage_collect()
        terminal.write(f"{reference} removed, {output.megabytes(freed.size_bytes)} freed")


def _refuse_used(reference: str, pods: Sequence[str]) -> None:
    if pods:
        more = len(pods) - _NAMED_MAX
        words = ", ".join(pods[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        raise errors.HostError(
            f"{reference} is used by {'pod' if len(pods) == 1 else 'pods'} {words}",
            remedy="delete what uses it first, or remove it all the same with --force",
        )
