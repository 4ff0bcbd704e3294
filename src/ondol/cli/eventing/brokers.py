"""`ondol broker`: create, update, describe, list and delete brokers."""

from __future__ import annotations

from typing import Annotated

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.eventing import commands, words
from ondol.cli.eventing.commands import Delivery
from ondol.cli.flags import expanded
from ondol.cli.knative import commands as knative
from ondol.cli.knative import viewing
from ondol.cli.knative.commands import CONTEXT, Listing, Name, Names, Session, Where
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import Format, Output
from ondol.contracts import eventing
from ondol.contracts.eventing import BROKER

app = typer.Typer(
    help="Brokers: they take events in and pass them on to triggers.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
@expanded
def create(
    name: Name,
    broker_class: Annotated[str, typer.Option("--class", help="Who implements it.")] = "",
    broker_config: Annotated[
        str, typer.Option("--broker-config", help="Its configuration, for other classes: cm:NAME.")
    ] = "",
    delivery: Delivery = Delivery(),
    patience: Patience = Patience(),
    where: Where = Where(),
) -> None:
    """Create a broker, and wait until it takes events in."""

    async def main(session: Session) -> None:
        broker = commands.document(BROKER, name, session, {})
        if fields := await delivery.fields(session):
            broker["spec"]["delivery"] = fields
        if broker_config:
            broker["spec"]["config"] = words.broker_config(broker_config, session.namespace)
        if broker_class:
            broker["metadata"]["annotations"] = {eventing.BROKER_CLASS: broker_class}
        await commands.created(session, BROKER, broker, patience)

    knative.run(where, main)


@app.command()
@expanded
def update(
    name: Name, delivery: Delivery = Delivery(), patience: Patience = Patience(), where: Where = Where()
) -> None:
    """Change how a broker delivers."""

    async def main(session: Session) -> None:
        fields = await delivery.fields(session)

        def change(broker: Object) -> None:
            broker["spec"]["delivery"] = {**(broker["spec"].get("delivery") or {}), **fields}

        await commands.updated(session, BROKER, name, change, patience)

    knative.run(where, main)


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a broker: its address, how it delivers, and its conditions."""
    commands.described(where, BROKER, name, form, _fields)


def _fields(broker: Object) -> list[tuple[str, object]]:
    return [
        ("Class", objects.annotations(broker).get(eventing.BROKER_CLASS)),
        ("URL", commands.url(broker)),
        *commands.delivery(objects.spec(broker)),
    ]


@app.command("list")
@expanded
def list_(listing: Listing = Listing(), where: Where = Where()) -> None:
    """List brokers."""
    header = ("NAME", "URL", "AGE", "CONDITIONS", "READY", "REASON")
    viewing.listed(where, BROKER, listing, header, _row)


def _row(broker: Object, now: float) -> list[str]:
    return [objects.name(broker), commands.url(broker), *commands.state(broker, now)]


@app.command()
@expanded
def delete(names: Names = None, patience: commands.Hurry = commands.Hurry(), where: Where = Where()) -> None:
    """Delete brokers, with the events they keep."""
    knative.deleted(where, BROKER, names or (), patience, "Broker")
