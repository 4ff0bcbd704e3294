"""`ondol trigger`: create, update, describe, list and delete triggers."""

from __future__ import annotations

from typing import Annotated

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import errors
from ondol.cli import terminal
from ondol.cli.eventing import commands, words
from ondol.cli.eventing.commands import Hurry, SinkOption
from ondol.cli.flags import expanded
from ondol.cli.knative import commands as knative
from ondol.cli.knative import viewing
from ondol.cli.knative.commands import CONTEXT, Listing, Name, Names, Session, Where
from ondol.cli.output import Format, Output, UsageError
from ondol.contracts.eventing import BROKER, TRIGGER

app = typer.Typer(
    help="Triggers: they send the events of a broker to a sink.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)
Filter = Annotated[
    list[str] | None,
    typer.Option("--filter", help="Attribute that an event must have: type=order.made; type- removes it."),
]


@app.command()
@expanded
def create(
    name: Name,
    sink: SinkOption,
    broker: Annotated[str, typer.Option("--broker", help="Whose events are meant.")] = "default",
    filter_: Filter = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create a trigger; its broker may come later."""

    async def main(session: Session) -> None:
        spec: Object = {"broker": broker, "subscriber": await commands.destination(session, sink)}
        if filter_:
            spec["filter"] = {"attributes": words.changed({}, filter_, "--filter")}
        try:
            await session.client.get(BROKER, broker, session.namespace)
        except errors.NotFound:
            terminal.note(f"there is no broker {broker} here yet; to make it: ondol broker create {broker}")
        await commands.created(session, TRIGGER, commands.document(TRIGGER, name, session, spec), patience)

    knative.run(where, main)


@app.command()
@expanded
def update(
    name: Name,
    sink: SinkOption = "",
    filter_: Filter = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change a trigger's sink or filter."""

    async def main(session: Session) -> None:
        if not sink and not filter_:
            raise UsageError("say what to change: --sink or --filter")
        subscriber = await commands.destination(session, sink) if sink else None

        def change(trigger: Object) -> None:
            if subscriber is not None:
                trigger["spec"]["subscriber"] = subscriber
            if filter_:
                before = (trigger["spec"].get("filter") or {}).get("attributes") or {}
                trigger["spec"]["filter"] = {"attributes": words.changed(before, filter_, "--filter")}

        await commands.updated(session, TRIGGER, name, change, patience)

    knative.run(where, main)


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a trigger: its broker, its filter, its sink, and its conditions."""
    commands.described(where, TRIGGER, name, form, _fields)


def _fields(trigger: Object) -> list[tuple[str, object]]:
    spec, status = objects.spec(trigger), objects.status(trigger)
    attributes = (spec.get("filter") or {}).get("attributes") or {}
    return [
        ("Broker", spec.get("broker")),
        ("Filter", ", ".join(f"{key}={value}" for key, value in sorted(attributes.items()))),
        ("Filters", len(spec.get("filters") or ()) or ""),
        ("Sink", words.shown(spec.get("subscriber"))),
        ("Address", status.get("subscriberUri")),
        *commands.delivery(spec),
    ]


@app.command("list")
@expanded
def list_(listing: Listing = Listing(), where: Where = Where()) -> None:
    """List triggers."""
    header = ("NAME", "BROKER", "SINK", "AGE", "CONDITIONS", "READY", "REASON")
    viewing.listed(where, TRIGGER, listing, header, _row)


def _row(trigger: Object, now: float) -> list[str]:
    spec = objects.spec(trigger)
    broker = str(spec.get("broker") or (spec.get("brokerRef") or {}).get("name") or "")
    return [objects.name(trigger), broker, words.shown(spec.get("subscriber")), *commands.state(trigger, now)]


@app.command()
@expanded
def delete(names: Names = None, patience: Hurry = Hurry(), where: Where = Where()) -> None:
    """Delete triggers."""
    knative.deleted(where, TRIGGER, names or (), patience, "Trigger")
