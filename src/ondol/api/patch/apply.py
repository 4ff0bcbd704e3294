"""Server-side apply, and the tracking of every other write, as functions of documents.

`apply` merges what a manager wants into the live object, takes away what that manager wanted before
and no longer does, and refuses to change what others own unless forced. `update` records who changed
what in a create, an update or any other patch. Both return a new document whose
`metadata.managedFields` are up to date, or the live document itself when nothing changed. The
semantics are those of structured-merge-diff under apimachinery's field manager; the one difference
is that an object has one shape for all its API versions. The API server is the caller.

An apply by ann, one by bob that fails since ann owns what he would change, bob's again with force
(ann loses that field), and ann's without the field she has left (nobody owns it then, so it goes):

>>> schema = shape.of_custom(None)
>>> def widget(**spec):
...     return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}
>>> def owners(obj):
...     entries = obj["metadata"]["managedFields"]
...     return {entry["manager"]: sorted(entry["fieldsV1"]["f:spec"].keys() - {"."}) for entry in entries}
>>> live = apply(None, widget(size=1, color="red"), schema=schema, manager="ann", now=0)
>>> apply(live, widget(color="blue"), schema=schema, manager="bob", now=1)
Traceback (most recent call last):
ondol.base.errors.Conflict: Apply failed with 1 conflict: conflict with "ann": .spec.color
>>> live = apply(live, widget(color="blue"), schema=schema, manager="bob", now=1, force=True)
>>> live["spec"], owners(live)
({'size': 1, 'color': 'blue'}, {'ann': ['f:size'], 'bob': ['f:color']})
>>> live = apply(live, widget(), schema=schema, manager="ann", now=2)
>>> live["spec"]
{'color': 'blue'}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch import fieldset, json_patch, managed, shape, typed
from ondol.api.patch.fieldset import FieldSet
from ondol.api.patch.managed import Entry, ManagerId, Managers
from ondol.base import errors, timestamps

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
BEFORE_FIRST_APPLY: Final = "before-first-apply"
_KUBECTL: Final = "kubectl"
_ANNOTATIONS_BYTES_MAX: Final = 256 * 1024

STATUS_ONLY: Final[FieldSet] = {"f:status": {}}
"""What the main resource resets when a kind has a status subresource."""

# Never owned: the object's identity and what only the server writes.
_STRIPPED: Final[FieldSet] = fieldset.from_paths(
    [
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    ]
)


def update(
    live: Object | None,
    new: Object,
    *,
    schema: shape.TypeSchema,
    manager: str,
    now: float,
    subresource: str = "",
    reset: FieldSet | None = None,
) -> Object:
    """`new`, with the fields it changes owned by `manager`.

    `live` is None on create. `reset` are fields this path does not write (the status, on the main
    resource of a kind whose status is a subresource). Ownership a client wrote itself is kept;
    `managedFields: [{}]` gives up all ownership. The API version is that of `new`.
    """
    managers = _managers_of_write(live, new, from_client=not subresource)
    if live is not None and not managers:
        return _with_managers(new, {})  # an object that is not tracked stays so until applied to
    try:
        change = typed.compare(schema, _bare(live or {}), _bare(new)).without(reset or {})
    except ValueError:
        # An element without its keys: validation comes later and reports it as Kubernetes does.
        return _with_managers(new, managers)
    if change.is_same:
        return _with_managers(new, managers)
    me = managed.identify(manager, managed.UPDATE, new.get("apiVersion", ""), subresource)
    managers = _reconciled(schema, managers)
    managers = _released(managers, change, everyone=True)
    taken = fieldset.difference(fieldset.union(change.modified, change.added), _STRIPPED)
    if taken:
        mine = managers.get(me)
        fields = fieldset.union(taken, mine.fields) if mine else taken
        managers[me] = Entry(fields, new.get("apiVersion", ""), timestamps.rfc3339(now))
        managers = managed.capped(managers)
    return _with_managers(new, managers)


def _managers_of_write(live: Object | None, new: Object, *, from_client: bool) -> Managers:
    """The ownership a write starts from; empty when the client gave all of it up."""
    stored = objects.metadata(live or {}).get("managedFields") or ()
    sent = objects.metadata(new).get("managedFields")
    if from_client and sent is not None:
        if not sent or sent == [{}]:
            return {}
        if sent is not stored and sent != stored:
            try:
                return managed.decode(sent)
            except (ValueError, KeyError, msgspec.DecodeError):
                # A client that does not understand the field must not be able to destroy it.
                return managed.decode(stored, trusted=True)
    return managed.decode(stored, trusted=True)


def _bare(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document without its `managedFields`, which nobody owns."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return document
    return {**document, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


def _with_managers(document: Mapping[str, Any], managers: Managers) -> Object:
    """The document with these entries; itself, if it has them already."""
    metadata = document.get("metadata") or {}
    entries = managed.encode(managers)
    current = metadata.get("managedFields")
    if isinstance(document, dict) and (current == entries if current is not None else not entries):
        return document
    changed = {key: value for key, value in metadata.items() if key != "managedFields"}
    if entries:
        changed["managedFields"] = entries
    return {**document, "metadata": changed}


def _reconciled(schema: shape.TypeSchema, managers: Managers) -> Managers:
    return {
        manager: entry.owning(typed.reconciled(schema, entry.fields)) for manager, entry in managers.items()
    }


def _released(
    managers: Managers, change: typed.Comparison, *, everyone: bool, me: ManagerId | None = None
) -> Managers:
    """The owners after a change: each loses what it wrote, added or removed, and goes if it owns nothing.

    `everyone` counts the writer among them (an update, which then takes what it changed); an applier
    `me` keeps its own entry, since `_own` replaces it.
    """
    lost = fieldset.union(fieldset.union(change.modified, change.added), change.removed)
    released: Managers = {}
    for manager, entry in managers.items():
        if not everyone and manager == me:
            released[manager] = entry
            continue
        if not fieldset.intersection(entry.fields, lost):
            released[manager] = entry
        elif fields := fieldset.difference(entry.fields, lost):
            released[manager] = entry.owning(fields)
    return released


def apply(
    live: Object | None,
    applied: Object,
    *,
    schema: shape.TypeSchema,
    manager: str,
    now: float,
    force: bool = False,
    subresource: str = "",
    reset: FieldSet | None = None,
) -> Object:
    """The live object with what `manager` applies merged in; `Conflict` names each field others own.

    `live` is None when the object is to be created. The result is `live` itself when nothing changed,
    neither fields nor owners. `BadRequest` if the applied configuration does not fit the schema.
    """
    _check_applied(applied, schema)
    try:
        return _merged(live, applied, _Writer(schema, manager, subresource, reset or {}, now), force=force)
    except ValueError as error:  # an element of the live object that cannot be named
        described = _describe(live or applied)
        raise errors.BadRequest(f"failed to create typed live object ({described}): {error}") from error


@dataclass(frozen=True, slots=True)
class _Writer:
    """Who applies, how the kind looks, and when."""

    schema: shape.TypeSchema
    manager: str
    subresource: str
    reset: FieldSet
    now: float


def _merged(live: Object | None, applied: Object, by: _Writer, *, force: bool) -> Object:
    stored = objects.metadata(live or {}).get("managedFields") or ()
    managers = managed.decode(stored, trusted=True)
    bare = _bare(live) if live is not None else _identity_of(applied)
    if live is not None and not managers:
        managers = _before_first_apply(bare, by.schema, by.now, by.reset)
    me = managed.identify(by.manager, managed.APPLY, str(applied.get("apiVersion", "")), by.subresource)
    apply_as = _Application(by.schema, bare, applied, me, by.reset, by.now)
    try:
        merged, owners = apply_as.run(managers, force=force)
    except errors.Conflict:
        if by.manager != _KUBECTL:
            raise
        merged, owners = apply_as.run_after_client_side(managers)
    if by.manager == _KUBECTL:
        merged = _with_last_applied(merged, applied)
    if live is not None and merged is bare:
        return _with_managers(live, owners)
    return _with_managers(merged, owners)


def _identity_of(applied: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: applied[key] for key in ("apiVersion", "kind") if key in applied}


def _check_applied(applied: Object, schema: shape.TypeSchema) -> None:
    if objects.metadata(applied).get("managedFields") is not None:
        raise errors.BadRequest("metadata.managedFields must be nil")
    if reason := misfit(applied, schema):
        raise errors.BadRequest(reason)


def misfit(applied: Object, schema: shape.TypeSchema) -> str:
    """Why a configuration does not fit the schema of its kind; nothing if it does."""
    problems = list(typed.problems(schema, applied))
    if not problems:
        return ""
    described = problems[0] if len(problems) == 1 else "errors:\n" + "\n".join(f"  {p}" for p in problems)
    return f"failed to create typed patch object ({_describe(applied)}): {described}"


def _describe(document: Mapping[str, Any]) -> str:
    name = f"{objects.namespace(document)}/{objects.name(document)}"
    return f"{name}; {document.get('apiVersion', '')}, Kind={document.get('kind', '')}"


def _before_first_apply(
    live: Mapping[str, Any], schema: shape.TypeSchema, now: float, reset: FieldSet
) -> Managers:
    """The owner of an object without managed fields: all of it was set before the first apply."""
    change = typed.compare(schema, {}, live).without(reset)
    fields = fieldset.difference(change.added, _STRIPPED)
    api_version = str(live.get("apiVersion", ""))
    me = managed.identify(BEFORE_FIRST_APPLY, managed.UPDATE, api_version, "")
    return {me: Entry(fields, api_version, timestamps.rfc3339(now))} if fields else {}


@dataclass(frozen=True, slots=True)
class _Application:
    """One apply request: the steps of structured-merge-diff's updater over fixed inputs."""

    schema: shape.TypeSchema
    live: Mapping[str, Any]
    applied: Object
    me: ManagerId
    reset: FieldSet
    now: float

    @property
    def _api_version(self) -> str:
        return str(self.applied.get("apiVersion", ""))

    def run(self, managers: Managers, *, force: bool) -> tuple[Mapping[str, Any], Managers]:
        """The merged object (the live one itself if it did not change) and its owners.

        1. Merge what is applied into the live object. 2. Take out what this manager applied last time
        and does not now (`_pruned`). 3. Compare with the live object: what differs and others own is a
        conflict, unless forced. 4. The others lose what differs; this manager owns exactly what it applied.
        """
        managers = _reconciled(self.schema, managers)
        before = managers.get(self.me)
        applied_fields = fieldset.difference(typed.owned(self.schema, self.applied), self.reset, below=True)
        merged = typed.merge(self.schema, self.live, self.applied)
        if before is not None:
            merged = self._pruned(merged, before.fields, managers, applied_fields)
        change = typed.compare(self.schema, self.live, merged).without(self.reset)
        if not force:
            self._refuse_conflicts(managers, change)
        owners = _released(managers, change, everyone=False, me=self.me)
        same = json_patch.same(self.live, merged)
        self._own(owners, applied_fields, before, changed=not same)
        return (self.live if same else merged), owners

    def _own(
        self, owners: Managers, applied_fields: FieldSet, before: Entry | None, *, changed: bool
    ) -> None:
        fields = fieldset.difference(applied_fields, _STRIPPED)
        owners.pop(self.me, None)
        if not fields:
            return
        if before is not None and before.api_version == self._api_version and before.fields == fields:
            owners[self.me] = before if not changed else self._entry(fields)
        else:
            owners[self.me] = self._entry(fields)

    def _entry(self, fields: FieldSet) -> Entry:
        return Entry(fields, self._api_version, timestamps.rfc3339(self.now))

    def _pruned(self, merged: Any, last: FieldSet, managers: Managers, applied_fields: FieldSet) -> Any:
        """Without what this manager applied last time, does not now, and nobody else owns.

        Removing an element or struct takes along what is below it, also what others own there. So it is
        removed twice: `pruned` shows what would go with it, what others own of that is added again, and
        only then the difference, as far as this manager had applied it, is taken from the merged object.
        """
        schema = self.schema
        withdrawn = fieldset.difference(last, applied_fields)
        if not withdrawn:
            return merged
        named = typed.with_named_fields
        last = named(schema, last)
        pruned = typed.remove(schema, merged, last)
        in_merged = named(schema, typed.owned(schema, merged))
        owned = applied_fields
        for manager, entry in managers.items():
            if manager != self.me:
                owned = fieldset.union(owned, entry.fields)
        remaining = fieldset.union(named(schema, typed.owned(schema, pruned)), named(schema, owned))
        pruned = typed.remove(schema, merged, fieldset.difference(in_merged, remaining))
        in_pruned = named(schema, typed.owned(schema, pruned))
        removed = fieldset.intersection(fieldset.difference(in_merged, in_pruned), last)
        return typed.remove(schema, merged, removed)

    def _refuse_conflicts(self, managers: Managers, change: typed.Comparison) -> None:
        conflicts = self._conflicts(managers, change)
        if conflicts:
            raise conflict(conflicts)

    def _conflicts(
        self, managers: Managers, change: typed.Comparison
    ) -> list[tuple[ManagerId, tuple[str, ...]]]:
        written = fieldset.union(change.modified, change.added)
        if not written:
            return []
        others = sorted((m, e) for m, e in managers.items() if m != self.me)
        return [
            (manager, path)
            for manager, entry in others
            for path in fieldset.paths(fieldset.intersection(entry.fields, written))
        ]

    def run_after_client_side(self, managers: Managers) -> tuple[Mapping[str, Any], Managers]:
        """Kubectl's own move from client-side apply: what it applied last is no conflict."""
        allowed = self._last_applied_fields()
        merged, owners = self.run(managers, force=True)
        change = typed.compare(self.schema, self.live, merged).without(self.reset)
        conflicts = self._conflicts(_reconciled(self.schema, managers), change)
        remaining = [(m, path) for m, path in conflicts if not fieldset.has(allowed, path)]
        if remaining:
            raise conflict(remaining)
        return merged, owners

    def _last_applied_fields(self) -> FieldSet:
        """What the last-applied annotation names and the live object still has as it was applied."""
        text = objects.annotations(self.live).get(LAST_APPLIED)
        if not text:
            return {}
        try:
            last = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return {}
        if not isinstance(last, dict) or last.get("apiVersion") != self._api_version:
            return {}
        fields = typed.owned(self.schema, last)
        change = typed.compare(self.schema, last, self.live)
        lost = fieldset.union(fieldset.union(change.modified, change.added), change.removed)
        return fieldset.difference(fields, lost)


def conflict(conflicts: list[tuple[ManagerId, tuple[str, ...]]]) -> errors.Conflict:
    """The error that names every owner and field in the way."""
    causes = [
        errors.Cause("FieldManagerConflict", f"conflict with {manager}", fieldset.render(path))
        for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
        return errors.Conflict(text, causes=causes)
    lines: list[str] = []
    for manager in dict.fromkeys(manager for manager, _ in conflicts):
        lines.append(f"conflicts with {manager}:")
        lines.extend(f"- {fieldset.render(path)}" for other, path in conflicts if other == manager)
    listed = "\n".join(lines)
    return errors.Conflict(f"Apply failed with {len(conflicts)} conflicts: {listed}", causes=causes)


def _with_last_applied(merged: Mapping[str, Any], applied: Object) -> Mapping[str, Any]:
    """Keep kubectl's client-side annotation true, so that either way of applying may follow."""
    annotations = objects.annotations(merged)
    if not annotations.get(LAST_APPLIED):
        return merged
    text = _last_applied(applied)
    if annotations[LAST_APPLIED] == text:
        return merged
    changed = {**annotations, LAST_APPLIED: text}
    if sum(len(key) + len(value) for key, value in changed.items()) > _ANNOTATIONS_BYTES_MAX:
        del changed[LAST_APPLIED]
    return {**merged, "metadata": {**objects.metadata(merged), "annotations": changed}}


def _last_applied(applied: Object) -> str:
    annotations = {k: v for k, v in objects.annotations(applied).items() if k != LAST_APPLIED}
    metadata = {k: v for k, v in objects.metadata(applied).items() if k != "annotations"}
    if annotations:
        metadata["annotations"] = annotations
    return msgspec.json.encode({**applied, "metadata": metadata}, order="sorted").decode() + "\n"
