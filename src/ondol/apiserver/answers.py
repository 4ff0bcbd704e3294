"""Answers: objects and lists in the format and form the client accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.api import objects, status
from ondol.api.objects import Object
from ondol.api.tables import table
from ondol.apiserver import documents, lists, negotiation, watching, yaml_text
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Emit, Reply, Request, Stream
from ondol.apiserver.heavy import HEAVY_BYTES, YAML_WEIGHT
from ondol.apiserver.listing import ContinueExpired, Listing
from ondol.apiserver.negotiation import Accepted
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Record

_JSON: Final = b"application/json"
_YAML: Final = b"application/yaml"
_BROWSERS: Final = ("curl", "Wget", "Mozilla/5.0")


def accepted_by(request: Request) -> Accepted:
    """What the client accepts; `NotAcceptable` if nothing of it can be served."""
    return negotiation.accepted(request.header(b"accept"))


async def shown(request: Request, served: Served, records: Sequence[Record]) -> Sequence[Record]:
    """Stored records, ready to be answered with: before anything is sent, so that a failure has a status."""
    if served.remote is None:
        return records
    if _is_metadata(accepted_by(request)):
        return served.remote.labelled(records)
    return await served.remote.records(records)


def _is_metadata(accepted: Accepted) -> bool:
    """Whether nothing of objects is shown but their metadata."""
    return accepted.form not in ("", "Table")


def one(core: Core, request: Request, served: Served, value: bytes, code: int = 200) -> Answer:
    """One object, given as it is stored."""
    accepted = accepted_by(request)
    if accepted.plain and not pretty(request):
        return Reply(b"%b\n" % value, code)

    def reply() -> Reply:
        if not accepted.form:
            return document(request, msgspec.json.decode(value), code)
        return document(request, msgspec.json.decode(form(core, request, served)(value, True)), code)

    weight = YAML_WEIGHT if accepted.format == "yaml" else 1
    if len(value) * weight < HEAVY_BYTES:
        return reply()

    async def produce(emit: Emit) -> None:
        await emit((await core.heavy.run(request.user.tenant, len(value) * weight, reply)).body)

    return Stream(produce, _YAML if accepted.format == "yaml" else _JSON, code)


def many(core: Core, request: Request, served: Served, listed: Listing) -> Answer:
    """A list."""
    accepted = accepted_by(request)
    as_list = _table_list if accepted.form == "Table" else _partial_list if accepted.form else _plain_list
    return as_list(core, request, served, listed).answer(core, request.user.tenant, listed.records)


def _plain_list(core: Core, request: Request, served: Served, listed: Listing) -> lists.Writing:
    del core
    head = {
        "kind": served.kind.list_kind,
        "apiVersion": served.resource.api_version,
        "metadata": listed.metadata(),
    }
    return lists.Writing(
        _format(request),
        head,
        "items",
        lambda records: [served.as_served(record.value) for record in records],
    )


def _partial_list(core: Core, request: Request, served: Served, listed: Listing) -> lists.Writing:
    del core
    accepted = accepted_by(request)
    partial = _partial(accepted)
    head = table.partial_list([], listed.metadata(), version=accepted.version)
    return lists.Writing(
        _format(request),
        head,
        "items",
        lambda records: [partial(served.as_served(record.value)) for record in records],
    )


def _table_list(core: Core, request: Request, served: Served, listed: Listing) -> lists.Writing:
    tables = _Tables(core, request, served, accepted_by(request))
    read = core.reader(served, len(listed.records))

    def rows(records: Sequence[Record]) -> list[bytes]:
        rendered = tables([read(record) for record in records], {}, headers=False)
        return [documents.dump(row) for row in rendered["rows"]]

    return lists.Writing(_format(request), tables([], listed.metadata()), "rows", rows)


def _format(request: Request) -> lists.Format:
    if accepted_by(request).format == "yaml":
        return lists.Yaml()
    return lists.Pretty() if pretty(request) else lists.Json()


def _partial(accepted: Accepted) -> Callable[[bytes], bytes]:
    """An object as its metadata alone, which is taken over as it is written."""
    kind = documents.dump(table.partial({}, version=accepted.version)).removesuffix(b"{}}")
    return lambda value: b"%b%b}" % (kind, documents.metadata(value))


class _Tables:
    """Makes the tables of one request."""

    def __init__(self, core: Core, request: Request, served: Served, accepted: Accepted) -> None:
        include = request.query.get("includeObject") or "Metadata"
        if include not in ("None", "Metadata", "Object"):
            raise errors.BadRequest(f"unrecognized includeObject value: {include!r}")
        self._include: table.IncludeObject = include  # type: ignore[assignment]  # checked just above
        self._now = core.clock.now
        self._layout = served.layout
        self._version = accepted.version

    def __call__(self, items: list[Object], metadata: Mapping[str, Any], *, headers: bool = True) -> Object:
        return table.table(
            items,
            self._layout,
            now=self._now(),
            metadata=metadata,
            include_object=self._include,
            version=self._version,
            headers=headers,
        )


def form(core: Core, request: Request, served: Served) -> Callable[[bytes, bool], bytes]:
    """How one object, as it is served, is shown in the accepted form; the flag asks for a table's headers."""
    accepted = accepted_by(request)
    if accepted.form != "Table":
        partial = _partial(accepted)
        return lambda value, headers: partial(value)  # noqa: ARG005 - tables have them
    tables = _Tables(core, request, served, accepted)

    def render(value: bytes, headers: bool) -> bytes:
        obj = documents.parse(value)
        return documents.dump(tables([obj], objects.metadata(obj), headers=headers))

    return render


def frames(core: Core, request: Request, served: Served) -> watching.Forms:
    """How a watch shows objects and bookmarks in the accepted form."""
    accepted = accepted_by(request)
    if not accepted.form:
        return watching.Forms(
            served.as_served,
            shared=("", served.conversion),
            prepare=lambda records: shown(request, served, records),
        )
    show = form(core, request, served)
    first = True

    def render(value: bytes) -> bytes:
        nonlocal first
        headers, first = first, False
        return show(served.as_served(value), headers)

    def bookmark(obj: Object) -> Object:
        if accepted.form != "Table":
            return table.partial(obj, version=accepted.version)
        empty = table.table([], served.layout, now=0, version=accepted.version, headers=False)
        return {**empty, "metadata": obj["metadata"]}

    alike = None if accepted.form == "Table" else (accepted, served.conversion)
    return watching.Forms(render, bookmark, alike, lambda records: shown(request, served, records))


def document(request: Request, value: Any, code: int = 200) -> Reply:
    """Any document, as JSON or YAML."""
    if accepted_by(request).format == "yaml":
        return Reply(yaml_text.dump(value), code, _YAML)
    body = documents.dump(value)
    if pretty(request):
        body = msgspec.json.format(body, indent=2)
    return Reply(b"%b\n" % body, code, _JSON)


def pretty(request: Request) -> bool:
    """Whether a person reads the answer."""
    if "pretty" in request.query:
        return request.flag("pretty")
    return request.user_agent.startswith(_BROWSERS)


def failure(error: errors.ApiError) -> Reply:
    """The answer to a request that failed; always JSON, which every client can read."""
    answer = status.failure(error)
    if isinstance(error, ContinueExpired):
        answer["metadata"] = {"continue": error.token}
    reply = Reply(b"%b\n" % documents.dump(answer), error.status_code)
    if isinstance(error, errors.TooLarge):
        reply.headers.append((b"connection", b"close"))  # the rest of it is not waited for
    if error.retry_after_s is not None:
        reply.headers.append((b"retry-after", str(error.retry_after_s).encode()))
    return reply
