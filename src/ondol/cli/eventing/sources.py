"""`ondol source`: all sources there are, and those of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.cli import output, terminal
from ondol.cli.eventing import commands, source_edits, types, words
from ondol.cli.eventing.commands import Hurry, SinkOption
from ondol.cli.eventing.source_edits import ApiServer, Binding, Container, Kafka, Ping
from ondol.cli.flags import expanded
from ondol.cli.knative import commands as knative
from ondol.cli.knative import viewing
from ondol.cli.knative.commands import CONTEXT, Listing, Name, Names, Session, Where
from ondol.cli.output import Format, Output
from ondol.contracts import eventing

_OPTIONS = {"context_settings": CONTEXT, "no_args_is_help": True, "add_completion": False}
app = typer.Typer(help="Sources: they bring events in from elsewhere.", **_OPTIONS)  # type: ignore[arg-type]  # typer's own types
ping = typer.Typer(help="Send an event at times.", **_OPTIONS)  # type: ignore[arg-type]  # as above
apiserver = typer.Typer(help="Send the changes of objects.", **_OPTIONS)  # type: ignore[arg-type]  # as above
binding = typer.Typer(help="Tell workloads where to send events.", **_OPTIONS)  # type: ignore[arg-type]  # as above
container = typer.Typer(help="Run a container that sends events.", **_OPTIONS)  # type: ignore[arg-type]  # as above
kafka = typer.Typer(help="Send the records of Kafka's topics.", **_OPTIONS)  # type: ignore[arg-type]  # as above
for _name, _app in (
    ("ping", ping),
    ("apiserver", apiserver),
    ("binding", binding),
    ("container", container),
    ("kafka", kafka),
):
    app.add_typer(_app, name=_name)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--ce-override", help="Attribute of every event: key=value; key- removes it."),
]
Edit = Callable[[Object], None]


@app.command("list")
@expanded
def list_(
    type_: Annotated[list[str] | None, typer.Option("--type", "-t", help="Of this kind only.")] = None,
    listing: Listing = Listing(),
    where: Where = Where(),
) -> None:
    """List the sources of all kinds."""
    asked = {word.lower() for word in type_ or ()}

    async def main(session: Session) -> None:
        listed: list[tuple[Resource, Object]] = []
        for crd in await types.definitions(session, types.SOURCES):
            kind = types.resource(crd)
            if not asked or kind.kind.lower() in asked:
                items = await knative.everything(session, kind, every=listing.every)
                listed += [(kind, item) for item in items]
        if listing.form is not Format.TABLE:
            items = [item for _, item in listed]
            output.document({"apiVersion": "v1", "kind": "List", "items": items}, listing.form)
        elif not listed:
            terminal.note("No sources found.")
        else:
            output.table(("NAME", "TYPE", "RESOURCE", "SINK", "READY"), [_row(k, o) for k, o in listed])

    knative.run(where, main)


def _row(kind: Resource, source: Object) -> list[str]:
    sink = words.shown(objects.spec(source).get("sink"))
    return [objects.name(source), kind.kind, kind.group_resource, sink, commands.ready(source)[0]]


@app.command("list-types")
@expanded
def list_types(form: Output = Format.TABLE, where: Where = Where()) -> None:
    """List the kinds of sources there are."""
    types.listed(where, form, types.SOURCES, "source")


def _create(where: Where, resource: Resource, name: str, sink: str, edit: Edit, patience: Hurry) -> None:
    async def main(session: Session) -> None:
        source = commands.document(resource, name, session, {})
        source["spec"]["sink"] = await commands.destination(session, sink)
        edit(source)
        await commands.created(session, resource, source, patience)

    knative.run(where, main)


def _update(where: Where, resource: Resource, name: str, sink: str, edit: Edit, patience: Hurry) -> None:
    async def main(session: Session) -> None:
        chosen = await commands.destination(session, sink) if sink else None

        def change(source: Object) -> None:
            if chosen is not None:
                source["spec"]["sink"] = chosen
            edit(source)

        await commands.updated(session, resource, name, change, patience)

    knative.run(where, main)


def _edit(flags: source_edits.Flags, overrides: list[str] | None) -> Edit:
    def edit(source: Object) -> None:
        flags.apply(source)
        source_edits.override(source, overrides or ())

    return edit


@ping.command("create")
@expanded
def create_ping(
    name: Name,
    sink: SinkOption,
    flags: Ping = Ping(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create a PingSource."""
    _create(where, eventing.PING_SOURCE, name, sink, _edit(flags, overrides), patience)


@ping.command("update")
@expanded
def update_ping(
    name: Name,
    sink: SinkOption = "",
    flags: Ping = Ping(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change a PingSource."""
    _update(where, eventing.PING_SOURCE, name, sink, _edit(flags, overrides), patience)


@apiserver.command("create")
@expanded
def create_apiserver(
    name: Name,
    sink: SinkOption,
    flags: ApiServer = ApiServer(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create an ApiServerSource."""
    _create(where, eventing.API_SERVER_SOURCE, name, sink, _edit(flags, overrides), patience)


@apiserver.command("update")
@expanded
def update_apiserver(
    name: Name,
    sink: SinkOption = "",
    flags: ApiServer = ApiServer(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change an ApiServerSource."""
    _update(where, eventing.API_SERVER_SOURCE, name, sink, _edit(flags, overrides), patience)


@binding.command("create")
@expanded
def create_binding(
    name: Name,
    sink: SinkOption,
    flags: Binding = Binding(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create a SinkBinding."""
    _create(where, eventing.SINK_BINDING, name, sink, _edit(flags, overrides), patience)


@binding.command("update")
@expanded
def update_binding(
    name: Name,
    sink: SinkOption = "",
    flags: Binding = Binding(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change a SinkBinding."""
    _update(where, eventing.SINK_BINDING, name, sink, _edit(flags, overrides), patience)


@container.command("create")
@expanded
def create_container(
    name: Name,
    sink: SinkOption,
    flags: Container = Container(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create a ContainerSource."""
    _create(where, eventing.CONTAINER_SOURCE, name, sink, _edit(flags, overrides), patience)


@container.command("update")
@expanded
def update_container(
    name: Name,
    sink: SinkOption = "",
    flags: Container = Container(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change a ContainerSource."""
    _update(where, eventing.CONTAINER_SOURCE, name, sink, _edit(flags, overrides), patience)


@kafka.command("create")
@expanded
def create_kafka(
    name: Name,
    sink: SinkOption,
    flags: Kafka = Kafka(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Create a KafkaSource."""
    _create(where, eventing.KAFKA_SOURCE, name, sink, _edit(flags, overrides), patience)


@kafka.command("update")
@expanded
def update_kafka(
    name: Name,
    sink: SinkOption = "",
    flags: Kafka = Kafka(),
    overrides: Overrides = None,
    patience: Hurry = Hurry(),
    where: Where = Where(),
) -> None:
    """Change a KafkaSource."""
    _update(where, eventing.KAFKA_SOURCE, name, sink, _edit(flags, overrides), patience)


def _common(application: typer.Typer, resource: Resource, fields: source_edits.Fields) -> None:
    """The commands that are alike for every kind."""
    titles = tuple(title.upper() for title, _ in fields({"spec": {}}))

    @application.command(help=f"Show one {resource.kind} with its conditions.")
    @expanded
    def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
        def shown(source: Object) -> list[tuple[str, object]]:
            sink = words.shown(objects.spec(source).get("sink"))
            uri = objects.status(source).get("sinkUri")
            return [*fields(source), ("Sink", sink), ("Address", uri)]

        commands.described(where, resource, name, form, shown)

    @application.command("list", help=f"List the {resource.kind}s.")
    @expanded
    def list_them(listing: Listing = Listing(), where: Where = Where()) -> None:
        def row(source: Object, now: float) -> list[str]:
            own = [str(value) for _, value in fields(source)]
            sink = words.shown(objects.spec(source).get("sink"))
            return [objects.name(source), *own, sink, *commands.state(source, now)]

        header = ("NAME", *titles, "SINK", "AGE", "CONDITIONS", "READY", "REASON")
        viewing.listed(where, resource, listing, header, row)

    @application.command(help=f"Delete {resource.kind}s.")
    @expanded
    def delete(names: Names = None, patience: Hurry = Hurry(), where: Where = Where()) -> None:
        knative.deleted(where, resource, names or (), patience, resource.kind)


_common(ping, eventing.PING_SOURCE, source_edits.ping_fields)
_common(apiserver, eventing.API_SERVER_SOURCE, source_edits.apiserver_fields)
_common(binding, eventing.SINK_BINDING, source_edits.binding_fields)
_common(kafka, eventing.KAFKA_SOURCE, source_edits.kafka_fields)
_common(container, eventing.CONTAINER_SOURCE, source_edits.container_fields)
