"""Watch: the changes of a kind from a revision on, as frames of a stream.

A watch is a cursor over the store's history. Selectors turn changes into what the client must see: an
object that leaves the selection is DELETED, one that enters it ADDED.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import anyio

from ondol.api import status
from ondol.api.objects import Object
from ondol.apiserver import documents, listing
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Emit, Request, Stream, pieces, while_connected
from ondol.apiserver.selecting import Chooser, Selection
from ondol.apiserver.served import Served
from ondol.base import errors
from ondol.store import Event, Record
from ondol.store.log import Watch

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
_EARLY_BOOKMARK_S: Final = 2.0
_EVENTS_AT_ONCE: Final = 64


def _as_it_is(bookmark: Object) -> Object:
    return bookmark


@dataclass(frozen=True, slots=True)
class Forms:
    """How a stream shows objects, from their stored bytes, and bookmarks."""

    render: Callable[[bytes], bytes]
    bookmark: Callable[[Object], Object] = _as_it_is
    shared: Hashable = None
    """Stands for this way of showing objects, if every stream that has it shows them alike."""
    prepare: Callable[[Sequence[Record]], Awaitable[Sequence[Record]]] | None = None
    """What records must pass before they are shown, of a kind whose conversion is remote."""


def frame(kind: str, value: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), value)


async def watch(core: Core, request: Request, served: Served, chosen: Selection, forms: Forms) -> Stream:
    """The answer to a watch; errors of the query are raised here.

    A version that is forgotten is told in the stream, as Kubernetes does: clients look for it there.
    """
    options = _Options.of(request, core)
    if options.after:
        await listing.reached(core, options.after)
    after = core.store.revision if options.initial else options.after
    try:
        cursor = core.store.watch(served.bucket, served.prefix(chosen.namespace), after=after)
    except errors.Expired as expired:
        return _ended(expired)
    initial = (
        core.store.page(served.bucket, served.prefix(chosen.namespace)).records if options.initial else []
    )
    chooser = Chooser(core.state, served, chosen)
    subject = _Subject(core, request.user.tenant, served, chosen, chooser, forms)
    running = _Running(subject, cursor, options)

    async def produce(emit: Emit) -> None:
        await while_connected(request, lambda: running.run(initial, emit))

    return Stream(produce)


def _ended(expired: errors.Expired) -> Stream:
    async def produce(emit: Emit) -> None:
        await emit(_error(expired))

    return Stream(produce)


def _error(error: errors.ApiError) -> bytes:
    plain = type(error) if not isinstance(error, errors.Expired) else errors.Expired
    return frame("ERROR", documents.dump(status.failure(plain(error.message))))


class _Options:
    """What the query says about a watch."""

    def __init__(
        self, after: int, timeout_s: float, *, initial: bool, bookmarks: bool, announce: bool
    ) -> None:
        self.after = after
        self.timeout_s = timeout_s
        self.initial = initial
        self.bookmarks = bookmarks
        self.announce = announce
        """Whether the end of the initial events is marked by a bookmark."""

    @classmethod
    def of(cls, request: Request, core: Core) -> _Options:
        query = request.query
        version = query.get("resourceVersion") or ""
        match = query.get("resourceVersionMatch") or ""
        bookmarks = request.flag("allowWatchBookmarks")
        send = query.get("sendInitialEvents")
        sends_initial = request.flag("sendInitialEvents")
        if send is not None and match != "NotOlderThan":
            raise errors.Invalid(
                'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        if send is None and match:
            raise errors.Invalid(
                'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            )
        revision = listing.revision_of(version)
        return cls(
            revision,
            _timeout_s(request.number("timeoutSeconds"), core.config.watch_timeout_s, core.rng),
            initial=sends_initial if send is not None else revision == 0,
            bookmarks=bookmarks,
            announce=sends_initial and bookmarks,
        )


def _timeout_s(requested_s: int | None, least_s: float, rng: random.Random) -> float:
    # Spread, so that the watches of a restarted server do not all end together again.
    return float(requested_s) if requested_s else least_s * (1.0 + rng.random())


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is watched, and how it is shown."""

    core: Core
    user: str
    served: Served
    chosen: Selection
    shows: Callable[[Record], bool]
    forms: Forms

    def _now(self) -> Served | None:
        kind = self.served.kind
        return self.core.catalogue.get(kind.group, kind.version, kind.plural)

    def is_removed(self) -> bool:
        return self._now() is None

    def is_served_so(self) -> bool:
        """Whether the kind's definition is unchanged; if not, clients must start a new watch."""
        now = self._now()
        return now is None or now.form is self.served.form


class _Running:
    """One watch under way."""

    def __init__(self, subject: _Subject, cursor: Watch, options: _Options) -> None:
        self._subject = subject
        self._core = subject.core
        self._forms = subject.forms
        self._cursor = cursor
        self._options = options
        self._due = False
        self._over = False
        self._unread: bytes | None = None
        """The piece that the client has no room for."""

    async def keep_time(self) -> None:
        """Call for bookmarks at their interval and shortly before the end, and then for the end.

        Returns early when the client reads nothing for an interval: what waits for it is in memory.
        """
        clock, interval_s = self._core.clock, self._core.config.bookmark_interval_s
        end = clock.monotonic() + self._options.timeout_s
        while (left_s := end - clock.monotonic()) > 0:
            unread = self._unread
            if left_s > _EARLY_BOOKMARK_S:
                await clock.sleep(min(interval_s, left_s - _EARLY_BOOKMARK_S))
                self._due = self._options.bookmarks
            else:
                await clock.sleep(left_s)
            if unread is not None and unread is self._unread:
                return
            self._cursor.wake()
        self._over = True
        self._cursor.wake()
        await clock.sleep(_EARLY_BOOKMARK_S)  # by then the end is sent, if the client takes it

    async def run(self, initial: list[Record], emit: Emit) -> None:
        """Send what there is and what comes, until the end of the time; `OSError` if nobody reads it."""
        finished = False

        async def emitting(piece: bytes) -> None:
            self._unread = piece
            await emit(piece)
            self._unread = None

        async with anyio.create_task_group() as group:

            async def keep_time() -> None:
                await self.keep_time()
                group.cancel_scope.cancel()

            group.start_soon(keep_time)
            await self._send(initial, emitting)
            finished = True
            group.cancel_scope.cancel()
        if not finished:
            raise ConnectionAbortedError("the client does not read the watch")

    async def _send(self, initial: list[Record], emit: Emit) -> None:
        try:
            await emit(b"")  # the client is told at once that it watches
            await self._send_initial(initial, emit)
            while not self._over and self._subject.is_served_so():
                if await self._send_changes(emit):
                    continue
                if self._subject.is_removed():
                    return  # with all its objects, whose ends have been told
                await self._cursor.changed()
        except (errors.Expired, errors.Internal) as error:
            await emit(_error(error))
        except OSError:
            return  # the client is gone

    async def _send_initial(self, records: list[Record], emit: Emit) -> None:
        """What there is, as ADDED, in turns with the other requests: it may be much."""
        shows, render = self._subject.shows, self._forms.render
        slices = self._core.turns.slices(self._subject.user, records, self._subject.chosen.cost)
        async with aclosing(slices) as parts:
            async for part in parts:
                ready = await self._ready(part)
                if frames := [frame("ADDED", render(record.value)) for record in ready if shows(record)]:
                    await emit(b"".join(frames))
        if self._options.announce:
            await emit(self._bookmark({INITIAL_EVENTS_END: "true"}))

    async def _send_changes(self, emit: Emit) -> bool:
        """Send some of what has come since; whether there was anything.

        No more is taken than is sent, so who does not read keeps no history from being forgotten.
        """
        events = self._cursor.take(max(1, _EVENTS_AT_ONCE // self._subject.chosen.cost))
        if self._subject.served.remote is not None:
            events = await self._ready_events(events)
        sent = False
        for piece in pieces(text for event in events if (text := self._change_frame(event))):
            await emit(piece)
            sent = True
        if self._due and not events:
            self._due = False
            await emit(self._bookmark({}))
            return True
        if events and not sent:
            await self._core.turns.next(self._subject.user)
        return bool(events)

    async def _ready(self, records: Sequence[Record]) -> Sequence[Record]:
        """Records as the version that is watched."""
        remote = self._subject.served.remote
        if remote is None or self._forms.prepare is None:
            return records
        if self._subject.chosen.reads_content:
            return await remote.records(records)
        return await self._forms.prepare(records)

    async def _ready_events(self, events: list[Event]) -> list[Event]:
        """Events as the version that is watched: all of them asked for at once, and in their order."""
        selects = not self._subject.chosen.is_everything
        previous = [event.previous for event in events if selects and event.previous is not None]
        before = {record.revision: record for record in await self._ready(previous)}
        records = await self._ready([event.record for event in events])
        return [
            Event(
                record, event.previous and before.get(event.previous.revision, event.previous), event.deleted
            )
            for event, record in zip(events, records, strict=True)
        ]

    def _change_frame(self, event: Event) -> bytes:
        record, previous = event.record, event.previous
        if self._subject.chosen.is_everything:
            kind = "DELETED" if event.deleted else "ADDED" if previous is None else "MODIFIED"
            return self._frame(kind, record)
        was = previous is not None and self._subject.shows(previous)
        now = not event.deleted and self._subject.shows(record)
        if not was and not now:
            return b""
        kind = "MODIFIED" if was and now else "ADDED" if now else "DELETED"
        if kind == "DELETED" and not event.deleted and previous is not None:
            # The state in which the client knew it, at the revision at which it left the selection.
            value = documents.encode(documents.fresh(previous), record.revision)
            return frame(kind, self._forms.render(value))
        return self._frame(kind, record)

    def _frame(self, kind: str, record: Record) -> bytes:
        if self._forms.shared is None:
            return frame(kind, self._forms.render(record.value))
        return self._core.frames.of(
            (record.revision, kind, self._forms.shared),
            lambda: frame(kind, self._forms.render(record.value)),
        )

    def _bookmark(self, annotations: dict[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(self._cursor.revision)}
        if annotations:
            metadata["annotations"] = annotations
        resource = self._subject.served.resource
        document: Object = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {**metadata, "creationTimestamp": None},
        }
        return frame("BOOKMARK", documents.dump(self._forms.bookmark(document)))
