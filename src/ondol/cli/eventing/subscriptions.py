"""`ondol subscription`: create, update, describe, list and delete subscriptions."""

from __future__ import annotations

from typing import Annotated

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.eventing import commands, words
from ondol.cli.eventing.commands import Hurry, SinkOption
from ondol.cli.flags import expanded
from ondol.cli.knative import commands as knative
from ondol.cli.knative import viewing
from ondol.cli.knative.commands import CONTEXT, Listing, Name, Names, Session, Where
from ondol.cli.output import Format, Output, UsageError
from ondol.contracts.eventing import SUBSCRIPTION

app = typer.Typer(
    help="Subscriptions: they send the events of a channel to a sink.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)
Reply = Annotated[str, typer.Option("--sink-reply", help="Who gets what the sink answers.")]
DeadLetter = Annotated[str, typer.Option("--sink-dead-letter", help="Who gets events that are given up.")]


@app.command()
@expanded
def create(
    name: Name,
    channel: Annotated[
        str,
        typer.Option("--channel", help="Whose events are meant: pipe, imc:pipe, Group:Version:Kind:pipe."),
    ],
    sink: SinkOption,
    sink_reply: Reply = "",
    sink_dead_letter: DeadLetter = "",
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create a subscription; its channel may come later."""

    async def main(session: Session) -> None:
        spec: Object = {
            "channel": words.channel(channel),
            "subscriber": await commands.destination(session, sink),
        }
        if sink_reply:
            spec["reply"] = await commands.destination(session, sink_reply)
        if sink_dead_letter:
            dead = await commands.destination(session, sink_dead_letter)
            spec["delivery"] = {"deadLetterSink": dead}
        subscription = commands.document(SUBSCRIPTION, name, session, spec)
        await commands.created(session, SUBSCRIPTION, subscription, patience)

    knative.run(where, main)


@app.command()
@expanded
def update(
    name: Name,
    sink: SinkOption = "",
    sink_reply: Reply = "",
    sink_dead_letter: DeadLetter = "",
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change where a subscription's events go."""

    async def main(session: Session) -> None:
        texts = {"subscriber": sink, "reply": sink_reply, "dead": sink_dead_letter}
        if not any(texts.values()):
            raise UsageError("say what to change: --sink, --sink-reply or --sink-dead-letter")
        chosen = {field: await commands.destination(session, text) for field, text in texts.items() if text}

        def change(subscription: Object) -> None:
            spec = subscription["spec"]
            spec |= {field: chosen[field] for field in ("subscriber", "reply") if field in chosen}
            if "dead" in chosen:
                spec["delivery"] = {**(spec.get("delivery") or {}), "deadLetterSink": chosen["dead"]}

        await commands.updated(session, SUBSCRIPTION, name, change, patience)

    knative.run(where, main)


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a subscription: its channel, where its events go, and its conditions."""
    commands.described(where, SUBSCRIPTION, name, form, _fields)


def _channel(spec: Object) -> str:
    ref = spec.get("channel") or {}
    return f"{ref.get('kind')}:{ref.get('name')}"


def _fields(subscription: Object) -> list[tuple[str, object]]:
    spec = dict(objects.spec(subscription))
    physical = objects.status(subscription).get("physicalSubscription") or {}
    return [
        ("Channel", _channel(spec)),
        ("Sink", words.shown(spec.get("subscriber"))),
        ("Address", physical.get("subscriberUri")),
        ("Reply", words.shown(spec.get("reply"))),
        *commands.delivery(spec),
    ]


@app.command("list")
@expanded
def list_(listing: Listing = Listing(), where: Where = Where()) -> None:
    """List subscriptions."""
    header = ("NAME", "CHANNEL", "SUBSCRIBER", "REPLY", "DEAD LETTER SINK", "READY", "REASON")
    viewing.listed(where, SUBSCRIPTION, listing, header, _row)


def _row(subscription: Object, now: float) -> list[str]:
    del now
    spec = dict(objects.spec(subscription))
    dead = (spec.get("delivery") or {}).get("deadLetterSink")
    shown = [words.shown(destination) for destination in (spec.get("subscriber"), spec.get("reply"), dead)]
    return [objects.name(subscription), _channel(spec), *shown, *commands.ready(subscription)]


@app.command()
@expanded
def delete(names: Names = None, patience: Hurry = Hurry(), where: Where = Where()) -> None:
    """Delete subscriptions."""
    knative.deleted(where, SUBSCRIPTION, names or (), patience, "Subscription")
