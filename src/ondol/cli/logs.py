"""The `logs` command: what a container wrote, of a pod or of a workload's newest ready pod."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Annotated, Final

import anyio
import typer

from ondol.cli import addressing, completion, connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption

_SINCE: Final = re.compile(r"(?P<count>[1-9]\d{0,9})(?P<unit>[smhd]?)")
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def logs(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POD | KIND/NAME",
            help="A pod, or what has pods: `deploy/front`, `svc/front`, `ksvc/pay`.",
            autocompletion=completion.pods,
            show_default=False,
        ),
    ],
    container: Annotated[
        str, typer.Option("--container", "-c", help="Container; the only one if left out.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the run before the last restart.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last lines.")] = None,
    since: Annotated[str, typer.Option("--since", help="Only what is newer: 30s, 5m, 2h.")] = "",
    timestamps: Annotated[bool, typer.Option("--timestamps", help="With the time of each line.")] = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Print what a container wrote."""

    async def run() -> None:
        since_s = seconds(since) if since else None
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            pod = await addressing.pod_name(client, words, connected.namespace)
            async with client.log(
                connected.namespace,
                pod,
                container=container,
                follow=follow,
                previous=previous,
                tail_lines=tail,
                since_s=since_s,
                timestamps=timestamps,
            ) as chunks:
                async for chunk in chunks:
                    terminal.write_bytes(chunk)

    with output.explained():
        anyio.run(run)


def seconds(text: str) -> int:
    """How many seconds `90`, `30s`, `5m`, `2h` or `1d` are."""
    parts = _SINCE.fullmatch(text)
    if parts is None:
        raise output.UsageError(f"--since {text}: write 30s, 5m or 2h")
    return int(parts["count"]) * _UNITS_S[parts["unit"]]
