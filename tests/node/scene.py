"""A world with one simulated node, for tests of pod workers on virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ondol import apiserver, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base.backoff import Backoff
from ondol.node.config import restart_backoff
from ondol.node.pods.workers import PodWorkers
from ondol.node.testing import SimulatedNode
from ondol.sdk.testing import Faults, LoopClock, World, simulate

IMAGE = "shop:1"


class Scene(World):
    """A world with one simulated node, whose agent can be ended and started like a process."""

    def __init__(self, *, seed: int = 0, faults: Faults | None = None, mesh: bool = False) -> None:
        clock = LoopClock()
        app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(seed))
        super().__init__(app, clock=clock, seed=seed, faults=faults)
        image_backoff = Backoff(initial_s=30.0, maximum_s=300.0)
        self.node = SimulatedNode(
            "n1",
            clock,
            restart_backoff=restart_backoff(40.0),
            image_backoff=image_backoff,
            mesh_enabled=mesh,
        )
        self.node.machine.add_image(IMAGE)
        self.workers: PodWorkers
        self._agent: anyio.CancelScope | None = None

    async def start_agent(self) -> None:
        manager = self.manager("kubelet")
        tasks = self._tasks_now()

        async def run(*, task_status: Any) -> None:
            with anyio.CancelScope() as self._agent:
                await self.node.run(manager, task_status=task_status)

        self.workers = await tasks.start(run)

    def end_agent(self) -> None:
        assert self._agent is not None
        self._agent.cancel()

    async def add_image(self, reference: str) -> None:
        self.node.machine.add_image(reference)
        await self.workers.images_changed()

    async def pod(self, name: str = "p", **fields: Any) -> Object:
        spec = fields.pop("spec", {})
        container = {"name": "main", "image": IMAGE, **fields.pop("container", {})}
        document = {
            "metadata": {"name": name, "namespace": "default", **fields},
            "spec": {
                "nodeName": "n1",
                "automountServiceAccountToken": False,
                "containers": [container],
                **spec,
            },
        }
        return await self.client.create(resources.POD, document)

    async def live(self, name: str = "p") -> Object:
        return await self.get(resources.POD, name, "default") or {}

    async def until(self, holds: Callable[[Object], bool], name: str = "p", limit_s: float = 600.0) -> float:
        """Seconds until `holds` was true of the pod."""
        begun = self.clock.monotonic()
        while not holds(await self.live(name)):
            assert self.clock.monotonic() - begun < limit_s, (self.seed, await self.live(name))
            await self.clock.sleep(0.05)
        return self.clock.monotonic() - begun

    async def events(self, name: str = "p") -> list[str]:
        await self.clock.sleep(5.0)
        listed = (await self.client.list(resources.EVENT)).items
        return [event["reason"] for event in listed if event["involvedObject"]["name"] == name]


def play(
    scene: Callable[[Scene], Awaitable[None]],
    *,
    seed: int = 0,
    faults: Faults | None = None,
    mesh: bool = False,
) -> None:
    """Play it in a fresh world, whose agent runs already."""

    async def main() -> None:
        async with Scene(seed=seed, faults=faults, mesh=mesh) as world:
            await world.start_agent()
            await scene(world)

    simulate(main, seed=seed)


def is_ready(pod: Object) -> bool:
    return conditions.is_true(pod, "Ready")


def is_absent(pod: Object) -> bool:
    return not pod


def phase(pod: Object) -> str:
    return str(objects.status(pod).get("phase", ""))


def state(pod: Object, index: int = 0) -> Object:
    listed: list[Object] = objects.status(pod).get("containerStatuses") or [{"state": {}}]
    return listed[index]


def waits_for(pod: Object) -> str:
    return str((state(pod)["state"].get("waiting") or {}).get("reason", ""))
