"""Keeps the graph: it hears of every collectable kind, from its first object on, as kinds come and go.

Kinds that a controller of the same manager follows anyway are heard of through its informer; only the others
have a watch of their own, of metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.signal import Signal
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.garbage import graph
from ondol.sdk import Informer, Manager
from ondol.sdk.informer import Selection

_RETRIES: Final = Backoff(initial_s=0.1, maximum_s=30.0, jitter=0.5)
# Events own nothing and are owned by nothing; there are many of them, and they end by themselves.
_IGNORED: Final = frozenset({"events", "events.events.k8s.io"})


class Trackers:
    """Runs the watches; `synced` once every kind known at the start has been listed."""

    def __init__(
        self, manager: Manager, catalogue: Catalogue, touched: Callable[[Iterable[str]], None]
    ) -> None:
        self.graph = graph.Graph()
        self._manager = manager
        self._catalogue = catalogue
        self._touched = touched
        self._running: dict[Resource, anyio.CancelScope] = {}
        self._changed = Signal()
        self._synced = anyio.Event()
        catalogue.on_change(self._changed.set)

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        await self._load()
        async with anyio.create_task_group() as tasks:
            started = self._align(tasks)
            for informer in started:
                if not self._catalogue.is_elsewhere(informer.selection.resource):  # which may never answer
                    await informer.wait_synced()
            self._synced.set()
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._load()
                self._align(tasks)

    async def _load(self) -> None:
        """Nothing can be collected before the kinds are known, so keep asking."""
        failures = 0
        while True:
            try:
                await self._catalogue.load()
            except errors.ApiError as error:
                failures += 1
                log.get("garbage").warning("discovery_failed", error=error.message)
                await self._manager.clock.sleep(_RETRIES.delay_s(failures, self._manager.rng))
            else:
                return

    def _align(self, tasks: TaskGroup) -> list[Informer]:
        """Start what is missing and end what is no longer served."""
        served = [each for each in self._catalogue.resources() if each.group_resource not in _IGNORED]
        for removed in [each for each in self._running if each not in served]:
            self._running.pop(removed).cancel()
        return [self._start(tasks, each) for each in served if each not in self._running]

    def _start(self, tasks: TaskGroup, resource: Resource) -> Informer:
        shared = self._manager.shared(resource)
        informer = shared or self._metadata_informer(resource)
        run_informer = anyio.sleep_forever if shared else informer.run
        scope = self._running[resource] = anyio.CancelScope()

        def changed(old: Object | None, new: Object | None) -> None:
            self._observe(resource, old, new)

        async def run() -> None:
            with scope:
                await run_informer()
            informer.remove_handler(changed)
            for obj in informer.lister.list():  # the kind is gone, and its objects with it
                self._observe(resource, obj, None)

        informer.add_handler(changed)
        tasks.start_soon(run, name=f"garbage {resource.group_resource}")
        return informer

    def _metadata_informer(self, resource: Resource) -> Informer:
        return Informer(
            self._manager.client,
            Selection(resource, metadata_only=True),
            clock=self._manager.clock,
            rng=self._manager.rng,
            transform=graph.needed,
            optional=True,
        )

    def _observe(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        touched: set[str] = set()
        if old is not None and (new is None or objects.uid(old) != objects.uid(new)):
            touched |= self.graph.discard(objects.uid(old))
        if new is not None:
            touched |= self.graph.put(graph.node(resource, new))
        if touched:
            self._touched(touched)
