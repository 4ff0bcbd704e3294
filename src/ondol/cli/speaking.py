"""The commands `exec` and `attach`: a process of a pod is spoken with from this terminal."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

import anyio
import typer

from ondol import client as clients
from ondol.api import resources
from ondol.cli import addressing, completion, connection, output, raw_terminal, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.client import remote_command

ContainerOption = Annotated[
    str, typer.Option("--container", "-c", help="Container; the only one if left out.")
]
StdinOption = Annotated[bool, typer.Option("--stdin", "-i", help="Pass standard input on.")]
TtyOption = Annotated[bool, typer.Option("--tty", "-t", help="This terminal is the process' own.")]


def execute(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POD | KIND/NAME -- COMMAND...",
            help="A pod, or what has pods (`deploy/front`), and what is run in it.",
            autocompletion=completion.pods,
            show_default=False,
        ),
    ],
    container: ContainerOption = "",
    stdin: StdinOption = False,
    tty: TtyOption = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Run a command in a container; its exit status is this command's."""

    async def run() -> int:
        if len(words) < 2:
            raise output.UsageError("name a pod, and after `--` the command to run in it")
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with reached(connected, words[:1], container) as target:
            return await speak(target, "exec", words[1:], stdin=stdin, tty=tty)

    with output.explained():
        raise typer.Exit(anyio.run(run))


def attach(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POD | KIND/NAME",
            help="A pod, or what has pods (`deploy/front`).",
            autocompletion=completion.pods,
            show_default=False,
        ),
    ],
    container: ContainerOption = "",
    stdin: StdinOption = False,
    tty: TtyOption = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Speak with the process that a container runs already."""

    async def run() -> int:
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with reached(connected, words, container) as target:
            return await speak(target, "attach", (), stdin=stdin, tty=tty)

    with output.explained():
        raise typer.Exit(anyio.run(run))


class Target:
    """A container, and the client that reaches it."""

    def __init__(self, client: clients.Client, namespace: str, pod: str, container: str = "") -> None:
        self.client = client
        self.namespace = namespace
        self.pod = pod
        self.container = container

    def path(self, subresource: str) -> str:
        return resources.POD.path(self.namespace, self.pod, subresource)


@asynccontextmanager
async def reached(
    connected: connection.Connection, words: Sequence[str], container: str = ""
) -> AsyncIterator[Target]:
    """The pod that the words mean, with the client while it is open."""
    async with aclosing(connected.client) as client:
        pod = await addressing.pod_name(client, words, connected.namespace)
        yield Target(client, connected.namespace, pod, container)


async def speak(target: Target, how: str, command: Sequence[str], *, stdin: bool, tty: bool) -> int:
    """From this terminal, to the process' end: its exit code."""
    if tty and not raw_terminal.is_terminal():
        terminal.note("warning: standard input is no terminal: the process gets none either")
        tty = False
    flags = {"stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
    query = [(name, "true" if flag else "false") for name, flag in flags.items()]
    query += [("container", target.container)] if target.container else []
    query += [("command", word) for word in command]
    outputs = {remote_command.STDOUT: terminal.write_bytes, remote_command.STDERR: _write_error}
    async with target.client.converse(target.path(how), query, remote_command.PROTOCOL) as socket:
        with raw_terminal.raw(is_asked=tty):
            return await remote_command.run(
                socket,
                outputs,
                raw_terminal.typed() if stdin else None,
                raw_terminal.sizes() if tty else None,
            )


def _write_error(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
