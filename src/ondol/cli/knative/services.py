"""`ondol service`: create, update, apply, describe, list, export, wait for and delete Knative services."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import clock, errors
from ondol.cli import boot, output, terminal
from ondol.cli.flags import expanded
from ondol.cli.knative import commands, edits, shown, traffic, viewing, waiting
from ondol.cli.knative.commands import CONTEXT, REVISION, SERVICE, Listing, Name, Names, Session, Where
from ondol.cli.knative.edits import Flags
from ondol.cli.knative.traffic import Shares, Tags
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import Format, UsageError

app = typer.Typer(
    help="Knative services: images that grow and shrink with their requests. (For the platform as a service "
    "of systemd see `ondol boot`.)",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)
_MANAGER: Final = "ondol-service"
_TRIES: Final = 5
_KEPT: Final = ("serving.knative.dev/creator", "serving.knative.dev/lastModifier")
OptionalName = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name; a file may have it, too.", show_default=False)
]
Filename = Annotated[
    str,
    typer.Option("--filename", "-f", help="File with the service, which flags change.", show_default=False),
]
for _name, _command in (("install", boot.install), ("uninstall", boot.uninstall), ("status", boot.status)):
    app.command(_name, hidden=True)(_command)  # as they were called before there were services of Knative


@app.command()
@expanded
def create(
    name: OptionalName = "",
    flags: Flags = Flags(),
    tags: Tags = Tags(),
    filename: Filename = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the service if there is one.")] = False,
    patience: Patience = Patience(),
    where: Where = Where(),
) -> None:
    """Create a service, and wait until it answers."""

    async def main(session: Session) -> None:
        service = _asked(name, session.namespace, flags, filename, stamp=clock.rfc3339(session.now))
        if tags.tag:
            service["spec"]["traffic"] = traffic.computed(service, tags, Shares(), makes_revision=True)
        key = objects.name(service)
        if await commands.existing(session, SERVICE, key) is None:
            await session.client.create(SERVICE, service)
            await _report(session, key, patience, "Creating", "created")
        elif force:
            await _updated(session, key, lambda live: _replaced(live, service))
            await _report(session, key, patience, "Replacing", "replaced")
        else:
            raise errors.OndolError(
                f"cannot create service '{key}' in namespace '{session.namespace}' "
                "because the service already exists and no --force option was given"
            )

    commands.run(where, main)


@app.command()
@expanded
def update(
    name: Name,
    flags: Flags = Flags(),
    tags: Tags = Tags(),
    shares: Shares = Shares(),
    patience: Patience = Patience(),
    where: Where = Where(),
) -> None:
    """Change a service; what makes pods different makes a new revision."""
    if flags.is_empty and not (tags.tag or shares.traffic or shares.untag):
        raise typer.BadParameter("nothing to change: give a flag, such as --image or --env")

    async def main(session: Session) -> None:
        live = await session.client.get(SERVICE, name, session.namespace)
        latest = objects.status(live).get("latestReadyRevisionName") or ""
        running = await commands.existing(session, REVISION, latest) if latest else None
        stamp = clock.rfc3339(session.now)

        def change(service: Object) -> Object:
            changed = edits.edited(service, flags, stamp=stamp, rng=_rng(), running=running)
            if tags.tag or shares.traffic or shares.untag:
                changed["spec"]["traffic"] = traffic.computed(
                    changed, tags, shares, makes_revision=flags.makes_revision
                )
            return changed

        if not await _updated(session, name, change):
            terminal.write(f"Service '{name}' updated in namespace '{session.namespace}'.")
            terminal.write("No new revision has been created.")
            return
        await _report(session, name, patience, "Updating", "updated", before=latest)

    commands.run(where, main)


@app.command()
@expanded
def apply(
    name: OptionalName = "",
    flags: Flags = Flags(),
    filename: Filename = "",
    patience: Patience = Patience(),
    where: Where = Where(),
) -> None:
    """Create or change a service to what is said here; what others have set stays."""

    async def main(session: Session) -> None:
        service = _asked(name, session.namespace, flags, filename, stamp="")
        key = objects.name(service)
        before = await commands.existing(session, SERVICE, key)
        after = await session.client.apply(SERVICE, service, field_manager=_MANAGER)
        if before is not None and objects.generation(before) == objects.generation(after):
            terminal.write(f"No changes to apply to service '{key}'.")
        latest = str(objects.status(before or {}).get("latestReadyRevisionName") or "")
        await _report(session, key, patience, "Applying", "applied", before=latest)

    commands.run(where, main)


@app.command()
@expanded
def describe(
    name: Name,
    form: Annotated[
        str, typer.Option("--output", "-o", help="json, yaml, or url for its address alone.")
    ] = "",
    where: Where = Where(),
) -> None:
    """Show a service, its revisions with their shares, and its conditions."""
    if form not in ("", "url", *Format):
        raise typer.BadParameter(f"-o {form} is none of json, yaml and url")

    async def main(session: Session) -> None:
        service = await session.client.get(SERVICE, name, session.namespace)
        status = objects.status(service)
        if form == "url":
            terminal.write(str(status.get("url") or ""))
        elif form and form != Format.TABLE:
            output.document(service, Format(form))
        else:
            selector = f"serving.knative.dev/service={name}"
            revisions = await commands.everything(session, REVISION, every=False, selector=selector)
            inside = (status.get("address") or {}).get("url")
            shown.heading(service, session.now, ("URL", status.get("url")), ("Address", inside))
            shown.traffic(service, {objects.name(r): r for r in revisions}, session.now)
            shown.state(service, session.now)

    commands.run(where, main)


@app.command("list")
@expanded
def list_(name: Names = None, listing: Listing = Listing(), where: Where = Where()) -> None:
    """List services, or those of these names."""
    viewing.listed(where, SERVICE, listing, shown.SERVICES, shown.service_row, names=name or ())


@app.command()
@expanded
def export(
    name: Name,
    form: Annotated[Format, typer.Option("--output", "-o", help="json or yaml.")] = Format.YAML,
    where: Where = Where(),
) -> None:
    """Print a service as it may be created elsewhere: without what only this place says of it."""
    commands.run(where, lambda session: _export(session, name, form))


async def _export(session: Session, name: str, form: Format) -> None:
    service = await session.client.get(SERVICE, name, session.namespace)
    output.document(exported(service), Format.YAML if form is Format.TABLE else form)


def exported(service: Object) -> Object:
    meta: Object = {"name": objects.name(service)}
    if labels := objects.labels(service):
        meta["labels"] = dict(labels)
    notes = {key: value for key, value in objects.annotations(service).items() if key not in _KEPT}
    if notes:
        meta["annotations"] = notes
    head = {"apiVersion": service["apiVersion"], "kind": service["kind"]}
    return {**head, "metadata": meta, "spec": service["spec"]}


@app.command()
@expanded
def wait(name: Name, patience: Patience = Patience(), where: Where = Where()) -> None:
    """Wait until a service is ready."""

    async def main(session: Session) -> None:
        await waiting.until_ready(session.client, SERVICE, name, session.namespace, patience)
        terminal.write(f"Service '{name}' in namespace '{session.namespace}' is ready.")

    commands.run(where, main)


@app.command()
@expanded
def delete(
    name: Names = None,
    every: Annotated[bool, typer.Option("--all", help="All services of the namespace.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they are gone.")] = False,
    wait_timeout: Annotated[int, typer.Option("--wait-timeout", min=1, help="Seconds to wait.")] = 600,
    where: Where = Where(),
) -> None:
    """Delete services with everything they are made of."""
    if every and name:
        raise typer.BadParameter("say names, or --all")
    names = list(name or ())
    if every:
        items = commands.run(where, lambda session: commands.everything(session, SERVICE, every=False))
        names = [objects.name(service) for service in items]
        if not names:
            terminal.note("No services found.")
            return
    commands.deleted(where, SERVICE, names, Patience(wait, wait_timeout), "Service")


def _rng() -> random.Random:
    return random.SystemRandom()


def _asked(name: str, namespace: str, flags: Flags, filename: str, *, stamp: str) -> Object:
    """The service that the file and the flags describe."""
    service = edits.new(name, namespace)
    if filename:
        documents = [d for d in output.load_documents(filename) if d["kind"] == "Service"]
        if len(documents) != 1:
            raise UsageError(f"{filename} has {len(documents)} services, want one")
        service = {**documents[0], "metadata": {**objects.metadata(documents[0]), "namespace": namespace}}
        if name and objects.name(service) not in ("", name):
            raise UsageError(f"the service of {filename} is called {objects.name(service)}, not {name}")
        service["metadata"].setdefault("name", name)
    elif not flags.image:
        raise UsageError("say what to run: --image IMAGE, or -f FILE")
    if not objects.name(service):
        raise UsageError("say how the service is called: NAME")
    return edits.edited(service, flags, stamp=stamp, rng=_rng())


def _replaced(live: Object, service: Object) -> Object:
    """The new service in the place of the live one, whose authors stay."""
    meta = dict(objects.metadata(service))
    kept = {key: value for key, value in objects.annotations(live).items() if key in _KEPT}
    meta["annotations"] = {**objects.annotations(service), **kept}
    meta["resourceVersion"] = objects.resource_version(live)
    return {**service, "metadata": meta}


async def _updated(session: Session, name: str, change: Callable[[Object], Object]) -> bool:
    """Change the live service, again if somebody else did meanwhile; whether its spec is another now."""
    for attempt in range(_TRIES):
        live = await session.client.get(SERVICE, name, session.namespace)
        desired: Any = change(live)
        try:
            written = await session.client.update(SERVICE, desired)
        except errors.Conflict:
            if attempt + 1 == _TRIES:
                raise
            continue
        return objects.generation(written) != objects.generation(live) or objects.labels(
            written
        ) != objects.labels(live)
    raise AssertionError("unreachable")


async def _report(
    session: Session, name: str, patience: Patience, doing: str, done: str, *, before: str = ""
) -> None:
    """Wait as is asked for, then say where the service is."""
    if not patience.wait:
        terminal.write(f"Service '{name}' {done} in namespace '{session.namespace}'.")
        return
    terminal.note(f"{doing} service '{name}' in namespace '{session.namespace}':")
    service = await waiting.until_ready(session.client, SERVICE, name, session.namespace, patience)
    status = objects.status(service)
    latest = str(status.get("latestReadyRevisionName") or "")
    if before and latest == before:
        line = f"Service '{name}' with latest revision '{latest}' (unchanged) is available at URL:"
    else:
        line = f"Service '{name}' {done} to latest revision '{latest}' is available at URL:"
    terminal.note(line)
    terminal.write(str(status.get("url") or ""))
