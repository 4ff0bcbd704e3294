"""Commands about images: build, ls, rm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ondol import build as builds
from ondol.build.store import ImageStore
from ondol.cli import output
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import settings

app = typer.Typer(no_args_is_help=True, help="Images of this machine: build, ls, rm.")


def _store(data_dir: Path | None) -> ImageStore:
    return ImageStore(settings.load(data_dir).data_dir / "images")
