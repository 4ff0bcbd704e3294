"""Answers: objects and lists in the format and form the client accepts."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ondol.api import objects, status
from ondol.api.objects import Object
from ondol.api.tables import builtin, table
from ondol.api.tables.columns import Layout
from ondol.apiserver import documents, negotiation, watching, yaml_text
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import PIECE_BYTES, WHOLE_BYTES_MAX, Answer, Reply, Request, Stream
from ondol.apiserver.listing import ContinueExpired, Listing
from ondol.apiserver.negotiation import Accepted
from ondol.apiserver.served import Served
from ondol.base import errors

_JSON: Final = b"application/json"
_YAML: Final = b"application/yaml"
_BROWSERS: Final = ("curl", "Wget", "Mozilla/5.0")


def wanted(request: Request) -> Accepted:
    """What the client accepts; `NotAcceptable` if nothing of it can be served."""
    return negotiation.accepted(request.header(b"accept"))


def one(core: Core, request: Request, served: Served, value: bytes, code: int = 200) -> Reply:
    """One object, given as it is stored."""
    accepted = wanted(request)
    if accepted.plain and not pretty(request):
        return Reply(b"%b\n" % value, code)
    if not accepted.form:
        return document(request, msgspec.json.decode(value), code)
    shown = form(core, request, served)(msgspec.json.decode(value), True)
    return document(request, shown, code)


def many(core: Core, request: Request, served: Served, listed: Listing) -> Answer:
    """A list."""
    accepted = wanted(request)
    if not accepted.form:
        return _whole_list(request, served, listed)
    items = [core.document(served, record) for record in listed.records]
    if accepted.form == "Table":
        shown = _Tables(core, request, served, accepted)(items, listed.metadata())
    else:
        shown = table.partial_list(items, listed.metadata(), version=accepted.version)
    return document(request, shown)


def _whole_list(request: Request, served: Served, listed: Listing) -> Answer:
    values = [record.value for record in listed.records]
    if served.conversion is not None:
        values = [served.shown(value) for value in values]
    head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        served.kind.list_kind.encode(),
        served.resource.api_version.encode(),
        documents.dump(listed.metadata()),
    )
    if wanted(request).format != "json" or pretty(request):
        return document(request, msgspec.json.decode(head + b",".join(values) + b"]}"))
    if sum(map(len, values)) <= WHOLE_BYTES_MAX:
        # A format, not a join: a fifth more lists a second were measured, for how it takes its memory.
        return Reply(b"%b%b]}\n" % (head, b",".join(values)))
    return Stream(lambda emit: _emit_list(head, values, emit))


async def _emit_list(head: bytes, values: list[bytes], emit: Callable[[bytes], Awaitable[None]]) -> None:
    """Piece by piece from the stored bytes: a long list is never copied whole."""
    await emit(head)
    comma: list[bytes] = []
    for group in _groups(values):
        await emit(b",".join(comma + group))
        comma = [b""]
    await emit(b"]}\n")


def _groups(values: list[bytes]) -> Iterator[list[bytes]]:
    """In order, so many at a time as make a piece."""
    ends = list(itertools.accumulate(map(len, values)))
    start = sent = 0
    while start < len(values):
        stop = max(start + 1, bisect.bisect_right(ends, sent + PIECE_BYTES))
        yield values[start:stop]
        start, sent = stop, ends[stop - 1]


class _Tables:
    """Makes the tables of one request."""

    def __init__(self, core: Core, request: Request, served: Served, accepted: Accepted) -> None:
        include = request.query.get("includeObject") or "Metadata"
        if include not in ("None", "Metadata", "Object"):
            raise errors.BadRequest(f"unrecognized includeObject value: {include!r}")
        self._include: table.IncludeObject = include  # type: ignore[assignment]  # checked just above
        self._now = core.clock.now
        self._layout = layout(served)
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


def form(core: Core, request: Request, served: Served) -> Callable[[Object, bool], Object]:
    """How one object is shown in the accepted form; the flag asks for a table's headers."""
    accepted = wanted(request)
    if accepted.form == "Table":
        tables = _Tables(core, request, served, accepted)
        return lambda obj, headers: tables([obj], objects.metadata(obj), headers=headers)
    return lambda obj, headers: table.partial(obj, version=accepted.version)  # noqa: ARG005 - tables have them


def layout(served: Served) -> Layout:
    """The columns of a kind."""
    return served.layout or builtin.layout(served.resource.group, served.resource.kind)


def frames(core: Core, request: Request, served: Served) -> watching.Forms:
    """How a watch shows objects and bookmarks in the accepted form."""
    accepted = wanted(request)
    if not accepted.form:
        return watching.Forms(served.shown)
    show = form(core, request, served)
    first = True

    def shown(value: bytes) -> bytes:
        nonlocal first
        headers, first = first, False
        return documents.dump(show(msgspec.json.decode(served.shown(value)), headers))

    def bookmark(obj: Object) -> Object:
        if accepted.form != "Table":
            return table.partial(obj, version=accepted.version)
        empty = table.table([], layout(served), now=0, version=accepted.version, headers=False)
        return {**empty, "metadata": obj["metadata"]}

    return watching.Forms(shown, bookmark)


def document(request: Request, value: Any, code: int = 200) -> Reply:
    """Any document, as JSON or YAML."""
    if wanted(request).format == "yaml":
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
    shown = status.failure(error)
    if isinstance(error, ContinueExpired):
        shown["metadata"] = {"continue": error.token}
    reply = Reply(b"%b\n" % documents.dump(shown), error.status_code)
    if isinstance(error, errors.TooLarge):
        reply.headers.append((b"connection", b"close"))  # the rest of it is not waited for
    if error.retry_after_s is not None:
        reply.headers.append((b"retry-after", str(error.retry_after_s).encode()))
    return reply
