"""The operator: what an author writes for one typed custom resource, and the framework around it.

The author describes in `reconcile` which children an object should have and what its status is;
finalizers, status writes, events of failures, pruning and watches are the framework's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar, get_args

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.sdk import finalizers
from ondol.sdk.children import Children
from ondol.sdk.context import MANAGED_BY, OWNER_INDEX, Context, Tools
from ondol.sdk.controller import Controller, Map, Predicate, always, controller_key, generation_changed
from ondol.sdk.informer import Informer
from ondol.sdk.manager import Manager
from ondol.sdk.model import CustomResource
from ondol.sdk.reconcile import Result, Retry, Terminal
from ondol.sdk.status import Owned, Writer, difference, owned

T = TypeVar("T", bound=CustomResource)

READY: Final = "Ready"
_PASSING: Final = (Retry, errors.Conflict, errors.Unavailable, errors.Timeout, errors.TooManyRequests)
"""Failures that say nothing about the object: retried without a word in its status."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Objects of another kind whose changes concern ours: `map` names the ones of ours."""

    resource: Resource
    map: Map
    namespace: str = ""
    label_selector: str = ""
    predicate: Predicate = always


class Operator(Generic[T]):
    """Subclass as `Operator[Yours]` and write `reconcile`, and `finalize` if anything is to be undone.

    The kind may have thousands of objects: keep no state about them here.
    """

    name: ClassVar[str] = ""
    """Field manager, event source and label of the children; `<plural>-operator` unless given."""
    owns: ClassVar[tuple[Resource, ...]] = ()
    """Kinds of children: watched, and pruned when no longer applied."""
    namespace: ClassVar[str] = ""
    """Serve one namespace only."""
    concurrency: ClassVar[int] = 16
    """Objects that are reconciled at once; one object never is twice. A reconcile mostly waits for the
    server, which commits what waits together: sixteen get through a third more than four."""
    backoff: ClassVar[Backoff] = Backoff(initial_s=0.05, maximum_s=300.0, jitter=0.1)
    resource_type: ClassVar[type[CustomResource]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, CustomResource):
                    cls.resource_type = argument

    async def reconcile(self, ctx: Context[T]) -> Result | None:
        """Apply the children the object should have and set its status.

        It is called with the newest state known, after any change and after failures, and may be
        called at any time: say what should be, not what to do. To return means that all children
        were applied; to wait for something raise `Retry`, to give up `Terminal`.
        """
        raise NotImplementedError

    async def finalize(self, ctx: Context[T]) -> Result | None:
        """Undo what lies outside the cluster; children need nothing. Return None when it is done."""
        raise NotImplementedError

    def watches(self) -> Iterable[Watch]:
        """Further kinds whose changes matter."""
        return ()

    def identity(self) -> str:
        return self.name or f"{self.resource_type.definition.resource.plural}-operator"

    def add_to(self, manager: Manager) -> Controller:
        """Wire this operator's informers and controller into a manager."""
        return _Framework(self, manager).controller


class _Framework(Generic[T]):
    """Runs one operator in one manager."""

    def __init__(self, operator: Operator[T], manager: Manager) -> None:
        self._operator = operator
        self._type: type[T] = operator.resource_type  # type: ignore[assignment]  # __init_subclass__ took it from T
        self._resource = self._type.definition.resource
        self._name = operator.identity()
        self._finalizer = f"{self._resource.group}/{self._name}"
        self._finalizes = type(operator).finalize is not Operator.finalize
        self._log = log.get("operator").bind(operator=self._name)
        self._informer = manager.informer(self._resource, namespace=operator.namespace)
        self.controller = Controller(
            self._name, self.reconcile, concurrency=operator.concurrency, backoff=operator.backoff
        )
        self._tools = Tools(
            self._name,
            manager.client,
            manager.clock,
            manager.recorder,
            {resource: self._watch_owned(manager, resource) for resource in operator.owns},
            dict(self._watch_others(manager)),
            Children(manager.client, field_manager=self._name, adopts=True),
        )
        # Status is ours to write; only labels, annotations and the spec are news.
        self.controller.watch(self._informer, predicate=_concerns)
        manager.add(self.controller)

    def _watch_owned(self, manager: Manager, resource: Resource) -> Informer:
        namespace = self._operator.namespace if resource.namespaced else ""
        informer = manager.informer(
            resource, namespace=namespace, label_selector=f"{MANAGED_BY}={self._name}"
        )
        informer.add_index(OWNER_INDEX, _controller_uids)
        parent = controller_key(self._resource.api_version, self._resource.kind)
        self.controller.watch(
            informer, parent if self._resource.namespaced else lambda o: (Key("", k.name) for k in parent(o))
        )
        return informer

    def _watch_others(self, manager: Manager) -> Iterable[tuple[Resource, Informer]]:
        for watch in self._operator.watches():
            informer = manager.informer(
                watch.resource,
                namespace=watch.namespace or self._operator.namespace,
                label_selector=watch.label_selector,
            )
            self.controller.watch(informer, watch.map, predicate=watch.predicate)
            yield watch.resource, informer

    async def reconcile(self, key: Key) -> Result | None:
        raw = self._informer.lister.get(key)
        if raw is None or objects.is_deleting(raw):
            self._tools.forget(key)
        if raw is None:
            return None
        if objects.is_deleting(raw):
            return await self._finalize(raw)
        if self._finalizes and self._finalizer not in objects.finalizers(raw):
            raw = await finalizers.add(self._tools.client, self._resource, raw, self._finalizer)
        ctx = self._context(raw)
        try:
            result = await self._operator.reconcile(ctx)
            if ctx.prunes:
                await ctx.prune()
        except Exception as error:
            self._record_failure(ctx, error)
            await self._write_status(ctx, observed=isinstance(error, Terminal))
            raise
        await self._write_status(ctx, observed=True)
        return result

    async def _finalize(self, raw: Object) -> Result | None:
        if self._finalizer not in objects.finalizers(raw):
            return None
        if self._finalizes:
            ctx = self._context(raw)
            try:
                result = await self._operator.finalize(ctx)
            except Exception as error:
                self._record_failure(ctx, error)
                await self._write_status(ctx, observed=False)
                raise
            if result is not None:
                await self._write_status(ctx, observed=False)
                return result
        await finalizers.remove(self._tools.client, self._resource, raw, self._finalizer)
        return None

    def _context(self, raw: Object) -> Context[T]:
        bound = self._log.bind(key=str(objects.key(raw)), uid=objects.uid(raw))
        try:
            return Context(self._type.view(raw), self._tools, bound)
        except msgspec.ValidationError as error:
            self._tools.recorder.event(raw, "Warning", "InvalidObject", str(error), component=self._name)
            raise Terminal(
                f"{self._resource.kind} {objects.key(raw)} does not fit its type: {error}"
            ) from error

    def _record_failure(self, ctx: Context[T], error: Exception) -> None:
        """Set the condition and the event of a failure, unless its cause passes by itself."""
        if isinstance(error, _PASSING) and not isinstance(error, errors.AlreadyExists):
            return  # a conflict passes by itself; a name that is taken does not
        reason = "GaveUp" if isinstance(error, Terminal) else "ReconcileFailed"
        ctx.set_condition(READY, status=False, reason=reason, message=str(error)[:1024])
        ctx.event("Warning", reason, str(error))

    async def _write_status(self, ctx: Context[T], *, observed: bool) -> None:
        """Apply all of the status that is the operator's; see `ondol.sdk.status`."""
        desired, types = ctx.status(Owned(), observed=observed)
        if not difference(objects.status(ctx.raw), desired, types):
            return
        try:
            before = await self._owned_status(ctx.raw)
        except errors.NotFound:
            return
        desired, types = ctx.status(before, observed=observed)
        self._tools.owned_status[ctx.key] = (ctx.object.uid, None)
        writer = Writer(ctx.client, self._resource, field_manager=self._name, conditions=types)
        written = await writer.write(ctx.raw, desired)
        after = owned(written, self._name) if written is not None else before
        self._tools.owned_status[ctx.key] = (ctx.object.uid, after)

    async def _owned_status(self, raw: Object) -> Owned:
        """What this operator applied of the status before, perhaps in an earlier process.

        Informers keep no managedFields, so the server is asked where that is not remembered: once for
        each object that has a status, and after a write that failed.
        """
        uid, before = self._tools.owned_status.get(objects.key(raw), ("", None))
        is_remembered = uid == objects.uid(raw)
        if is_remembered and before is not None:
            return before
        if not is_remembered and not objects.status(raw):
            return Owned()
        live = await self._tools.client.get(self._resource, objects.name(raw), objects.namespace(raw))
        return owned(live, self._name) if objects.uid(live) == objects.uid(raw) else Owned()


def _controller_uids(obj: Object) -> Iterable[str]:
    ref = objects.controller_of(obj)
    return (str(ref["uid"]),) if ref is not None else ()


def _concerns(old: Object | None, new: Object | None) -> bool:
    if generation_changed(old, new) or old is None or new is None:
        return True
    return _described(old) != _described(new)


def _described(obj: Object) -> tuple[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]]:
    return objects.labels(obj), objects.annotations(obj), objects.finalizers(obj)
