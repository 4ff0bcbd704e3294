"""Commands about images: build, pull, push, ls, inspect, tag, import (load), export (save), rm, prune."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from ondol.base import errors
from ondol.build import image, transfer
from ondol.build.store import Image, ImageStore
from ondol.cli import image_debian, output, terminal
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import settings

_NAMED_MAX: Final = 5
_AuthFile = Annotated[
    Path | None,
    typer.Option(
        "--auth-file",
        help="Logins as docker, podman or skopeo keep them.",
        show_default="REGISTRY_AUTH_FILE, or those of podman or docker",
    ),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Images of this machine.")


app.command("from-debian")(image_debian.from_debian)


def _store(data_dir: Path | None) -> ImageStore:
    return ImageStore(settings.load(data_dir).data_dir / "images")


@app.command("build")
def build_image(
    directory: Annotated[Path, typer.Argument(help="Folder of a Python application.")],
    tag: Annotated[str, typer.Option("--tag", "-t", help="Name of the image; the folder's by default.")] = "",
    python: Annotated[
        Path | None,
        typer.Option(help="Python to put into the image.", show_default="the machine's own"),
    ] = None,
    data_dir: DataDir = None,
    form: Output = Format.TABLE,
) -> None:
    """Turn a Python application into an image, without Docker and without a registry."""
    with output.explained():
        reference = tag or f"ondol.local/{directory.resolve().name.lower()}:latest"
        built = image.build(directory, reference, _store(data_dir), python=python, progress=terminal.note)
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
        images = _store(data_dir).images()
        if form is not Format.TABLE:
            output.document([dataclasses.asdict(i) for i in images], form)
            return
        rows = [(i.reference, i.digest[:19], output.megabytes(i.size_bytes)) for i in images]
        output.table(("IMAGE", "DIGEST", "SIZE"), rows)


@app.command("pull")
def pull_image(
    reference: Annotated[str, typer.Argument(help="Name of the image, as a Pod names it.")],
    auth_file: _AuthFile = None,
    data_dir: DataDir = None,
) -> None:
    """Bring an image from its registry; a name without one is of Docker Hub."""
    from ondol.cli import image_transfers  # noqa: PLC0415 - a client, which the other commands do not need

    with output.explained():
        loaded = settings.load(data_dir)
        pulled = image_transfers.pull(reference, _store(data_dir), loaded, auth_file)
        terminal.write(f"{pulled.reference}  {pulled.digest}")


@app.command("push")
def push_image(
    reference: Annotated[str, typer.Argument(help="Name of the image here.")],
    target: Annotated[str, typer.Argument(help="Name in the registry.", show_default="the same")] = "",
    auth_file: _AuthFile = None,
    data_dir: DataDir = None,
) -> None:
    """Send an image of this machine to a registry."""
    from ondol.cli import image_transfers  # noqa: PLC0415 - likewise

    with output.explained():
        store = _store(data_dir)
        image = _named(store, reference)
        image_transfers.push(image, target or image.reference, store, settings.load(data_dir), auth_file)
        terminal.write(f"{target or image.reference}  {image.digest}")


@app.command("inspect")
def inspect_image(
    reference: Annotated[str, typer.Argument(help="Name of the image.")], data_dir: DataDir = None
) -> None:
    """Show an image's manifest and configuration."""
    from ondol.cli import image_transfers  # noqa: PLC0415 - likewise

    with output.explained():
        store = _store(data_dir)
        terminal.write(image_transfers.inspected(_named(store, reference), store))


@app.command("tag")
def tag_image(
    reference: Annotated[str, typer.Argument(help="Name of the image.")],
    target: Annotated[str, typer.Argument(help="The name that it is given as well.")],
    data_dir: DataDir = None,
) -> None:
    """Give an image another name."""
    with output.explained():
        store = _store(data_dir)
        tagged = store.tag(_named(store, reference).reference, target)
        terminal.write(f"{tagged.reference}  {tagged.digest}")


@app.command("load", help="The same as import, as other tools call it.")
@app.command("import")
def import_image(
    source: Annotated[
        str, typer.Argument(help="OCI image layout (folder or tar), tar of docker save, or - for a pipe.")
    ],
    tag: Annotated[
        str, typer.Option("--tag", "-t", help="Name of the image; that in the archive by default.")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Take images that other tools made into the store."""
    with output.explained(), _seekable(source) as path:
        for imported in transfer.load(path, _store(data_dir), reference=tag):
            terminal.write(f"{imported.reference}  {imported.digest}")


@contextlib.contextmanager
def _seekable(source: str) -> Iterator[Path]:
    """The file, or what comes on standard input as a file: an archive is not read in its order."""
    if source != "-":
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(prefix="ondol-import-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


@app.command("save", help="The same as export, as other tools call it.")
@app.command("export")
def export_image(
    reference: Annotated[str, typer.Argument(help="Name of the image.")],
    target: Annotated[Path, typer.Option("--output", "-o", help="File to write; - for standard output.")],
    data_dir: DataDir = None,
) -> None:
    """Write an image as a tar for docker load, podman load, skopeo and ondol image import."""
    with output.explained():
        store = _store(data_dir)
        named = _named(store, reference).reference
        if str(target) == "-":
            with terminal.binary() as stream:
                transfer.save(named, store, stream)
            return
        with output.whole_file(target) as file:
            saved = transfer.save(named, store, file)
        terminal.note(f"{saved.reference} written to {target}")


@app.command("prune")
def prune_images(
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Also images that no container has and no workload names now.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Remove what no image needs any more: layers of earlier builds, and with --all unused images."""
    with output.explained():
        store = _store(data_dir)
        if every:
            from ondol.cli import image_users  # noqa: PLC0415 - a client, which the other commands do not need

            for reference in image_users.unused(store.images(), data_dir):
                store.remove(reference)
                terminal.write(f"{reference} removed")
        freed = store.garbage_collect()
        terminal.write(f"{freed.blobs} layers and documents, {output.megabytes(freed.size_bytes)} freed")


@app.command("rm")
def remove_image(
    reference: Annotated[str, typer.Argument(help="Name of the image.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Also one that is needed.")] = False,
) -> None:
    """Remove an image and what only it needed; one that a running platform needs is kept."""
    with output.explained():
        store = _store(data_dir)
        image = _named(store, reference)
        if not force:
            from ondol.cli import image_users  # noqa: PLC0415 - a client, which the other commands do not need

            _refuse_used(image.reference, image_users.users(image, store.images(), data_dir))
        store.remove(image.reference)
        freed = store.garbage_collect()
        terminal.write(f"{image.reference} removed, {output.megabytes(freed.size_bytes)} freed")


def _named(store: ImageStore, reference: str) -> Image:
    """The image of a name, read as the node reads that of a pod; `errors.NotFound` if there is none."""
    from ondol.node.images.store import spellings  # noqa: PLC0415 - the node, which no build needs

    images = {image.reference: image for image in store.images()}
    for spelling in spellings(reference):
        if spelling in images:
            return images[spelling]
    raise errors.NotFound(f"there is no image {reference}")


def _refuse_used(reference: str, users: Sequence[str]) -> None:
    if users:
        more = len(users) - _NAMED_MAX
        words = ", ".join(users[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        raise errors.HostError(
            f"{reference} is used by {words}",
            remedy="delete what uses it first, or remove it all the same with --force",
        )
