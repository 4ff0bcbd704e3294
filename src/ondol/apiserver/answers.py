"""Answers: objects and lists in the format and form the client accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import yaml

from ondol.api import objects, status
from ondol.api.objects import Object
from ondol.api.tables import builtin, table
from ondol.api.tables.columns import Layout
from ondol.apiserver import documents, negotiation
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.listing import ContinueExpired, Listing
from ondol.apiserver.negotiation import Accepted
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Record

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
        return Reply(value, code)
    if not accepted.form:
        return document(request, msgspec.json.decode(value), code)
    shown = form(core, request, served, accepted)(msgspec.json.decode(value), headers=True)
    return document(request, shown, code)


def many(core: Core, request: Request, served: Served, listed: Listing) -> Reply:
    """A list."""
    accepted = wanted(request)
    kind, version = served.kind.list_kind, served.resource.api_version
    if not accepted.form:
        head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
            kind.encode(),
            version.encode(),
            documents.dump(listed.metadata()),
        )
        body = b"%b%b]}" % (head, b",".join([record.value for record in listed.records]))
        if accepted.format == "json" and not pretty(request):
            return Reply(body)
        return document(request, msgspec.json.decode(body))
    items = [core.views.of(record) for record in listed.records]
    if accepted.form == "Table":
        shown = _table(core, request, served, accepted, items, listed.metadata(), headers=True)
    else:
        shown = table.partial_list(items, listed.metadata(), version=accepted.version)
    return document(request, shown)


def form(core: Core, request: Request, served: Served, accepted: Accepted) -> Callable[..., Object]:
    """How one object is shown in the accepted form."""

    def show(obj: Object, *, headers: bool) -> Object:
        if accepted.form == "Table":
            return _table(core, request, served, accepted, [obj], objects.metadata(obj), headers=headers)
        return table.partial(obj, version=accepted.version)

    return show


def _table(
    core: Core,
    request: Request,
    served: Served,
    accepted: Accepted,
    items: list[Object],
    metadata: Any,
    *,
    headers: bool,
) -> Object:
    include = request.query.get("includeObject") or "Metadata"
    if include not in ("None", "Metadata", "Object"):
        raise errors.BadRequest(f"unrecognized includeObject value: {include!r}")
    return table.table(
        items,
        layout(served),
        now=core.clock.now(),
        metadata=metadata,
        include_object=include,  # type: ignore[arg-type]  # checked just above
        version=accepted.version,
        headers=headers,
    )


def layout(served: Served) -> Layout:
    """The columns of a kind."""
    return served.layout or builtin.layout(served.resource.group, served.resource.kind)


def frames(
    core: Core, request: Request, served: Served
) -> tuple[Callable[[bytes, Record], bytes] | None, Any]:
    """How a watch shows objects and bookmarks in the accepted form; none for stored bytes."""
    accepted = wanted(request)
    if not accepted.form:
        return None, None
    show = form(core, request, served, accepted)
    first = True

    def shown(value: bytes, record: Record) -> bytes:
        nonlocal first
        del record
        headers, first = first, False
        return documents.dump(show(msgspec.json.decode(value), headers=headers))

    def bookmark(obj: Object) -> Object:
        if accepted.form == "Table":
            return table.table([], layout(served), now=0, metadata=obj["metadata"], headers=False) | {
                "metadata": obj["metadata"]
            }
        return table.partial(obj, version=accepted.version)

    return shown, bookmark


def document(request: Request, value: Any, code: int = 200) -> Reply:
    """Any document, as JSON or YAML."""
    if wanted(request).format == "yaml":
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        return Reply(yaml.dump(value, Dumper=dumper, sort_keys=False).encode(), code, _YAML)
    body = documents.dump(value)
    if pretty(request):
        body = msgspec.json.format(body, indent=2) + b"\n"
    return Reply(body, code, _JSON)


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
    reply = Reply(documents.dump(shown), error.status_code)
    if error.retry_after_s is not None:
        reply.headers.append((b"retry-after", str(error.retry_after_s).encode()))
    return reply
