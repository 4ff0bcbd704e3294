"""ResourceQuotas against the API server: their status is what there is, soon after it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.controllers import quota
from ondol.controllers.catalogue import Catalogue

Play = Callable[..., None]


def counter(manager: Any) -> None:
    quota.add_to(manager, Catalogue(manager))


async def _used(stage: Any, name: str = "q") -> Object:
    await stage.settle()
    counted = await stage.client.get(resources.RESOURCE_QUOTA, name, "default")
    status = objects.status(counted)
    assert status["hard"] == objects.spec(counted)["hard"]
    used: Object = status["used"]
    return used


def _pod(requests: dict[str, str]) -> Object:
    return {"containers": [{"name": "main", "image": "i", "resources": {"requests": requests}}]}


def test_a_quota_shows_what_is_used(play: Play) -> None:
    """Of pods their requests, of other kinds their number; it follows what comes, ends and goes."""

    async def scene(stage: Any) -> None:
        await stage.run(counter)
        hard = {"pods": "5", "requests.memory": "4Gi", "count/secrets": "5"}
        await stage.create(resources.RESOURCE_QUOTA, "q", spec={"hard": hard})
        assert await _used(stage) == {"pods": "0", "requests.memory": "0", "count/secrets": "0"}
        for name in ("a", "b"):
            await stage.create(resources.POD, name, spec=_pod({"memory": "512Mi"}))
        await stage.create(resources.SECRET, "s")
        assert await _used(stage) == {"pods": "2", "requests.memory": "1Gi", "count/secrets": "1"}
        over = {"status": {"phase": "Succeeded"}}
        await stage.client.patch(resources.POD, "a", "default", patch=over, subresource="status")
        await stage.client.delete(resources.SECRET, "s", "default")
        assert await _used(stage) == {"pods": "1", "requests.memory": "512Mi", "count/secrets": "0"}
        await stage.client.delete(resources.POD, "b", "default")
        assert await _used(stage) == {"pods": "0", "requests.memory": "0", "count/secrets": "0"}

    play(scene)


def test_a_quota_that_changes_counts_anew(play: Play) -> None:
    """What it no longer limits is no longer shown."""

    async def scene(stage: Any) -> None:
        await stage.run(counter)
        await stage.create(resources.CONFIG_MAP, "c")
        await stage.create(resources.RESOURCE_QUOTA, "q", spec={"hard": {"pods": "1"}})
        assert await _used(stage) == {"pods": "0"}
        change = {"spec": {"hard": {"pods": None, "configmaps": "3"}}}
        await stage.client.patch(resources.RESOURCE_QUOTA, "q", "default", patch=change)
        assert await _used(stage) == {"configmaps": "1"}

    play(scene)
