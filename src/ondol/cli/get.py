"""The `get` command: objects as tables, documents or names, once or as they change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from enum import StrEnum
from typing import Annotated, Final

import anyio
import msgspec
import typer

from ondol import client as clients
from ondol.api import objects, status
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.cli import addressing, completion, connection, output, tables, terminal
from ondol.cli.addressing import Target
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.client import transport

_AS_JSON: Final = "application/json"
_AS_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Form(StrEnum):
    """How objects are printed."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


_TABLES: Final = (Form.TABLE, Form.WIDE)


def get(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND[,KIND...] [NAME...] | KIND/NAME...",
            help="`pods`, `deploy,svc`, `pod web`, `deploy/front svc/front`, `all`.",
            autocompletion=completion.words,
            show_default=False,
        ),
    ],
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")
    ] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Label selector.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with what changes, of each kind or object.")
    ] = False,
    form: Annotated[Form, typer.Option("--output", "-o", help="How to print.")] = Form.TABLE,
) -> None:
    """Show objects."""

    async def run() -> list[errors.OndolError]:
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            targets = await addressing.targets(client, words)
            source = _Source(client, "" if all_namespaces else connected.namespace, selector, form)
            results, failures = await _read_all(source, targets)
            printer = _Printer(form, with_namespace=all_namespaces, with_kind=_names_kinds(targets, form))
            printer.print(results)
            if not failures and not watch and printer.is_empty:
                terminal.note("No resources found")
            if watch:
                await _follow_all(source, results, printer)
        return failures

    with output.explained():
        output.end_with(anyio.run(run))


def _names_kinds(targets: Sequence[Target], form: Form) -> bool:
    """Whether the kind stands before each name: where the name alone would not tell it."""
    return form is Form.NAME or len({target.resource for target in targets}) > 1


class _Source:
    """Reads targets in the representation that the form needs."""

    def __init__(self, client: clients.Client, namespace: str, selector: str, form: Form) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._accept = _AS_TABLE if form in _TABLES else _AS_JSON

    async def read(self, target: Target) -> Object:
        """The object, its list, or the Table of either; a failed answer is raised."""
        query = {"labelSelector": self._selector} if self._selector and not target.name else {}
        path = target.resource.path(self._namespace_of(target), target.name)
        answer = await self._client.raw("GET", path, query=query, headers={"accept": self._accept})
        document: Object = json.loads(answer.body)
        if answer.status >= 400:
            raise status.error_from(document, answer.status)
        return document

    def changes(
        self, target: Target, resource_version: str
    ) -> AbstractAsyncContextManager[transport.StreamResponse]:
        """The open watch of what changes from a list's version on, or of one object beginning with itself.

        The version of an object may be long forgotten, as that of a list just read is not.
        """
        query = {"watch": "true", "labelSelector": self._selector}
        if target.name:
            query["fieldSelector"] = f"metadata.name={target.name}"
        else:
            query["resourceVersion"] = resource_version
        path = target.resource.path(self._namespace_of(target))
        return self._client.stream("GET", path, {k: v for k, v in query.items() if v}, self._accept)

    def _namespace_of(self, target: Target) -> str:
        return self._namespace if target.resource.namespaced else ""


async def _read_all(
    source: _Source, targets: Sequence[Target]
) -> tuple[list[tuple[Target, Object]], list[errors.OndolError]]:
    """Each target's document; a missing one is reported, and the others are still read."""
    results: list[tuple[Target, Object]] = []
    failures: list[errors.OndolError] = []
    for target in targets:
        try:
            results.append((target, await source.read(target)))
        except errors.ApiError as error:
            failures.append(error)
            terminal.note(f"error: {error.message}")
    return results, failures


async def _follow_all(source: _Source, results: Sequence[tuple[Target, Object]], printer: _Printer) -> None:
    """Print what changes after each document, until the person or the server ends it, or one watch fails."""
    terminal.flush()  # a pipe or a file is to show each change as it comes
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def follow(target: Target, document: Object) -> None:
            nonlocal failure
            try:
                await _follow(source, target, document, printer)
            except Exception as error:  # noqa: BLE001 - raised below, outside the task group's ExceptionGroup
                failure = error
                group.cancel_scope.cancel()

        for target, document in results:
            group.start_soon(follow, target, document)
    if failure is not None:
        raise failure


async def _follow(source: _Source, target: Target, document: Object, printer: _Printer) -> None:
    """Print what changes after one document, in a watch of its own; itself it is printed already."""
    version = str(objects.metadata(document).get("resourceVersion") or "")
    async with source.changes(target, version) as answer:
        async for line in output.lines(answer.chunks):
            event = msgspec.json.decode(line)
            if event["type"] == "ERROR":
                raise status.error_from(event["object"], int(event["object"].get("code") or 500))
            if target.name and _version(event["object"]) == version:
                continue
            printer.print([(target, event["object"])])
            terminal.flush()


def _version(document: Object) -> str:
    """The version of an object, or of the one row of a Table."""
    rows = document.get("rows")
    return str(objects.metadata(rows[0]["object"] if rows else document).get("resourceVersion") or "")


class _Printer:
    """Prints documents in one form; what comes later of the same kind goes under the same header.

    Where another kind came in between, its header is printed again, so that each row stands under its own.
    """

    def __init__(self, form: Form, *, with_namespace: bool, with_kind: bool) -> None:
        self.is_empty = True
        self._form = form
        self._with_kind = with_kind
        self._with_namespace = with_namespace
        self._tables: dict[Resource, tables.Columns] = {}
        self._last: Resource | None = None

    def print(self, results: Sequence[tuple[Target, Object]]) -> None:
        if self._form in _TABLES:
            self._print_tables(results)
        elif self._form is Form.NAME:
            for target, document in results:
                for item in _items(document):
                    self.is_empty = False
                    terminal.write(f"{self._prefix(target.resource)}{objects.name(item)}")
        elif results:
            self.is_empty = False
            output.document(without_bookkeeping(_joined([d for _, d in results])), output.Format(self._form))

    def _print_tables(self, results: Sequence[tuple[Target, Object]]) -> None:
        by_resource: dict[Resource, list[Object]] = {}
        for target, table in results:
            by_resource.setdefault(target.resource, []).append(table)
        for resource, answers in by_resource.items():
            rows = [row for table in answers for row in table.get("rows") or ()]
            if not rows:
                continue
            if resource != self._last and not self.is_empty:
                terminal.write()
            if resource not in self._tables:
                self._tables[resource] = tables.Columns(
                    answers[0]["columnDefinitions"],
                    wide=self._form is Form.WIDE,
                    with_namespace=self._with_namespace,
                    prefix=self._prefix(resource),
                )
            elif resource != self._last:
                terminal.write(self._tables[resource].header())
            self.is_empty, self._last = False, resource
            for line in self._tables[resource].lines(rows):
                terminal.write(line)

    def _prefix(self, resource: Resource) -> str:
        if not self._with_kind:
            return ""
        kind = resource.kind.lower()
        return f"{kind}.{resource.group}/" if resource.group else f"{kind}/"


def _items(document: Object) -> list[Object]:
    """What a list holds, or the one object."""
    return list(document["items"] or ()) if isinstance(document.get("items"), list) else [document]


def _joined(documents: Sequence[Object]) -> Object:
    """One document as the server answered it; several as the items of one List, as kubectl prints them."""
    if len(documents) == 1:
        return documents[0]
    items = [item for document in documents for item in _items(document)]
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}


def without_bookkeeping(document: Object) -> Object:
    """The document, or each of its items, without who wrote which field: for people, as kubectl prints it."""
    for item in (document, *(document.get("items") or ())):
        item["metadata"].pop("managedFields", None)
    return document
