"""ApiServerSources: follows what each of them is about, with the rights of its service account."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from ondol.api import conditions, labels, objects
from ondol.api.objects import Key, Object
from ondol.base.backoff import Backoff
from ondol.client import Client
from ondol.client.impersonation import ImpersonatingTransport
from ondol.contracts import eventing
from ondol.eventing import filters
from ondol.eventing.exchange import Target
from ondol.eventing.filters import Predicate
from ondol.eventing.sources import adapters, changes, permissions, wellknown
from ondol.eventing.sources.adapters import NotYet
from ondol.eventing.sources.outbox import Outbox
from ondol.sdk import Informer, Manager
from ondol.sdk.informer import Selection

Document: TypeAlias = Mapping[str, Any]

_LOOKS: Final = Backoff(initial_s=0.05, maximum_s=30.0)
"""How soon to look again whether everything is seen."""


@dataclass(slots=True)
class _Follower:
    """One selection that is followed, until its scope is cancelled."""

    informer: Informer
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


@dataclass(slots=True)
class _Watch:
    """A source as it was looked at last, and what is followed for it."""

    source: Object
    target: Target
    passes: Predicate
    user: str
    followers: dict[Selection, _Follower] = field(default_factory=dict)
    looks: int = 0
    """How often something was not seen yet, in a row."""

    def stop(self) -> None:
        for follower in self.followers.values():
            follower.scope.cancel()
        self.followers.clear()


class Watches:
    """The feed of ApiServerSources. What is there when it begins to look is no news; changes are."""

    def __init__(self, manager: Manager, outbox: Outbox, rng: random.Random) -> None:
        self._manager = manager
        self._outbox = outbox
        self._rng = rng
        self._tasks: TaskGroup | None = None
        self._watches: dict[Key, _Watch] = {}

    async def run(self) -> None:
        """Follow what the sources are about, until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for watch in self._watches.values():
                for follower in watch.followers.values():
                    tasks.start_soon(_follow, follower)
            await anyio.sleep_forever()

    async def serve(self, source: Object, target: Target) -> float | None:
        key = objects.key(source)
        if not conditions.is_true(source, wellknown.SUFFICIENT_PERMISSIONS):
            self.stop(key)
            return None
        selections = await self._selections(source)
        watch = self._watches.get(key)
        if watch is None or watch.user != permissions.user(source):
            self.stop(key)
            passes = filters.predicate(objects.spec(source).get("filters"))
            watch = self._watches[key] = _Watch(source, target, passes, permissions.user(source))
        elif watch.source is not source:
            watch.passes = filters.predicate(objects.spec(source).get("filters"))
        watch.source, watch.target = source, target
        self._settle(watch, selections)
        unseen = [s for s, follower in watch.followers.items() if not follower.informer.synced]
        if unseen:
            names = ", ".join(sorted(selection.resource.group_resource for selection in unseen))
            watch.looks += 1
            message = f"waiting to see {names} as {watch.user}"
            raise NotYet(message, again_s=_LOOKS.delay_s(watch.looks))
        watch.looks = 0
        return None

    def stop(self, key: Key) -> None:
        watch = self._watches.pop(key, None)
        if watch is not None:
            watch.stop()

    async def _selections(self, source: Object) -> set[Selection]:
        places = [""] if permissions.is_everywhere(source) else objects.status(source).get("namespaces") or ()
        selections = set()
        for kind in objects.spec(source).get("resources") or ():
            resource = await permissions.resource_of(self._manager.client, kind)
            chosen = kind.get("selector")
            selector = "" if chosen is None else str(labels.from_document(chosen))
            for namespace in places if resource.namespaced else ("",):
                selections.add(Selection(resource, namespace, selector))
        return selections

    def _settle(self, watch: _Watch, selections: set[Selection]) -> None:
        """Follow what is new, and no longer what is not asked for; the rest goes on undisturbed."""
        for selection in set(watch.followers) - selections:
            watch.followers.pop(selection).scope.cancel()
        for selection in sorted(selections - set(watch.followers), key=repr):
            follower = watch.followers[selection] = _Follower(self._informer(watch, selection))
            if self._tasks is not None:
                self._tasks.start_soon(_follow, follower)

    def _informer(self, watch: _Watch, selection: Selection) -> Informer:
        inner = self._manager.client
        transport = ImpersonatingTransport(inner.transport, watch.user)
        client = Client(transport, user_agent=inner.user_agent, clock=self._manager.clock)
        informer = Informer(client, selection, clock=self._manager.clock, rng=self._rng, optional=True)
        informer.add_handler(partial(self._changed, watch, informer))
        return informer

    def _changed(self, watch: _Watch, informer: Informer, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None or not informer.synced or not changes.is_owned(watch.source, obj):
            return
        event = changes.event_of(
            watch.source,
            informer.resource,
            changes.change(old, new),
            obj,
            id=adapters.event_id(self._rng),
            now=self._manager.clock.now(),
        )
        if watch.passes(event):
            source = adapters.source_of(eventing.API_SERVER_SOURCE, watch.source)
            self._outbox.post(source, event, watch.target)


async def _follow(follower: _Follower) -> None:
    with follower.scope:
        await follower.informer.run()
