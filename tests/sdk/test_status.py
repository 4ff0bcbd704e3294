"""How a status is written: alone its writer's part, only where it differs, on exactly the object meant."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ondol import apiserver, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client
from ondol.sdk import status
from ondol.sdk.testing import World

NOW = 1_700_000_000.0
NOW_TEXT = "2023-11-14T22:13:20Z"
SPEC = {
    "selector": {"matchLabels": {"app": "web"}},
    "template": {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "shop:1"}]},
    },
}


@asynccontextmanager
async def server() -> AsyncIterator[Client]:
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(0))
    async with World(app) as world:
        yield world.client


async def deployment(client: Client) -> Object:
    return await client.create(
        resources.DEPLOYMENT, {"metadata": {"name": "web", "namespace": "default"}, "spec": SPEC}
    )


async def live(client: Client) -> Object:
    return await client.get(resources.DEPLOYMENT, "web", "default")


def condition(type: str, status: str = "True", **more: str) -> Object:
    return {"type": type, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z", **more}


def writer(client: Client, *types: str, **options: Any) -> status.Writer:
    return status.Writer(
        client, resources.DEPLOYMENT, field_manager="controller", conditions=types, **options
    )


def types(obj: Mapping[str, Any]) -> list[str]:
    return [each["type"] for each in conditions.of(obj)]


def test_a_difference_has_what_is_otherwise() -> None:
    """Fields that are equal are left out, conditions are compared by type, whatever their order."""
    current = {"replicas": 1, "ready": 1, "conditions": [condition("B"), condition("Other"), condition("A")]}
    desired = {"replicas": 2, "ready": 1, "gone": None, "conditions": [condition("A"), condition("B")]}
    assert status.difference(current, desired, ("A", "B")) == {"replicas": 2}
    turned = {"conditions": [condition("A", "False"), condition("B")]}
    assert status.difference(current, turned, ("A", "B")) == turned
    assert status.difference(current, {"conditions": None}, ("A",)) == {"conditions": []}
    assert status.difference(current, {"ready": None}) == {"ready": None}


async def test_nothing_is_written_while_nothing_differs() -> None:
    """The version of the object stays."""
    async with server() as client:
        desired = {"replicas": 2, "readyReplicas": None, "conditions": [condition("Available")]}
        first = await writer(client, "Available").write(await deployment(client), desired)
        assert first is not None
        assert await writer(client, "Available").write(first, desired) is None
        assert objects.resource_version(await live(client)) == objects.resource_version(first)


async def test_conditions_of_others_stay() -> None:
    """Though the object was read before they were written, and a copy of an old one is in the list."""
    async with server() as client:
        obj = await deployment(client)
        others = {"status": {"conditions": [condition("Audited", reason="New")]}}
        await client.patch(
            resources.DEPLOYMENT, "web", "default", patch=others, subresource="status", field_manager="audit"
        )
        stale = {**obj, "status": {"conditions": [condition("Audited", "False")]}}
        desired = {"conditions": [condition("Audited", "False"), condition("Available")]}
        await writer(client, "Available").write(stale, desired)
        current = await live(client)
        assert conditions.get(current, "Audited") == condition("Audited", reason="New")
        assert conditions.is_true(current, "Available")


async def test_conditions_stand_in_the_order_they_are_given() -> None:
    """As a writer that moves the newest to the end wants it."""
    async with server() as client:
        own = writer(client, "A", "B", "C")
        first = await own.write(
            await deployment(client), {"conditions": [condition("A"), condition("B"), condition("C")]}
        )
        assert first is not None
        moved = [condition("B"), condition("C"), condition("A", "False")]
        await own.write(first, {"conditions": moved})
        assert list(conditions.of(await live(client))) == moved


async def test_what_is_not_said_any_more_goes() -> None:
    """Fields that are None or not named, and conditions."""
    async with server() as client:
        own = writer(client, "A", "B")
        desired: Object = {
            "replicas": 2,
            "readyReplicas": 1,
            "conditions": [condition("A", message="m"), condition("B")],
        }
        first = await own.write(await deployment(client), desired)
        assert first is not None
        await own.write(first, {"replicas": 2, "readyReplicas": None, "conditions": [condition("A")]})
        assert objects.status(await live(client)) == {"replicas": 2, "conditions": [condition("A")]}


async def test_own_fields_that_are_not_named_go_though_nothing_else_differs() -> None:
    """A writer that declares its fields need not name those that are absent, and may name no others."""
    async with server() as client:
        own = writer(client, fields=("replicas", "readyReplicas", "availableReplicas"))
        first = await own.write(await deployment(client), {"replicas": 2, "availableReplicas": 1})
        assert first is not None
        second = await own.write(first, {"replicas": 2})
        assert second is not None
        assert objects.status(await live(client)) == {"replicas": 2}
        assert await own.write(second, {"replicas": 2}) is None
        with pytest.raises(TypeError, match="no field collisionCount"):
            await own.write(second, {"collisionCount": 1})


async def test_what_an_earlier_writer_owns_as_well_goes() -> None:
    """A controller that wrote by merge patch, before an upgrade, still owns what must be absent now."""
    async with server() as client:
        await deployment(client)
        earlier: Object = {
            "replicas": 2,
            "readyReplicas": 1,
            "conditions": [condition("A", message="m"), condition("B"), condition("Other")],
        }
        obj = await client.patch(
            resources.DEPLOYMENT, "web", "default", patch={"status": earlier}, subresource="status"
        )
        desired = {"replicas": 2, "readyReplicas": None, "conditions": [condition("A")]}
        await writer(client, "A", "B").write(obj, desired)
        current = await live(client)
        assert objects.status(current) == {"replicas": 2, "conditions": [condition("A"), condition("Other")]}


async def test_a_status_lands_on_no_successor() -> None:
    """Another object of the name is a conflict, of which the queue makes another reconcile."""
    async with server() as client:
        obj = await deployment(client)
        await client.delete(resources.DEPLOYMENT, "web", "default")
        await deployment(client)
        with pytest.raises(errors.Conflict):
            await writer(client).write(obj, {"replicas": 9})
        assert objects.status(await live(client)) == {}


async def test_what_is_gone_needs_no_status() -> None:
    """It was deleted meanwhile: no error, and nothing is made."""
    async with server() as client:
        obj = await deployment(client)
        await client.delete(resources.DEPLOYMENT, "web", "default")
        desired = {"replicas": 9, "conditions": [condition("A")]}
        assert await writer(client, "A").write(obj, desired) is None
        with pytest.raises(errors.NotFound):
            await live(client)


async def test_what_others_count_down_is_written_onto_what_was_counted() -> None:
    """Onto no newer version; entries of a map that are not counted any more go, whoever wrote them."""
    async with server() as client:
        budget = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"minAvailable": 1}}
        await client.create(resources.POD_DISRUPTION_BUDGET, budget)
        counting = status.Writer(client, resources.POD_DISRUPTION_BUDGET, field_manager="controller")
        counts = {"currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "disruptionsAllowed": 1}

        async def current() -> Object:
            return await client.get(resources.POD_DISRUPTION_BUDGET, "web", "default")

        seen = await current()
        evicted = {"disruptionsAllowed": 0, "disruptedPods": {"a": NOW_TEXT, "b": NOW_TEXT}}
        await client.patch(
            resources.POD_DISRUPTION_BUDGET,
            "web",
            "default",
            patch={"status": evicted},
            subresource="status",
        )
        with pytest.raises(errors.Conflict):
            await counting.write_onto(seen, counts)
        assert (await current())["status"]["disruptionsAllowed"] == 0
        written = await counting.write_onto(await current(), {**counts, "disruptedPods": {"b": NOW_TEXT}})
        assert written is not None
        assert written["status"] == {**counts, "disruptedPods": {"b": NOW_TEXT}}
        assert await counting.write_onto(written, written["status"]) is None


async def test_a_condition_of_nobody_is_a_bug() -> None:
    """One that differs and is not declared would be dropped in silence."""
    async with server() as client:
        with pytest.raises(TypeError, match="Surprise"):
            await writer(client, "A").write(await deployment(client), {"conditions": [condition("Surprise")]})


async def test_managed_fields_tell_what_a_manager_applied() -> None:
    """Of the status, and not what it did to the rest, nor others."""
    async with server() as client:
        obj = await deployment(client)
        assert status.owned(obj, "controller") == status.Owned()
        desired = {"replicas": 1, "conditions": [condition("A")]}
        written = await writer(client, "A").write(obj, desired)
        assert written is not None
        assert status.owned(written, "controller") == status.Owned(frozenset({"replicas"}), frozenset({"A"}))
        assert status.owned(written, "test") == status.Owned()
