"""The whole control plane and a node in one process, on virtual time, with faults: what simulations run.

All controllers run on one manager and the node's own pod workers on another, both through a transport that
loses, delays and refuses. What the properties look at is the truth: the API server's objects as they change,
and the processes of the simulated runtime.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final

import anyio

from ondol import apiserver, controllers, sdk, store
from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.base.clock import rfc3339_micro
from ondol.client.asgi import App
from ondol.node import registration
from ondol.node.config import restart_backoff
from ondol.node.testing import Program, SimulatedNode
from ondol.sdk.testing import Faults, LoopClock, World

NODE: Final = "n1"
CPU: Final = 11
"""Cores of the node; each pod asks for one."""
_HEARTBEAT_S: Final = 10.0
_WATCHED: Final = (
    resources.POD,
    resources.REPLICA_SET,
    resources.DEPLOYMENT,
    resources.STATEFUL_SET,
    resources.DAEMON_SET,
    resources.JOB,
    resources.POD_DISRUPTION_BUDGET,
    resources.ENDPOINT_SLICE,
    resources.SERVICE,
)

Check = Callable[["Platform", Resource, Object | None, Object | None], None]
"""Looks at one change: the object before, and as it is now; None where there is none. Raises `Violated`."""


class Violated(AssertionError):
    """A property does not hold."""


class Platform(World):
    """A world with everything in it. `checks` see every change of the truth, as it happens."""

    def __init__(self, *, seed: int, faults: Faults, checks: tuple[Check, ...] = ()) -> None:
        clock = LoopClock()
        app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(seed))
        super().__init__(self._counted(app), clock=clock, seed=seed, faults=faults)
        self.writes_besides_heartbeats = 0
        self.recent_writes: deque[str] = deque(maxlen=12)
        self.truth: dict[Resource, dict[Key, Object]] = defaultdict(dict)
        self.ready_once: set[str] = set()
        """Pods that were Ready at some time, by uid."""
        self.complete: set[Key] = set()
        """Workloads and budgets that had all they ask for at some time."""
        self.history: list[str] = []
        """What has happened to it, by name."""
        self.keys_of_uids: dict[str, Key] = {}
        """Of all pods there ever were."""
        self.add_controllers: Callable[[sdk.Manager], None] = _add_controllers
        self._checks = checks
        self._agent: anyio.CancelScope | None = None
        self.node = SimulatedNode(
            NODE,
            clock,
            restart_backoff=restart_backoff(40.0),
            image_backoff=Backoff(initial_s=10.0, maximum_s=40.0),
        )
        for image, program in PROGRAMS.items():
            self.node.machine.add_image(image)
            self.node.runtime.programs[image] = program

    def _counted(self, app: App) -> App:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["method"] != "GET" and "/leases" not in scope["path"]:
                self.writes_besides_heartbeats += 1
                self.recent_writes.append(f"{scope['method']} {scope['path']}")
            await app(scope, receive, send)

        return counted

    # --- its parts

    async def start_parts(self) -> None:
        """Node, agent and controllers, once the truth is being watched."""
        tasks = self._tasks_now()
        for resource in _WATCHED:
            await tasks.start(self._follow, resource)
        allocatable = {"cpu": str(CPU), "memory": "64Gi", "pods": "110"}
        await self.client.create(
            resources.NODE,
            {
                "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
                "status": {
                    "capacity": allocatable,
                    "allocatable": allocatable,
                    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                },
            },
        )
        await self.start_agent()
        await self.start_controllers()

    async def start_controllers(self) -> None:
        manager = self.manager("control")
        self.add_controllers(manager)
        self.controllers = await self.start(manager)

    async def restart_controllers(self) -> None:
        self.crash(self.controllers)
        await self.start_controllers()

    async def start_agent(self) -> None:
        manager = self.manager("agent")

        async def run(*, task_status: Any) -> None:
            with anyio.CancelScope() as self._agent:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._beat, manager)
                    await self.node.run(manager, task_status=task_status)

        await self._tasks_now().start(run)
        self.managers.append(manager)
        self._agent_manager = manager

    async def restart_agent(self) -> None:
        """Its containers live on."""
        if self._agent is not None:
            self._agent.cancel()
            self.managers.remove(self._agent_manager)
        await self.start_agent()

    async def reboot(self) -> None:
        """The machine's power is cut: no process lives on."""
        self.node.boot = f"boot {self.clock.now()}"
        self.node.runtime.power_cut()
        self.node.machine.sandboxes.clear()
        await self.restart_agent()

    async def _beat(self, manager: sdk.Manager) -> None:
        lease: Object = {
            "metadata": {"name": NODE, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40},
        }
        failures = 0
        while True:
            lease["spec"]["renewTime"] = rfc3339_micro(self.clock.now())
            try:
                await manager.client.apply(resources.LEASE, lease, force=True)
                failures = 0
            except errors.ApiError:
                failures += 1
            await self.clock.sleep(registration.next_beat_s(failures, _HEARTBEAT_S))

    # --- the truth

    async def _follow(self, resource: Resource, *, task_status: Any) -> None:
        current = self.truth[resource]
        listed = await self.client.list(resource)
        task_status.started()
        async with self.client.watch(
            resource, resource_version=listed.resource_version, bookmarks=False
        ) as events:
            async for event in events:
                key = objects.key(event.object)
                before = current.get(key)
                if event.type == "DELETED":
                    now = None
                    current.pop(key, None)
                else:
                    now = current[key] = event.object
                for check in self._checks:
                    check(self, resource, before, now)
                if resource == resources.POD and now is not None and is_ready(now):
                    self.ready_once.add(objects.uid(now))

    def pods(self) -> list[Object]:
        return list(self.truth[resources.POD].values())

    def owned(self, owner: Object) -> list[Object]:
        """Its pods, those that are going too."""
        uid = objects.uid(owner)
        return [pod for pod in self.pods() if (objects.controller_of(pod) or {}).get("uid") == uid]

    def _activity(self) -> tuple[float, ...]:
        return (self.writes_besides_heartbeats,)


PROGRAMS: Final = {
    "steady:1": Program(stopping_s=1.0),
    "steady:2": Program(stopping_s=4.0),
    "stubborn:1": Program(stopping_s=1e9),
    "crashing:1": Program(lifetime_s=7.0, code=3),
    "task:good": Program(lifetime_s=5.0),
    "task:bad": Program(lifetime_s=3.0, code=1),
}
"""What the images do; see `Program`."""


def _add_controllers(manager: sdk.Manager) -> None:
    controllers.add_to(manager, controllers.ControllersConfig())


def is_ready(pod: Object) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in objects.status(pod).get("conditions") or ()
    )
