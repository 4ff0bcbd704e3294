"""Delete: preconditions, grace, finalizers by propagation policy, and the end of an object.

Follows apiserver `pkg/registry/rest/delete.go` and `generic/registry/store.go`. Collecting dependents
is the garbage collector's work; this module only leaves it the finalizers it acts on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ondol.api import objects, status
from ondol.api.objects import Object
from ondol.apiserver import metadata, writing
from ondol.apiserver.admission.request import Request
from ondol.apiserver.served import Served
from ondol.base import clock, errors
from ondol.store.log import RevisionConflict
from ondol.store.records import Record

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_POLICIES: Final = frozenset({"Orphan", "Background", "Foreground"})


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """`DeleteOptions` as read from the body or the query."""

    grace_period_s: int | None = None
    propagation: str = ""
    orphan_dependents: bool | None = None
    uid: str = ""
    resource_version: str = ""

    @classmethod
    def of(cls, document: Object) -> DeleteOptions:
        """From a document; `Invalid` if its fields contradict each other."""
        preconditions = document.get("preconditions") or {}
        options = cls(
            document.get("gracePeriodSeconds"),
            document.get("propagationPolicy") or "",
            document.get("orphanDependents"),
            preconditions.get("uid") or "",
            preconditions.get("resourceVersion") or "",
        )
        options.check()
        return options

    @property
    def is_silent(self) -> bool:
        """Whether nothing is said of what becomes of dependents."""
        return not self.propagation and self.orphan_dependents is None

    def document(self, *, dry_run: bool) -> Object:
        """As webhooks are shown it; what was not said is left out."""
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        fields: Object = {
            "gracePeriodSeconds": self.grace_period_s,
            "propagationPolicy": self.propagation or None,
            "orphanDependents": self.orphan_dependents,
            "preconditions": {name: value for name, value in preconditions.items() if value} or None,
            "dryRun": ["All"] if dry_run else None,
        }
        named = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
        return named | {name: value for name, value in fields.items() if value is not None}

    def check(self) -> None:
        if self.propagation and self.propagation not in _POLICIES:
            supported = '"Foreground", "Background", "Orphan", "nil"'
            message = f'Unsupported value: "{self.propagation}": supported values: {supported}'
            raise _invalid("FieldValueNotSupported", message)
        if self.propagation and self.orphan_dependents is not None:
            message = (
                f'Invalid value: "{self.propagation}": orphanDependents and deletionPropagation cannot be '
                "both set"
            )
            raise _invalid("FieldValueInvalid", message)


def _invalid(reason: str, message: str) -> errors.Invalid:
    cause = errors.Cause(reason, message, "propagationPolicy")
    return errors.Invalid(
        f'DeleteOptions.meta.k8s.io "" is invalid: {cause.field}: {message}',
        causes=[cause],
        details={"group": "meta.k8s.io", "kind": "DeleteOptions"},
    )


class Deleted(NamedTuple):
    """The last state, and whether the object is gone or waits for its finalizers or its grace."""

    value: bytes
    is_removed: bool


async def delete(writes: writing.Writes, namespace: str, name: str, options: DeleteOptions) -> Deleted:
    """Delete one object, or begin to."""
    served = writes.served
    key = served.key(namespace, name)
    for _ in range(writing.UPDATE_TRIES):
        record = writes.core.store.get(served.bucket, key)
        if record is None:
            raise status.not_found(served.resource, name)
        try:
            return await _delete(writes, namespace, record, options)
        except RevisionConflict:
            continue
    raise status.conflict(served.resource, name)


async def _delete(writes: writing.Writes, namespace: str, record: Record, options: DeleteOptions) -> Deleted:
    core, served = writes.core, writes.served
    shown = await served.shown(record)
    old = core.document(served, shown)
    _warn_of_default(writes, options)
    metadata.check_preconditions(old, served.resource, options.uid, options.resource_version)
    with core.reservations.begin() as reserved:
        context = writes.context(reserved)
        if not writes.options.admitted:
            how = options.document(dry_run=writes.options.dry_run)
            request = Request("delete", served, namespace, {}, old, options=how)
            await core.admission.mutate(context, request)
            await core.admission.validate(context, request)
        new, waits = _marked(served, old, options, context.now)
        if not waits:
            return Deleted(await writes.remove(writes.marked(new, record), record), is_removed=True)
        if new == old:
            return Deleted(served.as_served(shown.value), is_removed=False)
        kept = writes.marked(new, record)
        return Deleted(await writes.append(record.name, kept, record.revision, reserved), is_removed=False)


def _warn_of_default(writes: writing.Writes, options: DeleteOptions) -> None:
    warning = writes.served.strategy.default_propagation_warning
    if warning and options.is_silent:
        writes.options.warn(warning)


def _marked(served: Served, old: Object, options: DeleteOptions, now: float) -> tuple[Object, bool]:
    """The object under deletion, and whether anything still keeps it."""
    meta: dict[str, Any] = dict(old["metadata"])
    grace_s = _grace(served, old, options)
    finalizers = _finalizers(served, old, options)
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    new = {**old, "metadata": meta}
    waits = bool(finalizers) or bool(grace_s) or served.strategy.holds(new)
    if not objects.is_deleting(old):
        meta["deletionTimestamp"] = clock.rfc3339(now + (grace_s or 0))
        meta["deletionGracePeriodSeconds"] = grace_s or 0
        if meta.get("generation") and waits:
            meta["generation"] += 1
    elif grace_s is not None and grace_s != meta.get("deletionGracePeriodSeconds"):
        shortened = int(meta.get("deletionGracePeriodSeconds") or 0) - grace_s
        begun = clock.parse_rfc3339(meta["deletionTimestamp"])
        meta["deletionTimestamp"] = clock.rfc3339(begun - shortened)
        meta["deletionGracePeriodSeconds"] = grace_s
    if waits:
        served.strategy.prepare_for_delete(new, now)
    return new, waits


def _grace(served: Served, old: Object, options: DeleteOptions) -> int | None:
    """Seconds to wait; a second delete may only shorten the first one's."""
    seconds = options.grace_period_s
    if seconds is not None and seconds < 0:
        seconds = 1
    grace_s = served.strategy.grace_period_s(old, seconds)
    if grace_s is None or not objects.is_deleting(old):
        return grace_s
    current = int(old["metadata"].get("deletionGracePeriodSeconds") or 0)
    return min(current, grace_s) if seconds is not None else current


def _finalizers(served: Served, old: Object, options: DeleteOptions) -> list[str]:
    current = list(objects.finalizers(old))
    if not objects.is_deleting(old):
        current += [name for name in served.strategy.cleanup_finalizers if name not in current]
    orphan = options.propagation == "Orphan" or options.orphan_dependents is True
    foreground = options.propagation == "Foreground"
    if options.is_silent:
        if served.strategy.default_propagation != "Orphan" or objects.is_deleting(old):
            return current
        return current if FOREGROUND in current or ORPHAN in current else [*current, ORPHAN]
    finalizers = [name for name in current if name not in (ORPHAN, FOREGROUND)]
    if orphan:
        finalizers.append(ORPHAN)
    elif foreground:
        finalizers.append(FOREGROUND)
    return finalizers
