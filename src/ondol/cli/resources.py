"""Commands that write objects: apply and delete. kubectl does more; these need nothing installed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Final

import anyio
import typer

from ondol import client as clients
from ondol.api import objects
from ondol.base import errors
from ondol.cli import addressing, completion, connection, output, terminal
from ondol.cli.addressing import Target
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption

_FIELD_MANAGER: Final = "ondol-cli"
_FILES_HELP: Final = "File, folder, or - for standard input; may be given again."


def apply(
    filename: Annotated[list[str], typer.Option("--filename", "-f", help=_FILES_HELP, show_default=False)],
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Create or change the objects of files, by server-side apply."""

    async def run() -> list[errors.OndolError]:
        documents = [document for file in filename for document in _named(file)]
        connected = connection.connect(data_dir, kubeconfig, namespace)
        failures: list[errors.OndolError] = []
        async with aclosing(connected.client) as client:
            for document in documents:
                try:
                    await apply_document(client, dict(document), connected.namespace)
                except errors.OndolError as error:
                    failures.append(error)
                    terminal.note(f"error: {_spelled(document)}: {error}")
                else:
                    terminal.write(f"{_spelled(document)} serverside-applied")
        return failures

    with output.explained():
        output.end_with(anyio.run(run))


def _named(file: str) -> Iterator[Mapping[str, Any]]:
    """The documents of a file, each with a name; a file without any is an error."""
    documents = list(output.load_documents(file))
    if not documents:
        raise errors.OndolError(
            f"{'standard input' if file == '-' else file}: there is nothing to apply or delete"
        )
    for document in documents:
        if not objects.name(document):
            raise errors.OndolError(f"a {document['kind']} has no metadata.name")
        yield document


def _spelled(document: Mapping[str, Any]) -> str:
    """`deployment.apps/front`: how kubectl names what it applied."""
    group = str(document["apiVersion"]).rpartition("/")[0]
    kind = str(document["kind"]).lower()
    return f"{kind}.{group}/{objects.name(document)}" if group else f"{kind}/{objects.name(document)}"


async def apply_document(client: clients.Client, document: objects.Object, namespace: str) -> objects.Object:
    """Apply one document; one without a namespace goes to `namespace`."""
    resource = await client.resource_for(str(document["apiVersion"]), str(document["kind"]))
    if resource.namespaced and not objects.namespace(document):
        document = {**document, "metadata": {**objects.metadata(document), "namespace": namespace}}
    return await client.apply(resource, document, field_manager=_FIELD_MANAGER)


def delete(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND NAME... | KIND/NAME...",
            help="What to delete; not needed with -f.",
            autocompletion=completion.words,
            show_default=False,
        ),
    ] = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help=_FILES_HELP, show_default=False)
    ] = None,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is gone already is no failure.")
    ] = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Delete objects by name, or all objects of files; a missing object does not stop the others."""
    if bool(words) == bool(filename):
        raise typer.BadParameter("say what to delete: KIND NAME, or -f FILE")

    async def run() -> list[errors.OndolError]:
        documents = [document for file in filename or () for document in _named(file)]
        connected = connection.connect(data_dir, kubeconfig, namespace)
        failures: list[errors.OndolError] = []
        async with aclosing(connected.client) as client:
            place = connected.namespace
            attempts: list[Attempt] = [partial(_delete_document, client, d, place) for d in documents]
            attempts += [partial(_delete, client, t, place) for t in await _targets(client, words or ())]
            for attempt in attempts:
                try:
                    terminal.write(f"{await attempt()} deleted")
                except errors.OndolError as error:
                    if not (ignore_not_found and isinstance(error, errors.NotFound)):
                        failures.append(error)
                        terminal.note(f"error: {error}")
        return failures

    with output.explained():
        output.end_with(anyio.run(run))


Attempt = Callable[[], Awaitable[str]]
"""A deletion; what was deleted, as `configmap "a"`."""


async def _targets(client: clients.Client, words: Sequence[str]) -> list[Target]:
    """What the words name; each must be one object."""
    if not words:
        return []
    if any(not name for _, name in addressing.pairs(words)):
        raise output.UsageError("say what to delete: KIND NAME, or -f FILE")
    return await addressing.targets(client, words)


async def _delete_document(client: clients.Client, document: Mapping[str, Any], namespace: str) -> str:
    resource = await client.resource_for(str(document["apiVersion"]), str(document["kind"]))
    target = Target(resource, objects.name(document))
    return await _delete(client, target, objects.namespace(document) or namespace)


async def _delete(client: clients.Client, target: Target, namespace: str) -> str:
    resource = target.resource
    await client.delete(resource, target.name, namespace if resource.namespaced else "")
    return f'{resource.group_resource} "{target.name}"'
