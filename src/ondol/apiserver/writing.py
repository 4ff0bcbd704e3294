"""Create, update and delete: the road of every write from a document to the store.

A write is decided synchronously on the live record (read, admit, validate, track owners) and then
appended under the condition that the record is still the one it was decided on; otherwise it is
decided again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ondol.api import objects, status
from ondol.api.objects import Object
from ondol.api.patch import apply as ownership
from ondol.apiserver import admission, documents, metadata
from ondol.apiserver.auth.identity import User
from ondol.apiserver.core import Core
from ondol.apiserver.lenses import Lens
from ondol.apiserver.served import Served
from ondol.apiserver.strategies.base import Context
from ondol.base import errors
from ondol.store.log import RevisionConflict
from ondol.store.records import ABSENT, Record

_GENERATED_NAME_TRIES: Final = 8
_UPDATE_TRIES: Final = 50


@dataclass(frozen=True, slots=True)
class Options:
    """How a write is meant."""

    user: User
    manager: str = "unknown"
    dry_run: bool = False
    warn: Callable[[str], None] = field(default=lambda message: None)


class Written(NamedTuple):
    """The object as stored (or as it would be, in a dry run)."""

    value: bytes
    created: bool = False


Change = Callable[[Object], Object]
"""From the live part, shared and read-only, to the part as the client wants it."""


async def create(
    core: Core, served: Served, namespace: str, document: Object, options: Options, *, tracked: bool = False
) -> Written:
    """Store a new object; `tracked` when the document brings its managedFields from an apply."""
    tries = 1 if objects.name(document) else _GENERATED_NAME_TRIES
    for _ in range(tries):
        with contextlib.ExitStack() as held:
            context = core.context(options.user, options.warn, held, dry_run=options.dry_run)
            obj = _created(core, context, served, namespace, document, options, tracked=tracked)
            key = served.key(namespace, objects.name(obj))
            if core.store.get(served.bucket, key) is not None:
                continue
            try:
                value = await _append(core, served, key, obj, ABSENT, dry_run=options.dry_run)
            except RevisionConflict:
                continue
            return Written(value, created=True)
    raise _taken(served, obj, document)


def _taken(served: Served, obj: Object, document: Object) -> errors.AlreadyExists:
    error = status.already_exists(served.resource, objects.name(obj))
    if not objects.name(document):
        error.retry_after_s = 1
    return error


def _created(
    core: Core,
    context: Context,
    served: Served,
    namespace: str,
    document: Object,
    options: Options,
    *,
    tracked: bool,
) -> Object:
    obj = served.schema.read(document)
    metadata.for_create(obj, served.resource, now=context.now, uid=core.new_uid(), rng=core.rng)
    served.strategy.prepare_for_create(context, obj)
    admission.admit(core, context, admission.Request("create", served, namespace, obj, None))
    _check(served, context, obj, None)
    if tracked:
        return obj
    return ownership.update(
        None,
        obj,
        schema=served.schema.shape,
        manager=options.manager,
        now=context.now,
        reset=ownership.STATUS_ONLY if served.strategy.has_status else None,
    )


def _check(
    served: Served, context: Context, obj: Object, old: Object | None, extra: Sequence[errors.Cause] = ()
) -> None:
    causes = [*extra, *served.schema.problems(obj, old), *served.strategy.problems(context, obj, old)]
    if causes:
        raise status.invalid(served.resource, objects.name(obj), causes)
    for message in served.strategy.warnings(obj, old):
        context.warn(message)


async def _append(
    core: Core, served: Served, key: str, obj: Object, expected: int, *, dry_run: bool
) -> bytes:
    if dry_run:
        return documents.encode(obj)
    record = await core.store.append(
        served.bucket, key, lambda revision: documents.encode(obj, revision), expected=expected
    )
    return record.value


async def update(
    core: Core,
    served: Served,
    namespace: str,
    name: str,
    lens: Lens,
    change: Change,
    options: Options,
    *,
    tracked: bool = False,
) -> Written:
    """Change a part of an object; decided anew while others write in between.

    A resourceVersion or uid in the changed part is a condition: `Conflict` if it is not the live
    object's. `tracked` when the change brings its managedFields from an apply.
    """
    key = served.key(namespace, name)
    for _ in range(_UPDATE_TRIES):
        record = core.store.get(served.bucket, key)
        if record is None:
            raise status.not_found(served.resource, name)
        old = core.views.of(record)
        with contextlib.ExitStack() as held:
            context = core.context(options.user, options.warn, held, dry_run=options.dry_run)
            part = change(lens.get(old))
            new = _changed(core, context, served, lens, old, part, options, tracked=tracked)
            if new is None:
                return Written(record.value)
            try:
                if _ends(served, new, old):
                    return Written(await remove(core, served, new, record, dry_run=options.dry_run))
                value = await _append(core, served, key, new, record.revision, dry_run=options.dry_run)
            except RevisionConflict:
                continue
            return Written(value)
    raise status.conflict(served.resource, name)


def _changed(
    core: Core,
    context: Context,
    served: Served,
    lens: Lens,
    old: Object,
    part: Object,
    options: Options,
    *,
    tracked: bool,
) -> Object | None:
    """The object to write, or None if the change changes nothing."""
    if part is lens.get(old):
        return None
    new = served.schema.read(lens.put(old, part))
    version = new["metadata"].get("resourceVersion")
    if version and version != old["metadata"]["resourceVersion"]:
        raise status.conflict(served.resource, objects.name(old))
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    metadata.for_update(new, old, served.resource)
    if lens.subresource == "status":
        served.strategy.prepare_for_status_update(context, new, old)
    else:
        served.strategy.prepare_for_update(context, new, old)
    namespace = objects.namespace(old)
    admission.admit(core, context, admission.Request("update", served, namespace, new, old, lens.subresource))
    _check(served, context, new, old, metadata.update_problems(new, old))
    if not tracked:
        new = ownership.update(
            old,
            new,
            schema=served.schema.shape,
            manager=options.manager,
            now=context.now,
            subresource=lens.subresource,
            reset=lens.reset,
        )
    return None if new == old else new


def _ends(served: Served, new: Object, old: Object) -> bool:
    """Whether this update takes away the last thing that kept a deleted object."""
    if not objects.is_deleting(old) or objects.finalizers(new):
        return False
    if old["metadata"].get("deletionGracePeriodSeconds"):
        return False
    return served.strategy.is_released(new, old)


async def remove(core: Core, served: Served, last: Object, record: Record, *, dry_run: bool) -> bytes:
    """Take an object out of the store, leaving `last` as its last state."""
    if dry_run:
        return documents.encode(last)
    gone = await core.store.append(
        served.bucket,
        record.name,
        lambda revision: documents.encode(last, revision),
        expected=record.revision,
        delete=True,
    )
    return gone.value
