"""`ondol route`: list and describe the routes of Knative services."""

from __future__ import annotations

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.flags import expanded
from ondol.cli.knative import shown, viewing
from ondol.cli.knative.commands import CONTEXT, ROUTE, Listing, Name, Names, Where
from ondol.cli.output import Format, Output

app = typer.Typer(
    help="Routes: which revisions get which share of a service's requests, and under which names.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
@expanded
def list_(name: Names = None, listing: Listing = Listing(), where: Where = Where()) -> None:
    """List routes."""
    viewing.listed(where, ROUTE, listing, shown.ROUTES, shown.route_row, names=name or ())


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a route: its addresses, its shares, and its conditions."""
    viewing.described(where, ROUTE, name, form, _show)


def _show(route: Object, now: float) -> None:
    owner = objects.labels(route).get("serving.knative.dev/service", "")
    shown.heading(route, now, ("URL", objects.status(route).get("url")), ("Service", owner))
    shown.traffic(route, {}, now)
