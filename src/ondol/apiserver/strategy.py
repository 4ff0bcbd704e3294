"""`Strategy`: the points at which a kind takes part in its own writes, with what most kinds do there.

Strategies decide on documents and change only the one they are given as new. They run inside the
request, between the live object being read and the write being made, and never wait.
"""

# ruff: noqa: ARG002 - a hook names all it is given, though what most kinds do needs less of it

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

from ondol.api.objects import Object, Resource
from ondol.api.patch.fieldset import FieldSet
from ondol.api.validation import warnings
from ondol.apiserver.auth.identity import User
from ondol.apiserver.reservations import Reserved
from ondol.base.errors import Cause


class Lookup(Protocol):
    """Objects as the server holds them now, shared and read-only."""

    def __call__(self, resource: Resource, namespace: str, name: str) -> Object | None: ...


def _unheard(key: str, value: str) -> None:
    del key, value


class Context(NamedTuple):
    """What a strategy may know of the request and the world."""

    user: User
    now: float
    dry_run: bool
    lookup: Lookup
    warn: Callable[[str], None]
    reserved: Reserved
    """What the write was given that no other may get until it is over."""
    annotate: Callable[[str, str], None] = _unheard
    """Says something in the audit log: a key with its value."""


class Strategy:
    """What most kinds do; the others override."""

    has_generation: ClassVar[bool] = False
    """Whether metadata.generation counts the changes to what the user wants."""
    has_status: ClassVar[bool] = False
    """Whether the status is written through its subresource only."""
    empty_status: ClassVar[Object | None] = None
    """The status of an object nobody reported on; None for kinds that then show none."""
    status_reset: ClassVar[FieldSet] = {"f:spec": {}}
    """What a write of the status does not change; the rest of the metadata is written with it."""
    unconditional_update: ClassVar[bool] = True
    """Whether PUT without a resourceVersion overwrites whatever is there."""
    create_on_update: ClassVar[bool] = False
    """Whether PUT to a free name creates."""
    cleanup_finalizers: ClassVar[tuple[str, ...]] = ()
    """Finalizers put on when a delete begins, for the server's own cleaning up."""
    returns_deleted: ClassVar[bool] = False
    """Whether DELETE answers with the object rather than with a Status."""
    default_propagation: ClassVar[str] = ""
    """What becomes of dependents if a delete does not say: `Orphan` leaves them, else they are collected."""
    default_propagation_warning: ClassVar[str] = ""
    """What the author of such a delete is told."""

    def prepare_for_create(self, context: Context, new: Object) -> None:
        if self.has_status:
            new.pop("status", None)
        if self.empty_status is not None:
            new["status"] = {**self.empty_status}
        if self.has_generation:
            new["metadata"]["generation"] = 1

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        """Undo what may not be changed here, in place; `old` is read-only."""
        if self.has_status:
            _take_over("status", new, old)
        if self.has_generation:
            self.count(new, old)

    def prepare_for_status_update(self, context: Context, new: Object, old: Object) -> None:
        """`new` is the old object with the status the client sent."""

    def count(self, new: Object, old: Object) -> None:
        """Count the change as a generation, if it is one."""
        was = int(old["metadata"].get("generation") or 0)
        new["metadata"]["generation"] = was + 1 if self.desired_state(new) != self.desired_state(old) else was

    def desired_state(self, obj: Object) -> Object:
        """The part whose changes are counted as generations."""
        return {k: v for k, v in obj.items() if k not in ("metadata", "status", "apiVersion", "kind")}

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        """What is wrong beyond the schema; `old` is None on create."""
        return []

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Warnings for the client of a write that is accepted."""
        return []

    def holds(self, obj: Object) -> bool:
        """Whether something other than finalizers and grace keeps the object from going."""
        return False

    def prepare_for_delete(self, new: Object, now: float) -> None:
        """Mark an object whose deletion begins, in place; only its top level may be changed."""

    def grace_period_s(self, obj: Object, requested_s: int | None) -> int | None:
        """How long a delete waits for whoever runs the object; None for kinds that go at once."""
        return None


def _take_over(field: str, new: Object, old: Object) -> None:
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


class Upserted(Strategy):
    """PUT creates what is missing."""

    create_on_update: ClassVar[bool] = True


class Reconciled(Strategy):
    """Counts generations, and has its status written by controllers only."""

    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}


class Workload(Reconciled):
    """Makes pods by a template."""

    template_path: ClassVar[tuple[str, ...]] = ("spec", "template")
    names_pods: ClassVar[bool] = True
    """Whether its name, which becomes part of theirs, may be no label: then its author is warned."""

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.workload(new, old, self.template_path, named=self.names_pods)
