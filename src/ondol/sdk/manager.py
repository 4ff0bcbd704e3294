"""The manager: one client, shared informers, and the controllers that live on them.

Every controller process has one. It syncs the informers, then starts controllers and other
runnables, and stops them in the opposite order.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from ondol.api.objects import Resource
from ondol.base import log
from ondol.base.clock import Clock, SystemClock
from ondol.base.metrics import Family
from ondol.client import Client
from ondol.sdk import metrics
from ondol.sdk.controller import Controller
from ondol.sdk.informer import Informer, Selection, Transform
from ondol.sdk.leader import Election, Lease
from ondol.sdk.recorder import EventRecorder
from ondol.sdk.writes import TrackedClient

Runnable = Callable[[], Coroutine[Any, Any, None]]

_STOP_S: Final = 30.0
"""How long reconciles may go on once the manager is to stop."""


class Manager:
    """Add controllers, then `run`. Writes through `client` are read back by the key that made them."""

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        identity: str = "",
        lease: Lease | None = None,
        frozen: bool = False,
    ) -> None:
        """`identity` names this process in events and leases; with a `lease` it acts only as its holder.

        `frozen`: who changes a document of an informer gets a `TypeError`. It costs a copy of each, and is
        for tests.
        """
        self.clock: Clock = clock or SystemClock()
        self.rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self.identity = identity or client.field_manager
        self._informers: dict[Selection, Informer] = {}
        self.client = TrackedClient(
            client.transport,
            self._informers.values,
            field_manager=client.field_manager,
            user_agent=client.user_agent,
            clock=self.clock,
        )
        self.recorder = EventRecorder(self.client, clock=self.clock, component=self.identity)
        self.controllers: list[Controller] = []
        self._runnables: list[tuple[str, Runnable]] = []
        self._lease = lease
        self._frozen = frozen
        self._tasks: TaskGroup | None = None
        self._stopping = anyio.Event()
        self._log = log.get("manager").bind(identity=self.identity)

    def informer(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        transform: Transform | None = None,
        optional: bool = False,
    ) -> Informer:
        """The informer of this selection, shared by all who ask.

        `transform` shapes its documents for all of them, so all must ask for the same one: `ValueError`.
        `optional`: do not wait for a kind that may not be installed; it counts as empty until it is.
        """
        selection = Selection(resource, namespace, label_selector, field_selector, metadata_only)
        shared = self._informers.get(selection)
        if shared is not None:
            if shared.transform != transform:
                raise ValueError(f"the informer of {selection} is shared, and has another transform")
            shared.optional = shared.optional and optional
            return shared
        informer = Informer(
            self.client,
            selection,
            clock=self.clock,
            rng=self.rng,
            transform=transform,
            optional=optional,
            frozen=self._frozen,
        )
        self._informers[selection] = informer
        if self._tasks is not None:
            self._tasks.start_soon(informer.run)
        return informer

    def shared(self, resource: Resource) -> Informer | None:
        """The informer of every object of this kind as it is, if anybody has asked for it.

        For those who follow whatever kinds there are: a watch more of one would cost as much as the first.
        """
        informer = self._informers.get(Selection(resource))
        return informer if informer is not None and informer.transform is None else None

    def add(self, controller: Controller) -> None:
        """Run this controller; before `run` only."""
        if self._tasks is not None:
            raise RuntimeError(f"controller {controller.name} was added to a manager that runs")
        controller.use(self.clock, self.rng)
        self.controllers.append(controller)

    def add_runnable(self, run: Runnable, name: str) -> None:
        """Run this beside the controllers; its end is normal, its error ends the manager."""
        if self._tasks is not None:
            raise RuntimeError(f"runnable {name} was added to a manager that runs")
        self._runnables.append((name, run))

    def stop(self) -> None:
        """End `run` in good order: what is being reconciled is finished first."""
        self._stopping.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled or stopped; `started` once caches are synced and workers run."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for informer in list(self._informers.values()):
                tasks.start_soon(informer.run)
            tasks.start_soon(self.recorder.run)
            for informer in list(self._informers.values()):
                await informer.wait_synced()
            async with self._leading() as acting:
                await self._work(acting, task_status)
            tasks.cancel_scope.cancel()
        self._tasks = None

    @asynccontextmanager
    async def _leading(self) -> AsyncIterator[TaskGroup]:
        """The tasks of this process while it may act: from when it holds the lease, if there is one.

        When all of them have ended in good order the lease is given back. A process that is cut off leaves
        it to run out.
        """
        election = None
        if self._lease is not None:
            election = Election(self.client, self._lease, identity=self.identity, clock=self.clock)
            await election.acquire()
        async with anyio.create_task_group() as tasks:
            if election is not None:
                tasks.start_soon(election.keep)
            yield tasks
            tasks.cancel_scope.cancel()
        if election is not None:
            await election.release()

    async def _work(self, tasks: TaskGroup, task_status: TaskStatus[None]) -> None:
        for name, run in self._runnables:
            tasks.start_soon(run, name=name)
        async with anyio.create_task_group() as limiting:
            async with anyio.create_task_group() as working:
                for controller in self.controllers:
                    working.start_soon(controller.run, name=controller.name)
                self._log.info(
                    "manager_started", controllers=len(self.controllers), informers=len(self._informers)
                )
                task_status.started()
                await self._stopping.wait()
                for controller in self.controllers:
                    controller.queue.close()
                limiting.start_soon(self._cut_off, working.cancel_scope)
            limiting.cancel_scope.cancel()
        self._log.info("manager_stopped")

    async def _cut_off(self, scope: anyio.CancelScope) -> None:
        await self.clock.sleep(_STOP_S)
        scope.cancel()

    @property
    def idle(self) -> bool:
        """Nothing to do now: no key queued or in work, no event unwritten, every informer synced."""
        return (
            all(controller.queue.idle for controller in self.controllers)
            and all(informer.synced for informer in self._informers.values())
            and self.recorder.idle
        )

    def metrics(self) -> Iterator[Family]:
        """Counters of everything that runs here: a collector for a `metrics.Page`."""
        yield from metrics.of_queues(self.controllers)
        yield from metrics.of_controllers(self.controllers)
        yield from metrics.of_informers(self._informers.values())
        yield from metrics.of_events(asdict(self.recorder.metrics))

    @property
    def activity(self) -> int:
        """Events seen and reconciles failed: it grows for as long as something goes on."""
        return sum(informer.metrics.events for informer in self._informers.values()) + sum(
            controller.metrics.errors for controller in self.controllers
        )
