"""What a node keeps of the ConfigMaps and Secrets of a cluster: those its pods have mounted."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from ondol import apiserver, sdk, store
from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import ManualClock, SystemClock
from ondol.client import Client
from ondol.client.asgi import AsgiTransport, Identity
from ondol.node.pods import sources
from ondol.node.pods.sources import Sources
from ondol.sdk import testing

ACCOUNT: Identity = {"name": "system:node:n", "groups": ["system:nodes"]}


class World:
    """An API with a pod on node `n`, and what the node reads with its own account."""

    def __init__(self, admin: Client, own: Client, clock: ManualClock) -> None:
        self.admin = admin
        self.clock = clock
        self.sources = Sources(sdk.Manager(own, clock=clock, rng=random.Random(1)), clock)
        self.changes: list[tuple[str, bool]] = []
        self.sources.config_maps.add_handler(self._changed)
        self.sources.secrets.add_handler(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        self.changes.append((objects.name(new or old or {}), new is not None))

    async def create(self, resource: Any, name: str, **fields: Any) -> Object:
        return await self.admin.create(
            resource, {"metadata": {"name": name, "namespace": "default"}, **fields}
        )

    async def pod(self, **volume: Any) -> Object:
        container = {
            "name": "c",
            "image": "i",
            "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "variable", "key": "k"}}}],
        }
        spec = {"nodeName": "n", "containers": [container], "volumes": [{"name": "v", **volume}]}
        return await self.create(resources.POD, "p", spec={**spec, "automountServiceAccountToken": False})

    async def settle(self) -> None:
        await self.clock.advance(1.0)
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    log = store.open_memory()
    app = apiserver.build(apiserver.ApiConfig(), log, SystemClock(), random.Random(1))
    async with testing.World(app) as inner, anyio.create_task_group() as tasks:
        own = Client(AsgiTransport(app, clock=SystemClock(), identity=ACCOUNT), field_manager="kubelet")
        own_world = World(inner.client, own, ManualClock())
        own_world.sources.start(tasks)
        yield own_world
        tasks.cancel_scope.cancel()
    log.close()


async def test_what_is_mounted_is_followed(world: World) -> None:
    """Changes and the end are heard of; what was read is not told again."""
    await world.create(resources.CONFIG_MAP, "m", data={"k": "1"})
    pod = await world.pod(configMap={"name": "m"})
    read = await world.sources.of(pod)
    assert read.config_maps["m"] is not None
    assert read.config_maps["m"]["data"] == {"k": "1"}
    await world.settle()
    assert world.changes == []
    await world.admin.patch(resources.CONFIG_MAP, "m", "default", patch={"data": {"k": "2"}})
    await world.settle()
    assert world.changes == [("m", True)]
    again = await world.sources.of(pod)
    assert again.config_maps["m"] is not None
    assert again.config_maps["m"]["data"] == {"k": "2"}
    await world.admin.delete(resources.CONFIG_MAP, "m", "default")
    await world.settle()
    assert world.changes[-1] == ("m", False)
    assert (await world.sources.of(pod)).config_maps == {"m": None}


async def test_what_is_missing_is_waited_for(world: World) -> None:
    """A pod that mounts it hears of it when it comes."""
    pod = await world.pod(secret={"secretName": "late"})
    assert (await world.sources.of(pod)).secrets == {"late": None, "variable": None}
    await world.settle()
    await world.create(resources.SECRET, "late", stringData={"k": "v"})
    await world.create(resources.SECRET, "variable", stringData={"k": "v"})
    await world.settle()
    assert world.changes == [("late", True)]


async def test_what_never_changes_is_not_followed(world: World) -> None:
    """Nor are variables, which are read when a container is made."""
    await world.create(resources.SECRET, "s", stringData={"k": "v"}, immutable=True)
    await world.create(resources.SECRET, "variable", stringData={"k": "v"})
    read = await world.sources.of(await world.pod(secret={"secretName": "s"}))
    assert read.secrets["s"] is not None
    assert read.secrets["variable"] is not None
    assert world.sources.secrets.followed == frozenset()


async def test_what_nobody_mounts_any_more_is_let_go(world: World) -> None:
    """After a while, for a pod of the same kind may come soon."""
    await world.create(resources.CONFIG_MAP, "m", data={})
    pod = await world.pod(configMap={"name": "m"})
    await world.sources.of(pod)
    assert world.sources.config_maps.followed == {Key("default", "m")}
    await world.clock.advance(sources.LINGER_S + 1)
    world.sources.keep({(resources.CONFIG_MAP, Key("default", "m"))})
    await world.clock.advance(sources.LINGER_S - 1)
    world.sources.keep(set())
    assert world.sources.config_maps.followed == {Key("default", "m")}
    await world.clock.advance(1)
    world.sources.keep(set())
    assert world.sources.config_maps.followed == frozenset()
    await world.settle()
    await world.admin.patch(resources.CONFIG_MAP, "m", "default", patch={"data": {"k": "2"}})
    await world.settle()
    assert world.changes == []


async def test_nothing_else_can_be_read(world: World) -> None:
    """The node's account is refused what no pod of its refers to."""
    await world.create(resources.SECRET, "other", stringData={"k": "v"})
    with pytest.raises(errors.Forbidden, match="no relationship found"):
        await world.sources.secrets.get(Key("default", "other"), follow=True)


async def test_what_goes_before_it_is_followed_is_heard_of(world: World) -> None:
    """The watch begins a while after the object was read, and knows nothing of it by then."""
    await world.create(resources.CONFIG_MAP, "m", data={"k": "1"})
    pod = await world.pod(configMap={"name": "m", "optional": True})
    assert (await world.sources.of(pod)).config_maps["m"] is not None
    await world.admin.delete(resources.CONFIG_MAP, "m", "default")
    await world.settle()
    assert world.changes == [("m", False)]


async def test_an_answer_that_comes_late_is_no_older_than_the_news(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two pods the second was answered with a newer version, and made the node follow it from there."""
    await world.create(resources.CONFIG_MAP, "m", data={"k": "1"})
    await world.pod(configMap={"name": "m"})
    original, slow, answers = sources._ask, anyio.Event(), []

    async def ask(client: Client, resource: Any, key: Key) -> Object | None:
        obj = await original(client, resource, key)
        answers.append(obj)
        if len(answers) == 1:
            await slow.wait()
        return obj

    monkeypatch.setattr(sources, "_ask", ask)
    read: list[Object | None] = []

    async def first() -> None:
        read.append(await world.sources.config_maps.get(Key("default", "m"), follow=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        await world.admin.patch(resources.CONFIG_MAP, "m", "default", patch={"data": {"k": "2"}})
        await world.sources.config_maps.get(Key("default", "m"), follow=True)
        slow.set()
    await world.settle()
    assert read[0] is not None
    assert read[0]["data"] == {"k": "1"}
    assert world.changes == [("m", True)]


async def test_an_answer_that_comes_after_the_watch_began(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is older than what is followed by then, of which no news will come any more."""
    await world.create(resources.CONFIG_MAP, "m", data={"k": "1"})
    await world.pod(configMap={"name": "m"})
    original, slow = sources._ask, anyio.Event()

    async def ask(client: Client, resource: Any, key: Key) -> Object | None:
        obj = await original(client, resource, key)
        if not slow.is_set():
            await slow.wait()
        return obj

    read: list[Object | None] = []

    async def first() -> None:
        read.append(await world.sources.config_maps.get(Key("default", "m"), follow=True))

    async with anyio.create_task_group() as tasks:
        with monkeypatch.context() as patch:
            patch.setattr(sources, "_ask", ask)
            tasks.start_soon(first)
            await anyio.wait_all_tasks_blocked()
        await world.admin.patch(resources.CONFIG_MAP, "m", "default", patch={"data": {"k": "2"}})
        await world.sources.config_maps.get(Key("default", "m"), follow=True)
        await anyio.wait_all_tasks_blocked()
        await world.settle()
        slow.set()
    assert read[0] is not None
    assert read[0]["data"] == {"k": "2"}
