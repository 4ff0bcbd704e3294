"""The informer: a local copy of one selection of objects, kept by list and watch.

Controllers read it through its lister and hear of changes through handlers. It starts with a
WatchList where the server has it and pages of a list where not, follows bookmarks, takes a silent
stream for a dead one, resumes after a break and lists again when the server has forgotten.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Final

import anyio

from ondol.api import fields, labels, objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.client import Client, WatchEvent
from ondol.sdk.frozen import freeze
from ondol.sdk.store import IndexFunction, Lister, Store

Handler = Callable[[Object | None, Object | None], None]
Transform = Callable[[Object], Object]
OpenWatch = AbstractAsyncContextManager[AsyncIterator[WatchEvent]]

_PAGE: Final = 500
_WATCH_S: Final = (300.0, 600.0)
_SHORT_S: Final = 1.0
"""A stream that ends sooner than this with nothing said is backed off from, lest it become a busy loop."""
_BACKOFF: Final = Backoff(initial_s=0.1, maximum_s=10.0, jitter=0.5)
_ABSENT_S: Final = 10.0
"""So long may a kind be unknown at the start before anybody is told: what installs it starts too."""
_REFUSALS: Final = (errors.Invalid, errors.BadRequest, errors.Forbidden, errors.NotAcceptable)


@dataclass(frozen=True, slots=True)
class Selection:
    """What an informer holds; managers share informers of equal selections."""

    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False

    def includes(self, obj: Object) -> bool:
        """Whether the server would send this object to this informer."""
        if self.namespace and objects.namespace(obj) != self.namespace:
            return False
        if self.label_selector and not labels.parse(self.label_selector).matches(objects.labels(obj)):
            return False
        if not self.field_selector:
            return True
        selector = fields.parse(self.field_selector)
        return fields.matches(selector, self.resource, obj, [term.field for term in selector.terms])


@dataclass(slots=True)
class Metrics:
    events: int = 0
    bookmarks: int = 0
    lists: int = 0
    watches: int = 0
    failures: int = 0
    handler_errors: int = 0


class _Streak:
    """Failures in a row: the first and the recovery are logged, those in between would only repeat it."""

    def __init__(self, logger: log.Logger, clock: Clock) -> None:
        self._log = logger
        self._clock = clock
        self._count = 0
        self._since = 0.0
        self._is_logged = False

    def failed(self, error: errors.ApiError, *, is_expected: bool) -> None:
        if not self._count:
            self._since = self._clock.monotonic()
        self._count += 1
        is_early = is_expected and self._lasted_s() < _ABSENT_S
        record = self._log.debug if self._is_logged or is_early else self._log.warning
        record("watch_failed", error=error.message, reason=error.reason)
        self._is_logged = self._is_logged or not is_early

    def ended(self) -> None:
        """The server answers."""
        if not self._count:
            return
        record = self._log.info if self._is_logged else self._log.debug
        record("watch_recovered", failures=self._count, seconds=round(self._lasted_s(), 3))
        self._count, self._is_logged = 0, False

    def _lasted_s(self) -> float:
        return self._clock.monotonic() - self._since


class _Unmarked(errors.OndolError):
    """The server took a WatchList for a plain watch: its initial events have no end."""


class Informer:
    """`run` keeps the copy until cancelled; everything else may be called at any time.

    Documents are kept as the server sent them, except for `metadata.managedFields`.
    """

    def __init__(
        self,
        client: Client,
        selection: Selection,
        *,
        clock: Clock,
        rng: random.Random,
        transform: Transform | None = None,
        optional: bool = False,
        frozen: bool = False,
        inactivity_s: float = 90.0,
        initial_s: float = 15.0,
    ) -> None:
        """`optional`: a kind the server does not serve counts as one without objects, until it does.

        `frozen`: the documents can be read only, see `ondol.sdk.frozen`.

        `inactivity_s` must exceed the server's bookmark period (one minute), for bookmarks are how
        an idle stream shows that it lives; `initial_s` bounds the same silence before the first
        sync, after which pages of a list are tried instead.
        """
        self.selection = selection
        self.metrics = Metrics()
        self._client = client
        self._clock = clock
        self._rng = rng
        self.transform = transform
        self.optional = optional
        self._frozen = frozen
        self._inactivity_s = inactivity_s
        self._initial_s = initial_s
        self._store = Store()
        self.lister = Lister(self._store)
        self._handlers: list[Handler] = []
        self._resource_version = ""
        self._revision = 0
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._watch_list = True
        self._synced = anyio.Event()
        self._log = log.get("informer").bind(resource=selection.resource.group_resource)
        self._streak = _Streak(self._log, clock)

    @property
    def resource(self) -> Resource:
        return self.selection.resource

    @property
    def synced(self) -> bool:
        """Whether the copy was complete once; from then on it only gets newer."""
        return self._synced.is_set()

    @property
    def revision(self) -> int:
        """Everything the server did to these objects up to this resourceVersion is in the copy."""
        return self._revision

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def counts(self) -> dict[str, int]:
        """Counters since the start, and the number of objects there are."""
        return {**asdict(self.metrics), "objects": len(self.lister)}

    def add_index(self, name: str, function: IndexFunction) -> None:
        self._store.add_index(name, function)

    def add_handler(self, handler: Handler) -> None:
        """Call `handler(old, new)` on each change; `old` is None for new objects, `new` for gone ones.

        It runs in the informer's task: it must not block, and it hears at once of all that is
        there already.
        """
        self._handlers.append(handler)
        for obj in self._store.values():
            self._notify(handler, None, obj)

    def remove_handler(self, handler: Handler) -> None:
        """Call it no more; whoever was told of objects knows what to do with them."""
        self._handlers.remove(handler)

    def when(self, holds: Callable[[], bool], then: Callable[[], None]) -> None:
        """Call `then` once, as soon as `holds()` after a change of the copy."""
        self._waiting.append((holds, then))

    async def run(self) -> None:
        failures = 0
        while True:
            before, began = self._resource_version, self._clock.monotonic()
            try:
                await self._list_and_watch()
                if self._resource_version != before or self._clock.monotonic() - began >= _SHORT_S:
                    failures = 0
                    continue
            except errors.Expired:
                self._resource_version = ""
            except errors.Timeout as error:
                self._log.warning("watch_stalled", error=error.message)
            except errors.ApiError as error:
                self._note_failure(error)
            failures = failures + 1 if self._resource_version == before else 1
            self.metrics.failures += 1
            await self._clock.sleep(_BACKOFF.delay_s(failures, self._rng))

    def _note_failure(self, error: errors.ApiError) -> None:
        if isinstance(error, errors.NotFound) and self.optional:
            self._replace({}, "")
            return
        is_absent = isinstance(error, errors.NotFound) and not self.synced
        self._streak.failed(error, is_expected=is_absent)

    async def _list_and_watch(self) -> None:
        """One stream from its beginning to its end; lists first if there is nothing to resume."""
        if not self._resource_version:
            if self._watch_list and await self._stream_with_initial_events():
                return
            await self._list()
        await self._resume()

    async def _stream_with_initial_events(self) -> bool:
        """Sync and follow in one stream; False where the server does not offer it."""
        complete = False
        try:
            async with self._watch(initial=True) as events:
                self._replace(*await self._initial(events))
                complete = True
                async for event in events:
                    self._take(event)
        except (*_REFUSALS, _Unmarked):
            if complete:
                raise
            self._watch_list = False
            return False
        return True

    async def _initial(self, events: AsyncIterator[WatchEvent]) -> tuple[dict[Key, Object], str]:
        """The objects there are, and the version at which they are all."""
        collected: dict[Key, Object] = {}
        while True:
            with self._clock.move_on_after(self._initial_s) as guard:
                event = await anext(events, None)
            if guard.cancelled_caught:
                raise _Unmarked("the server does not mark the end of the initial events")
            if event is None:
                raise errors.Unavailable("the watch ended before its initial events did")
            if event.ends_initial_events:
                return collected, objects.resource_version(event.object)
            if event.type != "BOOKMARK":
                self._collect(collected, event)

    def _collect(self, collected: dict[Key, Object], event: WatchEvent) -> None:
        key = objects.key(event.object)
        if event.type == "DELETED":
            collected.pop(key, None)
        else:
            collected[key] = self._shaped(event.object)

    async def _list(self) -> None:
        self.metrics.lists += 1
        listed: dict[Key, Object] = {}
        token = ""
        while True:
            page = await self._client.list(
                self.selection.resource,
                self.selection.namespace,
                label_selector=self.selection.label_selector,
                field_selector=self.selection.field_selector,
                limit=_PAGE,
                continue_token=token,
                metadata_only=self.selection.metadata_only,
            )
            listed.update({objects.key(item): self._shaped(item) for item in page.items})
            token = page.continue_token
            if not token:
                break
        self._replace(listed, page.resource_version)

    async def _resume(self) -> None:
        async with self._watch(initial=False) as events:
            self._streak.ended()
            async for event in events:
                self._take(event)

    def _watch(self, *, initial: bool) -> OpenWatch:
        self.metrics.watches += 1
        return self._client.watch(
            self.selection.resource,
            self.selection.namespace,
            resource_version="" if initial else self._resource_version,
            label_selector=self.selection.label_selector,
            field_selector=self.selection.field_selector,
            send_initial_events=initial,
            timeout_s=self._rng.uniform(*_WATCH_S),
            inactivity_s=self._inactivity_s,
            metadata_only=self.selection.metadata_only,
        )

    def _shaped(self, obj: Object) -> Object:
        """The document as it is kept: no controller reads who owns which field, and it is a third of it."""
        obj["metadata"].pop("managedFields", None)
        shaped = self.transform(obj) if self.transform is not None else obj
        return freeze(shaped) if self._frozen else shaped

    def _take(self, event: WatchEvent) -> None:
        version = objects.resource_version(event.object)
        key = objects.key(event.object)
        if event.type == "BOOKMARK":
            self.metrics.bookmarks += 1
        elif event.type == "DELETED":
            self.metrics.events += 1
            self._changed(self._store.discard(key), None)
        else:
            self.metrics.events += 1
            shaped = self._shaped(event.object)
            self._changed(self._store.put(key, shaped), shaped)
        self._reached(version)

    def _replace(self, complete: dict[Key, Object], version: str) -> None:
        """Make the copy equal to a complete list, telling handlers of the differences only."""
        for key in [key for key in self._store if key not in complete]:
            self._changed(self._store.discard(key), None)
        for key, obj in complete.items():
            old = self._store.get(key)
            if old is None or objects.resource_version(old) != objects.resource_version(obj):
                self._store.put(key, obj)
                self._changed(old, obj)
        self._streak.ended()
        self._synced.set()
        self._reached(version)

    def _reached(self, version: str) -> None:
        self._resource_version = version
        self._revision = int(version) if version.isdigit() else 0
        if self._waiting:
            self._waiting, waiting = [], self._waiting
            for holds, then in waiting:
                if holds():
                    then()
                else:
                    self._waiting.append((holds, then))

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is None:
            return
        for handler in self._handlers:
            self._notify(handler, old, new)

    def _notify(self, handler: Handler, old: Object | None, new: Object | None) -> None:
        try:
            handler(old, new)
        except Exception:  # noqa: BLE001 - one handler's mistake must not stop the copy that all others live on
            self.metrics.handler_errors += 1
            self._log.exception("handler_failed", key=str(objects.key(new or old or {})))
