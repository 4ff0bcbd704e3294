"""The `metrics` command: what every part of the platform counts, on one page."""

from __future__ import annotations

from typing import Annotated

import typer

from ondol.cli import connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir


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
        for line in page.splitlines():
            if not part or f'{{part="{part}"' in line:
                terminal.write(line)
