"""`ondol revision`: list, describe and delete the revisions of Knative services."""

from __future__ import annotations

from typing import Annotated

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.flags import expanded
from ondol.cli.knative import commands, shown, viewing
from ondol.cli.knative.commands import CONTEXT, REVISION, SERVICE, Listing, Name, Names, Session, Where
from ondol.cli.knative.shown import Row
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import Format, Output

app = typer.Typer(
    help="Revisions: what a service was made of, each time it was changed.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
@expanded
def list_(
    name: Names = None,
    service: Annotated[str, typer.Option("--service", "-s", help="Those of this service.")] = "",
    listing: Listing = Listing(),
    where: Where = Where(),
) -> None:
    """List revisions with their shares of the requests."""
    selector = f"serving.knative.dev/service={service}" if service else ""

    async def rows(session: Session) -> Row:
        services = await commands.everything(session, SERVICE, every=listing.every)

        def row(revision: Object, now: float) -> list[str]:
            namespace = objects.namespace(revision)
            own = [s for s in services if objects.namespace(s) == namespace]
            targets = [t for s in own for t in objects.status(s).get("traffic") or ()]
            return list(shown.revision_row(revision, now, targets))

        return row

    async def main(session: Session) -> None:
        header = shown.REVISIONS
        await viewing.lists(session, REVISION, listing, header, rows, names=name or (), selector=selector)

    commands.run(where, main)


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a revision: what it runs, how it scales, and its conditions."""
    viewing.described(where, REVISION, name, form, _show)


def _show(revision: Object, now: float) -> None:
    status = objects.status(revision)
    replicas = f"{status.get('actualReplicas') or 0}/{status.get('desiredReplicas') or 0}"
    shown.heading(revision, now, *shown.container(revision), ("Replicas", replicas))


@app.command()
@expanded
def delete(name: Names = None, where: Where = Where()) -> None:
    """Delete revisions that nothing needs any more."""
    commands.deleted(where, REVISION, name or (), Patience(wait=False), "Revision")
