"""How children are kept: applied when they differ, deleted exactly, never taken from another owner."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ondol import apiserver, store
from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client
from ondol.sdk import children
from ondol.sdk.children import Children
from ondol.sdk.testing import World


@asynccontextmanager
async def server() -> AsyncIterator[tuple[Client, World]]:
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(0))
    async with World(app) as world:
        yield Client(world.transport, field_manager="test"), world


async def config_map(client: Client, name: str, **metadata: object) -> Object:
    return await client.create(
        resources.CONFIG_MAP, {"metadata": {"name": name, "namespace": "default", **metadata}}
    )


def child(parent: Object, name: str = "child", **data: str) -> Object:
    metadata = {
        "name": name,
        "namespace": "default",
        "ownerReferences": [objects.controller_reference(parent)],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def exists(client: Client, name: str) -> bool:
    try:
        await client.get(resources.CONFIG_MAP, name, "default")
    except errors.NotFound:
        return False
    return True


async def test_a_settled_child_costs_no_request() -> None:
    """Until another one is desired, or it is changed by another hand."""
    async with server() as (client, world):
        parent = await config_map(client, "parent")
        memory = Children(client, field_manager="keeper")
        first = await memory.of(parent).apply(resources.CONFIG_MAP, child(parent, a="1"), None)
        before = world.transport.writes
        assert await memory.of(parent).apply(resources.CONFIG_MAP, child(parent, a="1"), first) is first
        assert world.transport.writes == before
        second = await memory.of(parent).apply(resources.CONFIG_MAP, child(parent, a="2"), first)
        assert second["data"] == {"a": "2"}
        changed = await client.patch(
            resources.CONFIG_MAP, "child", "default", patch={"data": {"a": "x", "own": "y"}}
        )
        mended = await memory.of(parent).apply(resources.CONFIG_MAP, child(parent, a="2"), changed)
        assert mended["data"] == {"a": "2", "own": "y"}


async def test_what_is_anothers_of_a_child_costs_no_request() -> None:
    """A number of replicas changes the generation, and nothing of what was applied."""
    async with server() as (client, world):
        parent = await config_map(client, "parent")
        memory = Children(client, field_manager="keeper")
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        desired: Object = {
            **child(parent),
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
        }
        del desired["data"]
        await memory.of(parent).apply(resources.DEPLOYMENT, desired, None)

        async def after(spec: Object) -> tuple[Object, int]:
            changed = await client.patch(resources.DEPLOYMENT, "child", "default", patch={"spec": spec})
            before = world.transport.writes
            written = await memory.of(parent).apply(resources.DEPLOYMENT, desired, changed)
            return written["spec"], world.transport.writes - before

        spec, writes = await after({"replicas": 8})
        assert (spec["replicas"], writes) == (8, 0)
        _, writes = await after({"template": {"metadata": {"labels": {"x": "y"}}}})
        assert writes == 0
        other = {"containers": [{"name": "c", "image": "other"}]}
        spec, writes = await after({"template": {"spec": other}})
        assert (spec["template"]["spec"]["containers"][0]["image"], writes) == ("i", 1)


async def test_another_parent_of_the_name_begins_anew() -> None:
    """What was applied for the one before says nothing about it; nor does it after it was forgotten."""
    async with server() as (client, world):
        parent = await config_map(client, "parent")
        memory = Children(client, field_manager="keeper")
        desired = child(parent)
        first = await memory.of(parent).apply(resources.CONFIG_MAP, desired, None)
        memory.forget(objects.key(parent))
        before = world.transport.writes
        await memory.of(parent).apply(resources.CONFIG_MAP, desired, first)
        assert world.transport.writes == before + 1
        successor = {**parent, "metadata": {**parent["metadata"], "uid": "another"}}
        with pytest.raises(children.NotOwned):
            await memory.of(successor).apply(resources.CONFIG_MAP, desired, first)


async def test_a_child_of_another_is_left_to_it() -> None:
    """One that nobody controls is taken over only by who adopts."""
    async with server() as (client, _):
        parent, stranger = await config_map(client, "parent"), await config_map(client, "stranger")
        orphan = await config_map(client, "child")
        with pytest.raises(children.NotOwned):
            await (
                Children(client, field_manager="k")
                .of(parent)
                .apply(resources.CONFIG_MAP, child(parent), orphan)
            )
        adopting = Children(client, field_manager="k", adopts=True)
        adopted = await adopting.of(parent).apply(resources.CONFIG_MAP, child(parent), orphan)
        assert objects.is_controlled_by(adopted, parent)
        with pytest.raises(children.NotOwned, match="belongs to another controller"):
            await adopting.of(stranger).apply(resources.CONFIG_MAP, child(stranger), adopted)


async def test_nothing_is_taken_that_the_cache_has_not_seen() -> None:
    """An object that is there, though the lister does not show it, keeps its data and its owner."""
    async with server() as (client, _):
        parent, stranger = await config_map(client, "parent"), await config_map(client, "stranger")
        of_user = await client.create(
            resources.CONFIG_MAP,
            {"metadata": {"name": "child", "namespace": "default"}, "data": {"k": "user"}},
        )
        family = Children(client, field_manager="k").of(parent)
        with pytest.raises(children.NotOwned, match="exists and has no controller"):
            await family.apply(resources.CONFIG_MAP, child(parent, k="ours"), None)
        assert await client.get(resources.CONFIG_MAP, "child", "default") == of_user
        adopting = Children(client, field_manager="k", adopts=True)
        adopted = await adopting.of(parent).apply(resources.CONFIG_MAP, child(parent, k="ours"), None)
        assert adopted["data"] == {"k": "ours"}
        assert objects.is_controlled_by(adopted, parent)
        with pytest.raises(children.NotOwned):
            await adopting.of(stranger).apply(resources.CONFIG_MAP, child(stranger), None)


async def test_a_child_is_applied_to_the_object_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to another one that has its name by now, nor to one that came between the look and the write."""
    async with server() as (client, _):
        parent = await config_map(client, "parent")
        family = Children(client, field_manager="k").of(parent)
        first = await family.apply(resources.CONFIG_MAP, child(parent, a="1"), None)
        await client.delete(resources.CONFIG_MAP, "child", "default")
        with pytest.raises(errors.Conflict):
            await family.apply(resources.CONFIG_MAP, child(parent, a="2"), first)
        assert not await exists(client, "child")
        other = {"metadata": {"name": "child", "namespace": "default"}, "data": {"a": "user"}}
        successor = await client.create(resources.CONFIG_MAP, other)
        with pytest.raises(errors.Conflict):
            await family.apply(resources.CONFIG_MAP, child(parent, a="2"), first)

        async def not_yet(*_: object) -> Object:
            raise errors.NotFound("as it was a moment ago")

        monkeypatch.setattr(client, "get", not_yet)
        with pytest.raises(errors.Conflict):
            await family.apply(resources.CONFIG_MAP, child(parent, a="2"), None)
        monkeypatch.undo()
        assert await client.get(resources.CONFIG_MAP, "child", "default") == successor


async def test_what_is_named_no_more_goes_from_a_child_that_was_just_created() -> None:
    """Its fields are its applier's from the first write on."""
    async with server() as (client, _):
        parent = await config_map(client, "parent")
        family = Children(client, field_manager="k").of(parent)
        first = await family.apply(resources.CONFIG_MAP, child(parent, a="1", b="2"), None)
        second = await family.apply(resources.CONFIG_MAP, child(parent, a="1"), first)
        assert second["data"] == {"a": "1"}


async def test_what_was_neither_applied_nor_kept_is_pruned() -> None:
    """Children of the parent only, and none that another object of the name has replaced."""
    async with server() as (client, _):
        parent, stranger = await config_map(client, "parent"), await config_map(client, "stranger")
        family = Children(client, field_manager="k").of(parent)
        live = [
            await client.create(resources.CONFIG_MAP, child(owner, name))
            for owner, name in ((parent, "a"), (parent, "b"), (parent, "c"), (stranger, "d"), (parent, "e"))
        ]
        await client.delete(resources.CONFIG_MAP, "e", "default")
        await config_map(client, "e")
        await family.apply(resources.CONFIG_MAP, child(parent, "a"), live[0])
        family.keep(resources.CONFIG_MAP, Key("default", "b"))
        assert [objects.name(each) for each in await family.prune(resources.CONFIG_MAP, live)] == ["c"]
        assert [await exists(client, name) for name in "abcde"] == [True, True, False, True, True]


@pytest.mark.parametrize("change", ["none", "spec", "deleted", "replaced"])
async def test_a_parent_is_current_as_it_was_looked_at(change: str) -> None:
    """Neither changed, nor gone, nor another of its name."""
    async with server() as (client, _):
        spec = {"selector": {"app": "a"}, "ports": [{"port": 80}]}
        document = {"metadata": {"name": "s", "namespace": "default"}, "spec": spec}
        obj = await client.create(resources.SERVICE, document)
        if change in ("deleted", "replaced"):
            await client.delete(resources.SERVICE, "s", "default")
        if change == "replaced":
            await client.create(resources.SERVICE, document)
        if change == "spec":
            obj = {**obj, "metadata": {**obj["metadata"], "generation": 7}}
        assert await children.is_current(client, resources.SERVICE, obj) is (change == "none")
