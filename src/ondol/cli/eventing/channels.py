"""`ondol channel`: create, describe, list and delete channels, and list their types."""

from __future__ import annotations

from typing import Annotated

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.eventing import commands, types, words
from ondol.cli.eventing.commands import Hurry
from ondol.cli.flags import expanded
from ondol.cli.knative import commands as knative
from ondol.cli.knative import viewing
from ondol.cli.knative.commands import CONTEXT, Listing, Name, Names, Session, Where
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import Format, Output
from ondol.contracts.eventing import CHANNEL

app = typer.Typer(
    help="Channels: they take events in and pass them on to subscriptions.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
@expanded
def create(
    name: Name,
    type_: Annotated[
        str, typer.Option("--type", help="Which kind: imc, or Group:Version:Kind; else the namespace's.")
    ] = "",
    patience: Patience = Patience(),
    where: Where = Where(),
) -> None:
    """Create a channel, and wait until it takes events in."""

    async def main(session: Session) -> None:
        spec = {"channelTemplate": words.channel_type(type_)} if type_ else {}
        await commands.created(session, CHANNEL, commands.document(CHANNEL, name, session, spec), patience)

    knative.run(where, main)


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a channel: its type, its address, and its conditions."""
    commands.described(where, CHANNEL, name, form, _fields)


def _kind(channel: Object) -> str:
    return str((objects.spec(channel).get("channelTemplate") or {}).get("kind") or "")


def _fields(channel: Object) -> list[tuple[str, object]]:
    return [
        ("Type", _kind(channel)),
        ("URL", commands.url(channel)),
        ("Subscribers", len(objects.status(channel).get("subscribers") or ())),
        *commands.delivery(objects.spec(channel)),
    ]


@app.command("list")
@expanded
def list_(listing: Listing = Listing(), where: Where = Where()) -> None:
    """List channels."""
    header = ("NAME", "TYPE", "URL", "AGE", "CONDITIONS", "READY", "REASON")
    viewing.listed(where, CHANNEL, listing, header, _row)


def _row(channel: Object, now: float) -> list[str]:
    return [
        objects.name(channel),
        _kind(channel),
        commands.url(channel),
        *commands.state(channel, now),
    ]


@app.command("list-types")
@expanded
def list_types(form: Output = Format.TABLE, where: Where = Where()) -> None:
    """List the kinds of channels there are."""
    types.listed(where, form, types.CHANNELS, "channel")


@app.command()
@expanded
def delete(names: Names = None, patience: Hurry = Hurry(), where: Where = Where()) -> None:
    """Delete channels, with the events they keep."""
    knative.deleted(where, CHANNEL, names or (), patience, "Channel")
