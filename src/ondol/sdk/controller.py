"""The controller: changes mapped to keys, keys reconciled by a few workers, failures retried.

A key is never reconciled twice at once. A reconcile learns which object to look at, never what
happened to it. Give it to a `Manager`, which runs it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import anyio

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock, SystemClock
from ondol.sdk.informer import Informer
from ondol.sdk.metrics import ControllerMetrics
from ondol.sdk.reconcile import Result, Retry, Terminal
from ondol.sdk.workqueue import Closed, Workqueue
from ondol.sdk.writes import CURRENT, Writes

Reconcile = Callable[[Key], Awaitable[Result | None]]
Map = Callable[[Object], Iterable[Key]]
Predicate = Callable[[Object | None, Object | None], bool]

_CATCH_UP_S: Final = 5.0
"""How long a key waits for informers to show its own last writes."""
_REMEMBERED_MAX: Final = 1024
_RETRIES: Final = Backoff(initial_s=0.005, maximum_s=300.0, jitter=0.1)


def own_key(obj: Object) -> Iterable[Key]:
    """The object itself."""
    return (objects.key(obj),)


def controller_key(api_version: str, kind: str) -> Map:
    """The parent of this kind that controls the object, if one does; any version of its group."""
    group = api_version.rpartition("/")[0]

    def parents(obj: Object) -> Iterable[Key]:
        ref = objects.controller_of(obj)
        if ref is None or ref.get("kind") != kind:
            return ()
        if str(ref.get("apiVersion") or "").rpartition("/")[0] != group:
            return ()
        return (Key(objects.namespace(obj), str(ref.get("name") or "")),)

    return parents


def always(_old: Object | None, _new: Object | None) -> bool:
    return True


def generation_changed(old: Object | None, new: Object | None) -> bool:
    """Created, gone, being deleted, or its spec changed: not for a mere status update."""
    if old is None or new is None:
        return True
    changed = objects.generation(old) != objects.generation(new)
    return changed or objects.is_deleting(old) != objects.is_deleting(new)


@dataclass(slots=True)
class _Unread:
    """What a key's last reconcile wrote, and the informers have not shown yet."""

    writes: Writes
    until: float
    """When the key is reconciled though they have not, in monotonic time."""
    is_waited_for: bool = False
    """Whether the key was held back, with its timer set and the informers asked; never forgotten then."""


class Controller:
    """`reconcile(key)` brings one object's world to what it wants; `None` means all is done."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        concurrency: int = 2,
        backoff: Backoff = _RETRIES,
    ) -> None:
        self.name = name
        self.metrics = ControllerMetrics()
        self.informers: list[Informer] = []
        self._reconcile = reconcile
        self._concurrency = concurrency
        self._clock: Clock = SystemClock()
        self.queue: Workqueue[Key] = Workqueue(self._clock, backoff=backoff)
        self._unread: dict[Key, _Unread] = {}
        self._log = log.get("controller").bind(controller=name)

    def watch(self, informer: Informer, map: Map = own_key, *, predicate: Predicate = always) -> None:
        """Reconcile the keys `map` finds in an object, before and after each of its changes."""

        def changed(old: Object | None, new: Object | None) -> None:
            if not predicate(old, new):
                return
            for obj in (old, new):
                for key in map(obj) if obj is not None else ():
                    self.queue.add(key)

        self.informers.append(informer)
        informer.add_handler(changed)

    def enqueue(self, key: Key, after_s: float = 0.0) -> None:
        self.queue.add_after(key, after_s)

    def use(self, clock: Clock, rng: random.Random) -> None:
        """Set the clock and the randomness; the manager does, before it runs the controller."""
        self._clock = clock
        self.queue.use(clock, rng)

    async def run(self) -> None:
        """Reconcile until cancelled, or until `queue.close()` and the queue is worked off."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.queue.run)
            async with anyio.create_task_group() as workers:
                for _ in range(self._concurrency):
                    workers.start_soon(self._work)
            tasks.cancel_scope.cancel()

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except Closed:
                return
            try:
                if not self._hold_back(key):
                    await self._attempt(key)
            finally:
                self.queue.done(key)

    def _hold_back(self, key: Key) -> bool:
        """Whether the key must wait until the informers show what its last reconcile wrote."""
        unread = self._unread.get(key)
        if unread is None:
            return False
        left_s = unread.until - self._clock.monotonic()
        if unread.writes.seen or left_s <= 0:
            del self._unread[key]
            return False
        if not unread.is_waited_for:
            unread.is_waited_for = True
            self.metrics.delayed += 1
            unread.writes.when_seen(lambda: self.queue.add(key))
            self.queue.add_after(key, left_s, unless=lambda: self._unread.get(key) is not unread)
        return True

    async def _attempt(self, key: Key) -> None:
        writes = Writes()
        token = CURRENT.set(writes)
        self.metrics.reconciles += 1
        began = self._clock.monotonic()
        try:
            result = await self._reconcile(key)
        except Terminal as error:
            self.metrics.terminal += 1
            self.queue.forget(key)
            self._log.error("reconcile_gave_up", key=str(key), error=str(error))
        except Retry as error:
            self.metrics.requeued_after += 1
            self.queue.add_after(key, error.after_s)
            self._log.debug("reconcile_put_off", key=str(key), after_s=error.after_s, why=str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one reconcile must not stop the others
            self._failed(key, error)
        else:
            self.queue.forget(key)
            if result is not None and result.requeue_after_s is not None:
                self.metrics.requeued_after += 1
                self.queue.add_after(key, result.requeue_after_s)
        finally:
            CURRENT.reset(token)
            self.metrics.seconds.observe(self._clock.monotonic() - began)
            if not writes.seen:
                self._remember(key, writes)

    def _remember(self, key: Key, writes: Writes) -> None:
        now = self._clock.monotonic()
        if len(self._unread) >= _REMEMBERED_MAX:  # most are of keys that were never reconciled again
            self._unread = {k: u for k, u in self._unread.items() if u.is_waited_for or u.until > now}
        self._unread[key] = _Unread(writes, now + _CATCH_UP_S)

    def _failed(self, key: Key, error: Exception) -> None:
        self.metrics.errors += 1
        delay_s = self.queue.add_rate_limited(key)
        facts = {"key": str(key), "error": str(error), "retry_in_s": round(delay_s, 3)}
        if isinstance(error, errors.Conflict):
            self._log.info("reconcile_conflicted", **facts)
        elif isinstance(error, errors.ApiError):
            self._log.warning("reconcile_failed", **facts, reason=error.reason)
        else:
            self._log.error("reconcile_failed", **facts, exc_info=error)
