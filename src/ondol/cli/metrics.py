"""The `metrics` command: what every part of the platform counts, on one page."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from ondol.base import errors
from ondol.cli import connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir

_PART: Final = re.compile(r'\{part="([^"]*)"')


def metrics(
    part: Annotated[str, typer.Option(help="Only this part's: api, control, node, ...")] = "",
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Print the metrics of every part in Prometheus' text format; a label says whose each is.

    Prometheus reads the same page at the address that `ondol status` names.
    """
    from ondol.compose import exposition  # noqa: PLC0415 - what writes such pages is for this command alone

    with output.explained():
        page = exposition.read(connection.platform_of(data_dir, kubeconfig)).decode()
        lines = page.splitlines()
        if part:
            lines = [line for line in lines if f'{{part="{part}"' in line]
        if not lines:
            parts = sorted(set(_PART.findall(page)))
            raise errors.HostError(
                f"no part is called {part}", remedy=f"--part with one of {', '.join(parts)}"
            )
        for line in lines:
            terminal.write(line)
