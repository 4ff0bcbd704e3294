"""A world to test operators in: an API server in this process, managers on it, and time to pass.

The API server is given as an ASGI application, so this module needs none. `World.client` sees the
truth; managers of the world reach the server through its faults, if it has any.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.abc import TaskGroup

from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.base import errors, metrics
from ondol.base.clock import Clock, ManualClock, SystemClock
from ondol.client import AsgiTransport, Client
from ondol.client.asgi import App, Identity, lifespan
from ondol.sdk.manager import Manager
from ondol.sdk.operator import Operator
from ondol.sdk.testing.clock import LoopClock
from ondol.sdk.testing.faults import Faults, FaultyTransport

_ADMIN: Final[Identity] = {"name": "system:admin", "groups": ["system:masters"]}


class World:
    """Use as an async context manager; everything started in it ends with it.

    Children of its operators whose owner is gone are deleted, as a cluster's garbage collector would.

    `clock` is the one the application was built with. With a `ManualClock` the world advances it;
    with any other it waits.
    """

    def __init__(
        self, app: App, *, clock: Clock | None = None, seed: int = 0, faults: Faults | None = None
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.rng = random.Random(seed)  # noqa: S311 - a seed must replay
        self.faults = faults or Faults()
        self.seed = seed
        self.managers: list[Manager] = []
        self._app = app
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._running: dict[Manager, anyio.CancelScope] = {}
        self._kinds: dict[Resource, set[Resource]] = {}
        self._quiet_s = 0.2 if isinstance(self.clock, SystemClock) else 30.0
        # In time that costs nothing a look ten times a second would be most of what a test does.
        self._collection_s = 1.0 if isinstance(self.clock, LoopClock) else self._quiet_s / 2

    async def __aenter__(self) -> Self:
        state = await self._stack.enter_async_context(lifespan(self._app, clock=self.clock))
        inner = AsgiTransport(self._app, clock=self.clock, identity=_ADMIN, state=state)
        self.transport = FaultyTransport(inner, self.faults, clock=self.clock, rng=self.rng)
        self.client = Client(inner, field_manager="test", clock=self.clock)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._tasks.start_soon(self._collect_garbage)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        try:
            return await self._stack.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and _leaves(group) == [error]:
                return False  # only the test's own error, which its reader wants to see as it is
            raise

    def manager(self, identity: str = "test-manager") -> Manager:
        """A manager that reaches the server through the world's faults; not started yet.

        Who changes a document of its informers, which are shared, gets a `TypeError`.
        """
        client = Client(self.transport, field_manager=identity, clock=self.clock)
        return Manager(client, clock=self.clock, rng=self.rng, identity=identity, frozen=True)

    async def start(self, *parts: Manager | Operator[Any]) -> Manager:
        """Run managers; operators are given one manager of their own, which is returned."""
        operators = [part for part in parts if isinstance(part, Operator)]
        managers = [part for part in parts if isinstance(part, Manager)]
        if operators:
            own = self.manager(f"operator-{len(self.managers)}")
            for operator in operators:
                operator.add_to(own)
                parent = operator.resource_type.definition.resource
                self._kinds.setdefault(parent, set()).update(operator.owns)
            managers.append(own)
        for manager in managers:
            self.managers.append(manager)
            self._tasks_now().start_soon(self._run, manager)
        return managers[-1]

    def crash(self, manager: Manager) -> None:
        """End a manager where it stands, as a power cut would; start another in its place."""
        self._running[manager].cancel()
        self.managers.remove(manager)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        if isinstance(self.clock, ManualClock):
            await self.clock.advance(seconds)
        else:
            await self.clock.sleep(seconds)

    async def run_until_stable(self, *, quiet_s: float | None = None, limit_s: float = 0.0) -> None:
        """Let time pass until every manager is idle and nothing was written for `quiet_s`.

        `AssertionError` names who is still busy after `limit_s`.
        """
        quiet = self._quiet_s if quiet_s is None else quiet_s
        limit = limit_s or 100 * quiet
        spent, still = 0.0, 0.0
        seen = self._activity()
        while still < quiet:
            if spent > limit:
                raise AssertionError(f"not stable after {limit} s (seed {self.seed}): {self._busy()}")
            await self.advance(quiet / 10)
            spent += quiet / 10
            now = self._activity()
            still = still + quiet / 10 if now == seen and all(m.idle for m in self.managers) else 0.0
            seen = now

    async def eventually(
        self, holds: Callable[[], Awaitable[bool]], *, limit_s: float = 0.0, why: str = "it to hold"
    ) -> None:
        """Let time pass until `holds()`; `AssertionError` after `limit_s`."""
        limit = limit_s or 50 * self._quiet_s
        spent = 0.0
        while not await holds():
            if spent > limit:
                raise AssertionError(f"waited {limit} s for {why} (seed {self.seed})")
            await self.advance(self._quiet_s / 10)
            spent += self._quiet_s / 10

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """The object as the server has it, or None."""
        try:
            return await self.client.get(resource, name, namespace)
        except errors.NotFound:
            return None

    async def assert_condition(
        self, resource: Resource, name: str, namespace: str, type: str, status: str = "True"
    ) -> Object:
        """The object, which must have the condition."""
        obj = await self.client.get(resource, name, namespace)
        condition = conditions.get(obj, type)
        assert condition is not None, f"{name} has no condition {type}: {objects.status(obj)}"  # noqa: S101 - it is an assertion
        assert condition["status"] == status, f"{name}: {condition}"  # noqa: S101 - it is an assertion
        return obj

    async def assert_gone(self, resource: Resource, name: str, namespace: str = "") -> None:
        live = await self.get(resource, name, namespace)
        assert live is None, f"{resource.kind} {name} is still there: {live}"  # noqa: S101 - it is an assertion

    async def _collect_garbage(self) -> None:
        newest = ""
        while True:
            await self.clock.sleep(self._collection_s)
            before, newest = newest, await self._newest()
            if newest and newest == before:
                continue
            for parent, owned in list(self._kinds.items()):
                for resource in sorted(owned, key=lambda r: r.group_resource):
                    # Children first: an owner that came in between must not look gone.
                    children = await self._all(resource)
                    alive = {objects.uid(obj) for obj in await self._all(parent)}
                    for obj in children:
                        await self._collect(resource, obj, parent, alive)

    async def _newest(self) -> str:
        """The version of everything there is; empty while there is nothing to collect."""
        for parent in self._kinds:
            with contextlib.suppress(errors.NotFound):
                return (await self.client.list(parent, limit=1)).resource_version
        return ""

    async def _all(self, resource: Resource) -> list[Object]:
        """Every object of the kind; none of one that is not installed, or not yet."""
        try:
            return (await self.client.list(resource)).items
        except errors.NotFound:
            return []

    async def _collect(self, resource: Resource, obj: Object, parent: Resource, alive: set[str]) -> None:
        ref = objects.controller_of(obj)
        if ref is None or ref["kind"] != parent.kind or ref["uid"] in alive or objects.is_deleting(obj):
            return
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await self.client.delete(
                resource, objects.name(obj), objects.namespace(obj), uid=objects.uid(obj)
            )

    def _activity(self) -> tuple[float, ...]:
        return (self.transport.writes, *(manager.activity for manager in self.managers))

    def _busy(self) -> list[str]:
        """Who is at work, and on how many keys."""
        return [
            f"{manager.identity}: {line}"
            for manager in self.managers
            for line in metrics.text(manager.metrics()).decode().splitlines()
            if line.startswith("workqueue_depth{") and not line.endswith(" 0.0")
        ] or [f"{manager.identity}: {'idle' if manager.idle else 'busy'}" for manager in self.managers]

    def _tasks_now(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("enter the world first: async with World(app) as world")
        return self._tasks

    async def _run(self, manager: Manager) -> None:
        with anyio.CancelScope() as scope:
            self._running[manager] = scope
            await manager.run()


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
