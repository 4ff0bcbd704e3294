"""`Attributes`: a write as webhooks and policies see it, in the version of the kind that they asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver import documents
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth.identity import User
from ondol.apiserver.served import Catalogue, Served
from ondol.apiserver.strategy import Context

EXEMPT_GROUP: Final = "admissionregistration.k8s.io"
"""What decides about admission is not itself asked about: a broken webhook could never be taken away."""


_SELF: Final = "system:apiserver"
"""The server's own writes: at its start there is nobody who could answer for a webhook."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """One write. `obj` is None for a delete, `old` for a create; both are read-only."""

    operation: str
    """`CREATE`, `UPDATE`, `DELETE` or `CONNECT`."""
    served: Served
    """The kind in the version in which `obj` and `old` are shown."""
    requested: Served
    """The kind as the client wrote it."""
    subresource: str
    kind: tuple[str, str, str]
    """Group, version and kind of `obj`: of the subresource's own document, if it has one."""
    namespace: str
    name: str
    obj: Object | None
    old: Object | None
    user: User
    dry_run: bool
    options: Object

    @property
    def resource(self) -> tuple[str, str, str]:
        """Group, version and plural name."""
        kind = self.served.kind
        return kind.group, kind.version, kind.plural

    def document(self) -> Object:
        """The fields of an `AdmissionRequest` that tell of the write; without uid and objects."""
        request: Object = {
            "kind": _kind(*self.kind),
            "resource": _resource(self.served),
            "requestKind": _kind(*self._requested_kind()),
            "requestResource": _resource(self.requested),
            "operation": self.operation,
            "userInfo": self.user.document(),
            "dryRun": self.dry_run,
        }
        if self.subresource:
            request["subResource"] = request["requestSubResource"] = self.subresource
        if self.name:
            request["name"] = self.name
        if self.namespace:
            request["namespace"] = self.namespace
        if self.options:
            request["options"] = self.options
        return request

    def _requested_kind(self) -> tuple[str, str, str]:
        if self.served is self.requested or self.kind != _of(self.served):
            return self.kind
        return _of(self.requested)


def of(context: Context, request: Request) -> Attributes:
    """The write in the version in which the client made it."""
    served, lens = request.served, request.lens
    obj: Object | None = request.new or None
    old = request.old
    if lens is not None:
        obj, old = lens.get(obj) if obj else None, lens.get(old) if old else None
    named = objects.name(request.new or request.old or {})
    is_namespace = served.kind.plural == "namespaces" and not served.kind.group
    return Attributes(
        operation=request.operation.upper(),
        served=served,
        requested=served,
        subresource=request.subresource,
        kind=_kind_of(obj or old, served),
        namespace=named if is_namespace else request.namespace,
        name=named,
        obj=obj,
        old=old,
        user=context.user,
        dry_run=context.dry_run,
        options=request.options,
    )


async def in_version(attributes: Attributes, other: Served) -> Attributes:
    """The same write in another version of the kind; what a subresource shows is the same in all."""
    if other is attributes.served:
        return attributes
    is_whole = attributes.kind == _of(attributes.served)
    return Attributes(
        attributes.operation,
        other,
        attributes.requested,
        attributes.subresource,
        _of(other) if is_whole else attributes.kind,
        attributes.namespace,
        attributes.name,
        await convert(attributes.obj, attributes.served, other) if is_whole else attributes.obj,
        await convert(attributes.old, attributes.served, other) if is_whole else attributes.old,
        attributes.user,
        attributes.dry_run,
        attributes.options,
    )


async def convert(obj: Object | None, source: Served, target: Served) -> Object | None:
    """An object of one version of a kind as another."""
    if obj is None or source is target:
        return obj
    if target.remote is not None:
        return await target.remote.shown(obj)
    stored = source.stored(obj)
    return documents.parse(target.as_served(documents.encode(stored)))


Beside = Callable[[Callable[[], Object]], Awaitable[Object]]


async def _at_once(work: Callable[[], Object]) -> Object:
    return work()


async def as_requested(
    request: Request, attributes: Attributes, patched: Object, beside: Beside = _at_once
) -> Object:
    """What `request.new` becomes when the object shown is changed: read like what a client sends.

    `beside` runs what may take long.
    """
    served, lens = request.served, request.lens
    own = await convert(patched, attributes.served, served) or {}
    if lens is not None and lens.subresource:
        return await beside(lambda: served.schema.read(lens.put(request.new, own)))
    if attributes.kind[2] != served.kind.kind:
        return own  # a subresource's own document, such as an Eviction
    return await beside(lambda: served.schema.read(own))


def is_exempt(context: Context, request: Request) -> bool:
    """Whether nobody is asked about a write."""
    return request.served.kind.group == EXEMPT_GROUP or context.user.name == _SELF


def sees_changes(uid: str, request: Request) -> bool:
    """Whether others changed the object since the one of this uid was called."""
    seen = request.called.get(uid)
    return seen is not None and seen is not request.new


def equivalents(catalogue: Catalogue, served: Served) -> Iterator[Served]:
    """The other versions of a kind, and the other kinds that show the same objects."""
    for other in catalogue:
        if other.bucket == served.bucket and other is not served:
            yield other


def _of(served: Served) -> tuple[str, str, str]:
    return served.kind.group, served.kind.version, served.kind.kind


def _kind_of(obj: Object | None, served: Served) -> tuple[str, str, str]:
    if not obj or not obj.get("kind"):
        return _of(served)
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    return group, version, str(obj["kind"])


def _kind(group: str, version: str, kind: str) -> dict[str, Any]:
    return {"group": group, "version": version, "kind": kind}


def _resource(served: Served) -> dict[str, Any]:
    return {"group": served.kind.group, "version": served.kind.version, "resource": served.kind.plural}
