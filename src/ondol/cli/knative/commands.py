"""What the commands for Knative's kinds share: the connection, the kinds, listing and deleting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

import anyio
import typer

from ondol import client as clients
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.cli import connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.knative import waiting
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import DataDir, NamespaceOption
from ondol.contracts import serving

T = TypeVar("T")
_PAGE: Final = 500
CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME...", help="Those of these names.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which API server, and which namespace there."""

    data_dir: DataDir = None
    kubeconfig: KubeconfigOption = ""
    namespace: NamespaceOption = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """How a list is shown."""

    every: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")] = False
    form: Annotated[output.Format, typer.Option("--output", "-o", help="How to print.")] = output.Format.TABLE


@dataclass(frozen=True, slots=True)
class Session:
    """A client with the namespace that was asked for."""

    client: clients.Client
    namespace: str

    @property
    def now(self) -> float:
        return self.client.clock.now()


def run(where: Where, main: Callable[[Session], Awaitable[T]]) -> T:
    """Run with a connection; an expected error is one line."""

    async def connected() -> T:
        opened = connection.connect(_path(where), where.kubeconfig, where.namespace)
        async with aclosing(opened.client) as client:
            return await main(Session(client, opened.namespace))

    with output.explained():
        return anyio.run(connected)
    raise AssertionError("unreachable")


def _path(where: Where) -> Path | None:
    return where.data_dir


async def everything(
    session: Session, resource: Resource, *, every: bool, selector: str = ""
) -> list[Object]:
    """All objects of a kind, of the namespace or of all."""
    items: list[Object] = []
    token = ""
    while True:
        page = await session.client.list(
            resource,
            "" if every else session.namespace,
            label_selector=selector,
            limit=_PAGE,
            continue_token=token,
        )
        items += page.items
        if not page.continue_token:
            return items
        token = page.continue_token


async def existing(session: Session, resource: Resource, name: str) -> Object | None:
    try:
        return await session.client.get(resource, name, session.namespace)
    except errors.NotFound:
        return None


def deleted(where: Where, resource: Resource, names: Sequence[str], patience: Patience, kind: str) -> None:
    """Delete these, one after the other; a missing one does not stop the others."""
    if not names:
        raise typer.BadParameter(f"say which {kind} to delete")

    async def main(session: Session) -> list[errors.OndolError]:
        failures: list[errors.OndolError] = []
        for name in names:
            try:
                await session.client.delete(resource, name, session.namespace)
                if patience.wait:
                    await waiting.until_gone(session.client, resource, name, session.namespace, patience)
            except errors.OndolError as error:
                failures.append(error)
                terminal.note(f"error: {error}")
            else:
                terminal.write(f"{kind} '{name}' successfully deleted in namespace '{session.namespace}'.")
        return failures

    output.end_with(run(where, main))


SERVICE: Final = serving.SERVICE
REVISION: Final = serving.REVISION
ROUTE: Final = serving.ROUTE
DOMAIN: Final = serving.DOMAIN_MAPPING
