"""What controllers do when their cache shows what is no more: they ask before they make or take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.controllers.workloads import claims
from ondol.controllers.workloads.deployment.reconciler import Reconciler as DeploymentReconciler
from ondol.controllers.workloads.replicaset.reconciler import Reconciler as ReplicaSetReconciler

Play = Callable[..., None]
TEMPLATE: Object = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "shop:1"}]},
}
SPEC: Object = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE}


async def children(stage: Any) -> list[Object]:
    sets = (await stage.client.list(resources.REPLICA_SET, "default")).items
    return [*sets, *await stage.pods()]


@pytest.mark.parametrize("change", ["deleted", "replaced", "changed"])
def test_a_parent_that_is_no_more_gets_no_children(play: Play, change: str) -> None:
    """They would be collected and made again, as fast as both sides can, or be those of an older spec."""

    async def scene(stage: Any) -> None:
        manager = stage.manager("control")
        for resource in (resources.DEPLOYMENT, resources.REPLICA_SET):
            seen = await stage.create(resource, "web", spec=SPEC)
            if change == "changed":
                changed = {"spec": {"replicas": 0}}
                await stage.client.patch(resource, "web", "default", patch=changed)
            else:
                await stage.client.delete(resource, "web", "default")
            if change == "replaced":
                await stage.create(resource, "web", spec={**SPEC, "replicas": 0})
            before = [objects.uid(each) for each in await children(stage)]
            if resource is resources.DEPLOYMENT:
                with contextlib.suppress(errors.Conflict):  # of the status of the one that is gone
                    await DeploymentReconciler(manager)._roll(seen, None, [])
            else:
                await ReplicaSetReconciler(manager, resource)._resize(seen, [], 0.0)
            assert [objects.uid(each) for each in await children(stage)] == before

    play(scene)


def test_an_owner_that_is_gone_adopts_nothing(play: Play) -> None:
    """Else the orphan that was to survive its owner would be collected."""

    async def scene(stage: Any) -> None:
        owner = await stage.create(resources.REPLICA_SET, "web", spec=SPEC)
        orphan = await stage.create(
            resources.POD, "p", metadata={"name": "p", "labels": {"app": "web"}}, spec=TEMPLATE["spec"]
        )
        claiming = _claims(stage, orphan)
        await stage.client.delete(resources.REPLICA_SET, "web", "default")
        assert await claiming.claim(owner) == []
        assert not list(objects.owner_references(await stage.client.get(resources.POD, "p", "default")))

    play(scene)


def test_a_child_that_changed_is_looked_at_again(play: Play) -> None:
    """Not counted as missing: another would be made in its place."""

    async def scene(stage: Any) -> None:
        owner = await stage.create(resources.REPLICA_SET, "web", spec=SPEC)
        seen = await stage.create(
            resources.POD, "p", metadata={"name": "p", "labels": {"app": "web"}}, spec=TEMPLATE["spec"]
        )
        changed = {"metadata": {"annotations": {"example.com/a": "b"}}}
        await stage.client.patch(resources.POD, "p", "default", patch=changed)
        with pytest.raises(errors.Conflict):
            await _claims(stage, seen).claim(owner)

    play(scene)


def _claims(stage: Any, *cached: Object) -> claims.Claims:
    """Claims over a cache that shows these pods, as they were."""
    manager = stage.manager("stale")
    pods = manager.informer(resources.POD)
    claiming = claims.Claims(stage.client, manager.informer(resources.REPLICA_SET), pods)
    for pod in cached:
        pods._store.put(objects.key(pod), pod)
    return claiming
