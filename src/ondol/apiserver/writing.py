"""Create and update: the steps of every write from a document to a record in the store.

A write is decided on the live record (read, track owners, default, mutate, validate, admit) and then
appended under the condition that the record is still the one it was decided on; otherwise it is
decided again. So it may wait for a plug-in or a thread while others write, and none of them is lost:

    A reads revision 7, waits;  B reads 7, appends 8;  A appends on 7: conflict, reads 8, decides anew
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from ondol.api import objects, status
from ondol.api.objects import Object
from ondol.api.patch import apply as ownership
from ondol.apiserver import documents, metadata, pod_lenses
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth.identity import User
from ondol.apiserver.core import Core
from ondol.apiserver.heavy import HEAVY_BYTES
from ondol.apiserver.lenses import Lens, Whole
from ondol.apiserver.reservations import Reserved
from ondol.apiserver.served import Served
from ondol.apiserver.strategy import Context
from ondol.base import errors
from ondol.store.log import RevisionConflict
from ondol.store.records import ABSENT, Record

_GENERATED_NAME_TRIES: Final = 8
UPDATE_TRIES: Final = 50

T = TypeVar("T")


def _silently(message: str) -> None:
    del message


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a write (user, field manager, dry run), and where its warnings go."""

    user: User
    manager: str = "unknown"
    dry_run: bool = False
    warn: Callable[[str], None] = _silently
    annotate: Callable[[str, str], None] | None = None
    """Says something in the audit log, if there is one."""
    field_validation: str = ""
    admitted: bool = False
    """Whether admission has had its say already, on what the write is part of."""
    body_bytes: int = 0
    """How large what was sent is, from which follows how long the work on it may take."""

    def document(self, verb: str) -> Object:
        """As the `CreateOptions`, `UpdateOptions` and so on that webhooks are shown."""
        options: Object = {"kind": f"{verb}Options", "apiVersion": "meta.k8s.io/v1"}
        if self.dry_run:
            options["dryRun"] = ["All"]
        if self.manager:
            options["fieldManager"] = self.manager
        if self.field_validation:
            options["fieldValidation"] = self.field_validation
        return options


class Kept(NamedTuple):
    """An object on its way into the store."""

    obj: Object
    stored: Object
    shown: Object | None
    """As it will be shown, where that takes more than looking at what is stored."""


class Written(NamedTuple):
    """The object as stored, or as it would be in a dry run."""

    value: bytes
    created: bool = False


Change = Callable[[Object], Object]
"""From the live part, shared and read-only, to the part as the client wants it."""


class Writes:
    """The writes of one request to one kind."""

    def __init__(self, core: Core, served: Served, options: Options) -> None:
        self.core = core
        self.served = served
        self.options = options
        self._size_bytes = options.body_bytes

    def context(self, reserved: Reserved) -> Context:
        options = self.options
        return self.core.context(
            options.user, options.warn, reserved, dry_run=options.dry_run, annotate=options.annotate
        )

    async def create(self, namespace: str, document: Object, *, tracked: bool = False) -> Written:
        """Store a new object; `tracked` when the document brings its managedFields from an apply."""
        served = self.served
        for _ in range(1 if objects.name(document) else _GENERATED_NAME_TRIES):
            with self.core.reservations.begin() as reserved:
                kept = await self._created(self.context(reserved), namespace, document, tracked=tracked)
                obj = kept.obj
                key = served.key(namespace, objects.name(obj))
                if self.core.store.get(served.bucket, key) is not None:
                    continue
                try:
                    return Written(await self.append(key, kept, ABSENT, reserved), created=True)
                except RevisionConflict:
                    continue
        existing = self.core.record(served, namespace, objects.name(obj))
        raise _taken(served, obj, document, existing)

    async def _created(self, context: Context, namespace: str, document: Object, *, tracked: bool) -> Kept:
        core, served = self.core, self.served
        revision = core.store.revision
        obj = await self._beside(lambda: served.schema.read(document))
        metadata.for_create(obj, served.resource, now=context.now, uid=core.new_uid(), rng=core.rng)
        if not tracked:
            lens = Whole(has_status=served.strategy.has_status)
            obj = await self._owned(context, lens, None, obj)
        await self._default(context, obj, None)
        request = Request("create", served, namespace, obj, None, options=self.options.document("Create"))
        await self._complete(context, request)
        served.strategy.prepare_for_create(context, request.new)
        await core.admission.allocate(context, request)
        await self._check(context, request)
        await core.admission.validate(context, request)
        kept = await self.kept(request.new)
        if core.store.revision != revision:  # it waited: the namespace may be gone by now
            core.admission.recheck(context, request)
        return kept

    async def kept(self, obj: Object) -> Kept:
        """An object as it is to be stored, and as it will be read again."""
        remote = self.served.remote
        if remote is None:
            return Kept(obj, self.served.stored(obj), None)
        stored = await remote.stored(obj)
        return Kept(obj, stored, await remote.read_again(stored))

    def marked(self, obj: Object, record: Record) -> Kept:
        """As `kept`, of a record that only its metadata was changed of: nobody is asked for the rest."""
        if self.served.remote is None:
            return Kept(obj, self.served.stored(obj), None)
        was = documents.fresh(record)
        of_both = ("labels", "annotations")  # they may differ by version
        marks = {k: v for k, v in obj["metadata"].items() if k not in of_both}
        marks |= {k: v for k, v in was["metadata"].items() if k in of_both}
        return Kept(obj, {**was, "metadata": marks}, obj)

    async def _complete(self, context: Context, request: Request) -> None:
        """Let admission complete the object; whatever it does, the identity and the server's fields stay."""
        sent = request.new
        await self.core.admission.mutate(context, request)
        if request.new is not sent:
            metadata.restore(request.new, sent)

    async def _beside(self, work: Callable[[], T], *, heavy: bool = False) -> T:
        """The outcome of a pure function: beside the event loop if it may take long."""
        size_bytes = max(self._size_bytes, HEAVY_BYTES) if heavy else self._size_bytes
        return await self.core.heavy.run(self.options.user.tenant, size_bytes, work)

    async def _owned(self, context: Context, lens: Lens, old: Object | None, new: Object) -> Object:
        """With the fields the client changes as its own; what the server adds later is nobody's."""
        return await self._beside(
            lambda: ownership.update(
                old,
                new,
                schema=self.served.schema.shape,
                manager=self.options.manager,
                now=context.now,
                subresource=lens.subresource,
                reset=lens.reset,
            )
        )

    async def update(
        self, namespace: str, name: str, lens: Lens, change: Change, *, tracked: bool = False
    ) -> Written:
        """Change a part of an object; decided anew while others write in between.

        A resourceVersion or uid in the changed part is a condition: `Conflict` if it is not the live
        object's. `tracked` when the change brings its managedFields from an apply.
        """
        core, served = self.core, self.served
        key = served.key(namespace, name)
        for _ in range(UPDATE_TRIES):
            record = core.store.get(served.bucket, key)
            if record is None:
                raise status.not_found(served.resource, name)
            shown = await served.shown(record)
            old = core.document(served, shown)
            with core.reservations.begin() as reserved:
                self._size_bytes = self.options.body_bytes + len(record.value)
                part = await self._beside(functools.partial(_part, change, lens, old))
                new = await self._changed(self.context(reserved), lens, old, part, tracked=tracked)
                if new is None and (served.remote is None or served.remote.is_current(record.value)):
                    return Written(served.as_served(shown.value))
                if new is None:
                    new = old  # it changes nothing but the version in which the object is stored
                try:
                    kept = await self.kept(new)
                    if _ends(served, new, old):
                        return Written(await self.remove(kept, record))
                    return Written(await self.append(key, kept, record.revision, reserved))
                except RevisionConflict:
                    continue
        raise status.conflict(served.resource, name)

    async def _changed(
        self, context: Context, lens: Lens, old: Object, part: Object, *, tracked: bool
    ) -> Object | None:
        """The object to write, or None if the change changes nothing."""
        if part is old:
            return None
        served = self.served
        new = await self._beside(lambda: served.schema.read(lens.put(old, part)))
        metadata.check_version(new, old, served.resource)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        metadata.for_update(new, old, served.resource)
        if not tracked:
            new = await self._owned(context, lens, old, new)
        if not lens.subresource:
            await self._default(context, new, old)
        namespace = objects.namespace(old)
        options = self.options.document("Update")
        request = Request("update", served, namespace, new, old, lens.subresource, options, lens)
        if not self.options.admitted:
            await self._complete(context, request)
        new = request.new
        lens.prepare(served.strategy, context, new, old)
        await self.core.admission.allocate(context, request)
        await self._check(context, request, metadata.update_problems(new, old))
        if not self.options.admitted:
            await self.core.admission.validate(context, request)
        return None if await self._beside(lambda: _same(new, old)) else new

    async def _default(self, context: Context, new: Object, old: Object | None) -> None:
        """What the kind's author fills in: before changes are counted, and of nobody's fields."""
        rules = self.core.rules.get(self.served.resource.group_resource)
        schema = self.served.schema
        if rules is not None and not await self._beside(
            lambda: schema.problems(new, old), heavy=schema.is_heavy
        ):
            rules.default(new, old, context.user.name)

    async def _check(self, context: Context, request: Request, extra: Sequence[errors.Cause] = ()) -> None:
        schema, strategy = self.served.schema, self.served.strategy
        new, old = request.new, request.old
        causes: Sequence[errors.Cause]
        tolerated: list[str] = []
        causes = [
            *extra,
            *await self._beside(
                lambda: schema.problems(new, old, request.subresource, tolerated.append),
                heavy=schema.is_heavy,
            ),
        ]
        causes = [*causes, *strategy.problems(context, new, old)]
        rules = None if request.subresource else self.core.rules.get(self.served.resource.group_resource)
        advice: Sequence[str] = ()
        if rules is not None and not causes:
            causes, advice = rules.judge(new, old, context.user.name)
        if causes:
            raise status.invalid(self.served.resource, objects.name(new), causes)
        for message in tolerated:
            context.warn(message)
        if request.subresource and request.subresource not in pod_lenses.LENSES:
            return  # what is written there is no wish
        unsupported = self.served.unsupported
        added = unsupported.added(new, old) if unsupported is not None else ()
        for message in (*strategy.warnings(new, old), *added, *advice):
            context.warn(message)

    async def append(self, key: str, kept: Kept, expected: int, reserved: Reserved) -> bytes:
        """Store the object's next state; `RevisionConflict` if it is not at the expected revision."""
        if self.options.dry_run:
            return self._read(kept, 0, documents.encode(kept.stored))

        def value(revision: int) -> bytes:
            reserved.revision = revision
            return self._value(kept, revision)

        urgent = objects.is_deleting(kept.obj)
        record = await self.core.store.append(
            self.served.bucket, key, value, expected=expected, urgent=urgent
        )
        return self._read(kept, record.revision, record.value)

    async def remove(self, kept: Kept, record: Record) -> bytes:
        """Take an object out of the store, leaving what is given as its last state."""
        if self.options.dry_run:
            return self._read(kept, 0, documents.encode(kept.stored))
        removed = await self.core.store.append(
            self.served.bucket,
            record.name,
            lambda revision: self._value(kept, revision),
            expected=record.revision,
            delete=True,
        )
        return self._read(kept, removed.revision, removed.value)

    def _value(self, kept: Kept, revision: int) -> bytes:
        """What is stored, at a revision."""
        value = documents.encode(kept.stored, revision)
        if kept.shown is not None and self.served.remote is not None:
            # Before anybody can ask for it: watches hear of it with the append.
            self.served.remote.keep(value, documents.encode(kept.shown, revision))
        return value

    def _read(self, kept: Kept, revision: int, value: bytes) -> bytes:
        """What was stored at a revision, as it is served."""
        if kept.shown is None:
            return self.served.as_served(value)
        return documents.encode(kept.shown, revision)


def _part(change: Change, lens: Lens, old: Object) -> Object:
    return change(lens.get(old))


def _same(new: Object, old: Object) -> bool:
    """Whether nothing differs but the times at which fields were owned."""
    if new == old:
        return True
    if any(new.get(k) != old.get(k) for k in new.keys() | old.keys() if k != "metadata"):
        return False
    return _untimed(new["metadata"]) == _untimed(old["metadata"])


def _untimed(metadata: Object) -> Object:
    entries = metadata.get("managedFields") or ()
    untimed = [{k: v for k, v in entry.items() if k != "time"} for entry in entries]
    return {**metadata, "managedFields": untimed}


def _taken(served: Served, obj: Object, document: Object, existing: Record | None) -> errors.AlreadyExists:
    error = status.already_exists(served.resource, objects.name(obj))
    if existing is not None and objects.is_deleting(documents.parse(existing.value)):
        error.message = f"object is being deleted: {error.message}"
    if not objects.name(document):
        error.retry_after_s = 1
    return error


def _ends(served: Served, new: Object, old: Object) -> bool:
    """Whether nothing keeps an object under deletion once this update is made."""
    if objects.finalizers(new) or old["metadata"].get("deletionGracePeriodSeconds") != 0:
        return False
    return not served.strategy.holds(new)
