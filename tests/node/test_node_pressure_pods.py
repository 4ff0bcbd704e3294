"""A machine that is short of memory, with real containers: which pod goes, and what the Node says."""

from __future__ import annotations

import dataclasses
from typing import Any

import anyio
import pytest

from ondol.api import conditions, objects, resources
from ondol.node.runtime import cgroups

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def is_short(world: Any) -> bool:
    """Whether the Node says that it lacks memory."""
    return conditions.is_true(await world.client.get(resources.NODE, world.config.name), "MemoryPressure")


async def test_a_pod_is_evicted_for_memory(world: Any) -> None:
    """It is told why, nothing of it runs on, and the Node says what it is short of."""
    world.config = dataclasses.replace(
        world.config,
        eviction_hard="memory.available<100%",  # of which there is never enough
        housekeeping_interval_s=0.5,
        lease_interval_s=0.5,
    )
    pod = world.pod("spender")
    pod["spec"]["containers"][0]["resources"] = {"requests": {"memory": "1Ki"}}
    async with world.node():
        await world.create(pod)
        failed = objects.status(await world.phase("spender", "Failed"))
        assert failed["reason"] == "Evicted"
        assert failed["message"].startswith("The node was low on resource: memory. Threshold quantity: ")
        assert conditions.is_true({"status": failed}, "DisruptionTarget")
        uid = objects.uid(await world.get("spender"))
        assert cgroups.processes(world.config.pod_cgroup(uid)) == set()
        with anyio.fail_after(10):
            while not await is_short(world):  # noqa: ASYNC110 - the API is asked again
                await anyio.sleep(0.05)
        await world.create(world.pod("late"))
        late = objects.status(await world.phase("late", "Failed"))
        assert late["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "
