"""Commands about objects: apply, get, delete, logs. kubectl does more; these need nothing installed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Final

import anyio
import typer

from ondol import client as clients
from ondol.api import objects, status
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.cli import output
from ondol.cli.output import DataDir, Format, NamespaceOption, Output
from ondol.compose import platform, settings

_FIELD_MANAGER: Final = "ondol-cli"
_AS_JSON: Final = "application/json"
_AS_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
_AS_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FileOption = Annotated[str, typer.Option("--filename", "-f", help="File, folder, or - for standard input.")]


def connect(data_dir: Any) -> clients.Client:
    """A client of the running platform, as its administrator."""
    instance = platform.require_running(settings.load(data_dir).data_dir)
    client = clients.from_kubeconfig(instance.kubeconfig)
    client.on_warning = lambda text: output.note(f"warning: {text}")
    return client


def apply(filename: FileOption, data_dir: DataDir = None, namespace: NamespaceOption = "default") -> None:
    """Create or change the objects of a file, by server-side apply."""

    async def run() -> None:
        documents = list(output.load_documents(filename))
        if not documents:
            raise errors.OndolError(
                f"{'standard input' if filename == '-' else filename}: there is nothing to apply"
            )
        if (nameless := next((d for d in documents if not objects.name(d)), None)) is not None:
            raise errors.OndolError(f"a {nameless['kind']} has no metadata.name")
        async with aclosing(connect(data_dir)) as client:
            for document in documents:
                what = _spelled(document)
                try:
                    await apply_document(client, dict(document), namespace)
                except errors.OndolError as error:
                    failures.append(error)
                    output.note(f"error: {what}: {error}")
                else:
                    output.write(f"{what} serverside-applied")

    failures: list[errors.OndolError] = []
    with output.explained():
        anyio.run(run)
    if failures:
        all_missing = all(isinstance(error, errors.NotFound) for error in failures)
        raise typer.Exit(output.NOT_FOUND if all_missing else output.FAILED)


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


def get(
    kind: Annotated[str, typer.Argument(help="Kind, plural or short name: pods, deploy, ksvc.")],
    name: Annotated[str, typer.Argument(help="Name; all of the kind if left out.")] = "",
    data_dir: DataDir = None,
    namespace: NamespaceOption = "default",
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")
    ] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Label selector.")] = "",
    form: Output = Format.TABLE,
) -> None:
    """Show objects."""

    async def run() -> None:
        async with aclosing(connect(data_dir)) as client:
            resource = await _find(client, kind)
            scope = "" if all_namespaces or not resource.namespaced else namespace
            path = resource.path(scope, name)
            query = {"labelSelector": selector} if selector else {}
            if form is Format.TABLE:
                found = await _read(client, path, query, accept=_AS_TABLE)
                _print_table(found, with_namespace=all_namespaces)
            else:
                output.document(_without_bookkeeping(await _read(client, path, query)), form)

    with output.explained():
        anyio.run(run)


async def _read(
    client: clients.Client, path: str, query: Mapping[str, str] | None = None, *, accept: str = _AS_JSON
) -> objects.Object:
    """One document as the server answers it; a failed answer is raised."""
    answer = await client.raw("GET", path, query=query, headers={"accept": accept})
    document: objects.Object = json.loads(answer.body)
    if answer.status >= 400:
        raise status.error_from(document, answer.status)
    return document


def _without_bookkeeping(found: objects.Object) -> objects.Object:
    """The document, or each of its items, without who wrote which field: for people, as kubectl prints it."""
    for item in (found, *(found.get("items") or ())):
        item["metadata"].pop("managedFields", None)
    return found


def _print_table(found: objects.Object, *, with_namespace: bool) -> None:
    columns = [i for i, column in enumerate(found["columnDefinitions"]) if not column.get("priority")]
    header = [found["columnDefinitions"][i]["name"].upper() for i in columns]
    rows = [[row["cells"][i] for i in columns] for row in found.get("rows") or ()]
    if not rows:
        output.note("No resources found")
        return
    if with_namespace:
        header.insert(0, "NAMESPACE")
        for line, row in zip(rows, found["rows"], strict=True):
            line.insert(0, objects.namespace(row["object"]))
    output.table(header, [["<none>" if cell is None else cell for cell in row] for row in rows])


def delete(
    kind: Annotated[str, typer.Argument(help="Kind, plural or short name; not needed with -f.")] = "",
    name: Annotated[str, typer.Argument(help="Name of the object.")] = "",
    filename: Annotated[str, typer.Option("--filename", "-f", help="Delete what a file describes.")] = "",
    data_dir: DataDir = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Delete an object, or all objects of a file."""

    async def run() -> None:
        async with aclosing(connect(data_dir)) as client:
            if filename:
                for document in output.load_documents(filename):
                    resource = await client.resource_for(str(document["apiVersion"]), str(document["kind"]))
                    place = objects.namespace(document) or namespace
                    await _delete(client, resource, objects.name(document), place)
            else:
                await _delete(client, await _find(client, kind), name, namespace)

    if not filename and not (kind and name):
        raise typer.BadParameter("say what to delete: KIND NAME, or -f FILE")
    with output.explained():
        anyio.run(run)


async def _delete(client: clients.Client, resource: Resource, name: str, namespace: str) -> None:
    await client.delete(resource, name, namespace if resource.namespaced else "")
    output.write(f'{resource.group_resource} "{name}" deleted')


def logs(
    pod: Annotated[str, typer.Argument(help="Name of the pod.")],
    container: Annotated[
        str, typer.Option("--container", "-c", help="Container; the only one if left out.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the run before the last restart.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", help="Only the last lines.")] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="With the time of each line.")] = False,
    data_dir: DataDir = None,
    namespace: NamespaceOption = "default",
) -> None:
    """Print what a container wrote."""
    name = pod.removeprefix("pod/")
    if "/" in name:
        raise typer.BadParameter(f"give the name of a pod, not {pod}")

    async def run() -> None:
        async with (
            aclosing(connect(data_dir)) as client,
            client.log(
                namespace,
                name,
                container=container,
                follow=follow,
                previous=previous,
                tail_lines=tail,
                timestamps=timestamps,
            ) as chunks,
        ):
            async for chunk in chunks:
                output.write_bytes(chunk)

    with output.explained():
        anyio.run(run)


async def _find(client: clients.Client, word: str) -> Resource:
    """The resource a word names: plural, singular, kind, short name, or `plural.group`."""
    wanted = word.lower()
    for path in ("/api", "/apis"):
        for found, names in _named(await _read(client, path, accept=_AS_DISCOVERY)):
            if wanted in names:
                return found
    raise errors.NotFound(f'the server doesn\'t have a resource type "{word}"')


def _named(discovered: objects.Object) -> Iterator[tuple[Resource, set[str]]]:
    """Every resource of an aggregated discovery document with the words that name it."""
    for group in discovered.get("items") or ():
        group_name = objects.name(group)
        for version in group.get("versions") or ():
            for entry in version.get("resources") or ():
                kind = str(entry["responseKind"]["kind"])
                found = Resource(
                    group_name,
                    str(version["version"]),
                    str(entry["resource"]),
                    kind,
                    namespaced=entry["scope"] == "Namespaced",
                )
                singular = str(entry.get("singularResource") or kind.lower())
                words = {found.plural, found.group_resource, kind.lower(), singular}
                yield found, words | set(entry.get("shortNames") or ())
