"""Lists and descriptions, the same for every kind: a table or a document, or a word that there is nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.cli import output, terminal
from ondol.cli.knative import commands, shown
from ondol.cli.knative.commands import Listing, Session, Where
from ondol.cli.knative.shown import Row
from ondol.cli.output import Format


def listed(
    where: Where,
    resource: Resource,
    listing: Listing,
    header: Sequence[str],
    row: Row,
    *,
    names: Collection[str] = (),
    noun: str = "",
) -> None:
    """List the objects of a kind, of these names if there are any; `noun` is what several are called."""

    async def rows(_session: Session) -> Row:
        return row

    commands.run(
        where, lambda session: lists(session, resource, listing, header, rows, names=names, noun=noun)
    )


async def lists(
    session: Session,
    resource: Resource,
    listing: Listing,
    header: Sequence[str],
    rows: Callable[[Session], Awaitable[Row]],
    *,
    names: Collection[str] = (),
    noun: str = "",
    selector: str = "",
) -> None:
    """As `listed`; `rows` looks at what else the columns need, if there is anything to show."""
    items = await commands.everything(session, resource, every=listing.every, selector=selector)
    chosen = [obj for obj in items if not names or objects.name(obj) in names]
    if not chosen and listing.form is Format.TABLE:
        terminal.note(f"No {noun or resource.plural} found.")
        return
    row = await rows(session)
    shown.listed(chosen, listing.form, header, row, session.now, every=listing.every)


def described(
    where: Where, resource: Resource, name: str, form: Format, show: Callable[[Object, float], None]
) -> None:
    """Show one object, as a document or as `show` prints it, with its conditions."""

    async def main(session: Session) -> None:
        obj = await session.client.get(resource, name, session.namespace)
        if form is not Format.TABLE:
            output.document(obj, form)
            return
        show(obj, session.now)
        shown.state(obj, session.now)

    commands.run(where, main)
