"""The Node's status: when it is written, and what its conditions say."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from ondol import apiserver, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import ManualClock, rfc3339, rfc3339_micro
from ondol.client import Client
from ondol.controllers.node import taints as node_controller
from ondol.controllers.scheduler import accounts
from ondol.node import registration
from ondol.node.config import NodeConfig
from ondol.sdk import testing

pytestmark = pytest.mark.anyio


@dataclass
class Registered:
    """A node that keeps its object at a real API, on a machine and a clock of the test."""

    client: Client
    clock: ManualClock
    machine: registration.Machine
    writes: list[str]
    ours: registration.Registration
    shortages: set[str]
    """The conditions that say what the machine is short of, and are true."""
    is_full: bool = False
    """Whether the API takes no writes, as on a full disk."""

    async def node(self) -> Object:
        return await self.client.get(resources.NODE, "here")

    async def after_a_look(self) -> Object:
        """The Node once the agent has looked at its machine again."""
        await self.clock.advance(10)
        for _ in range(20):
            await anyio.wait_all_tasks_blocked()
        return await self.node()


@pytest.fixture
async def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registered]:
    clock = ManualClock()
    log = store.open_memory()
    inner = apiserver.build(apiserver.ApiConfig(), log, clock, random.Random(1))
    writes: list[str] = []
    worlds: list[Registered] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if worlds and worlds[0].is_full and scope.get("method") in ("POST", "PATCH"):
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"the disk is full"})
            return
        if scope.get("path", "").endswith("/nodes/here/status"):
            writes.append(rfc3339(clock.now()))
        await inner(scope, receive, send)

    async with testing.World(app, clock=clock) as world:
        config = NodeConfig(instance="abcdef", name="here", data_dir=tmp_path, host_ip="10.0.0.1")
        shortages = set[str]()
        ours = registration.Registration(
            config, world.client, clock, runtime="crun://1", conditions=lambda: shortages
        )
        one = Registered(world.client, clock, registration.measured(tmp_path), writes, ours, shortages)
        worlds.append(one)
        monkeypatch.setattr(registration, "measured", lambda _: one.machine)
        await ours.register()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.keep)
            await anyio.wait_all_tasks_blocked()
            yield one
            tasks.cancel_scope.cancel()
    log.close()


def by_type(node: Object, field: str) -> dict[str, str]:
    return {str(c["type"]): str(c.get(field)) for c in conditions.of(node)}


async def test_a_heartbeat_is_stamped_with_each_write_and_causes_none(registered: Registered) -> None:
    """Conditions tell when they were looked at last; time alone passing writes no status."""
    begun = rfc3339(registered.clock.now())
    for _ in range(6):
        node = await registered.after_a_look()
    assert registered.writes == [begun]
    assert set(by_type(node, "lastHeartbeatTime").values()) == {begun}
    registered.shortages.add("MemoryPressure")
    node = await registered.after_a_look()
    now = rfc3339(registered.clock.now())
    assert registered.writes == [begun, now]
    assert set(by_type(node, "lastHeartbeatTime").values()) == {now}
    moved = by_type(node, "lastTransitionTime")
    assert (moved["MemoryPressure"], moved["Ready"]) == (now, begun)


async def test_a_node_that_was_called_unknown_tells_its_state_again(registered: Registered) -> None:
    """After a silence every condition has the node's own reason and message, and others keep theirs."""
    before = await registered.node()
    unknown = node_controller.unknown_conditions(before, registered.clock.now())
    others = {"type": "NetworkUnavailable", "status": "False", "reason": "RouteCreated"}
    patch = {"status": {"conditions": [*unknown, others]}}
    silent = await registered.client.patch(resources.NODE, "here", patch=patch, subresource="status")
    assert set(by_type(silent, "message").values()) == {"Kubelet stopped posting node status.", "None"}
    node = await registered.after_a_look()
    for field in ("status", "reason", "message"):
        expected = by_type(before, field) | {"NetworkUnavailable": str(others.get(field))}
        assert by_type(node, field) == expected
    assert all(message for message in by_type(before, "message").values())
    assert by_type(node, "lastTransitionTime")["Ready"] == rfc3339(registered.clock.now())
    assert objects.status(node)["capacity"] == objects.status(before)["capacity"]


async def test_a_lost_heartbeat_is_soon_sent_again(registered: Registered) -> None:
    """Not a whole interval later: a few lost requests in a row do not make a node unknown."""
    began = registered.clock.now()
    interval_s = registered.ours._config.lease_interval_s
    registered.is_full = True
    await registered.clock.advance(interval_s)
    registered.is_full = False
    await registered.clock.advance(0.2)
    for _ in range(20):
        await anyio.wait_all_tasks_blocked()
    lease = await registered.client.get(resources.LEASE, "here", "kube-node-lease")
    assert lease["spec"]["renewTime"] == rfc3339_micro(began + interval_s + 0.2)


def test_heartbeats_that_fail_on_and_on_come_as_seldom_as_others() -> None:
    """A node does not press an API that is away, and never waits longer than between two renewals."""
    assert [registration.next_beat_s(n, 10.0) for n in (0, 1, 2, 3, 100)] == [10.0, 0.2, 0.4, 0.8, 7.0]
    assert registration.next_beat_s(100, 2.0) == 2.0


async def test_a_known_node_starts_where_no_write_is_taken(registered: Registered) -> None:
    """On a full disk the node goes on by what the API knows of it, and says the rest once it can."""
    registered.machine = dataclasses.replace(registered.machine, cpus=77)
    registered.is_full = True
    node = await registered.ours.register()
    assert objects.uid(node) == objects.uid(await registered.node())
    registered.is_full = False
    status = objects.status(await registered.after_a_look())
    assert status["capacity"]["cpu"] == "77"


async def test_a_new_node_needs_an_api_that_takes_it(registered: Registered) -> None:
    """Nobody knows it yet, so why it cannot be registered is what ends it."""
    registered.is_full = True
    await registered.client.delete(resources.NODE, "here")
    with pytest.raises(errors.Unavailable, match="the disk is full"):
        await registered.ours.register()


async def test_the_scheduler_counts_by_the_same_number(registered: Registered) -> None:
    """How many pods the node is told to run is its capacity, what it gives out, and the scheduler's bound."""
    config = NodeConfig(instance="0", name="here", data_dir=Path("/x"), host_ip="192.0.2.2", max_pods=250)
    reported = registration.status(config, registered.machine, runtime="crun://1", now=0, previous=[])
    assert (reported["capacity"]["pods"], reported["allocatable"]["pods"]) == ("250", "250")
    assert accounts.allocatable({"status": reported})[accounts.PODS] == 250_000


def test_the_images_that_are_here_are_listed(tmp_path: Path, layout: Callable[[str], Any]) -> None:
    """Under every name and by digest, the largest first, as soon as one is built or imported."""
    assert registration.measured(tmp_path).images == ()
    writer = layout("images")
    small = writer.image("ondol.local/small:1", [b"1"])
    large = writer.image("ondol.local/large:1", [b"12", b"345"])
    assert writer.image("ondol.local/large:2", [b"12", b"345"]) == large
    config = NodeConfig(instance="0", name="here", data_dir=tmp_path, host_ip="192.0.2.2")
    machine = registration.measured(tmp_path)
    reported = registration.status(config, machine, runtime="crun://1", now=0, previous=[])
    names = [f"ondol.local/large@{large}", "ondol.local/large:1", "ondol.local/large:2"]
    assert reported["images"] == [
        {"names": names, "sizeBytes": 5},
        {"names": [f"ondol.local/small@{small}", "ondol.local/small:1"], "sizeBytes": 1},
    ]
    (tmp_path / "images" / "index.json").write_text("{")
    assert registration.measured(tmp_path).images == (), "a heartbeat does not fail for it"
