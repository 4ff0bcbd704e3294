"""Claims of StatefulSets against the API server, on virtual time: made first, kept, gone by their policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.controllers import garbage, scheduler, storage
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.workloads import statefulset
from ondol.sdk import Manager

from .conftest import Disk, provision

Play = Callable[..., None]
SETS: Final = resources.STATEFUL_SET
CLAIMS: Final = resources.PERSISTENT_VOLUME_CLAIM
CONTROLLERS: Final = (statefulset.add_to, scheduler.add_to, storage.add_to)


def collect(manager: Manager) -> None:
    garbage.add_to(manager, Catalogue(manager))


def claim_template(name: str = "data") -> Object:
    demand = {"requests": {"storage": "1Gi"}}
    return {"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": demand}}


def template(**container: Any) -> Object:
    main = {"name": "c", "image": "shop:1", **container}
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [main]}}


def spec(replicas: int, **fields: Any) -> Object:
    return {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(),
        "volumeClaimTemplates": [claim_template()],
        **fields,
    }


async def start(stage: Any, *more: Any, replicas: int, **fields: Any) -> None:
    await stage.node(cpu="64")
    await provision(stage, Disk())
    await stage.run(*CONTROLLERS, *more)
    await stage.create(SETS, "web", spec=spec(replicas, **fields))
    await stage.settle()


async def patch(stage: Any, **fields: Any) -> None:
    await stage.client.patch(SETS, "web", "default", patch={"spec": fields})
    await stage.settle()


async def patch_claim(stage: Any, name: str, **metadata: Any) -> None:
    await stage.client.patch(CLAIMS, name, "default", patch={"metadata": metadata})


async def members(stage: Any) -> dict[str, Object]:
    return {objects.name(pod): pod for pod in await stage.pods()}


async def claims(stage: Any) -> dict[str, Object]:
    return {objects.name(claim): claim for claim in (await stage.client.list(CLAIMS, "default")).items}


def test_claims_come_before_the_pod_and_stay(play: Play) -> None:
    """With the selector's labels, named by template and pod; a pod made anew has the same ones."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=2, volumeClaimTemplates=[claim_template(), claim_template("logs")])
        listed = await claims(stage)
        assert sorted(listed) == ["data-web-0", "data-web-1", "logs-web-0", "logs-web-1"]
        assert all(objects.labels(claim)["app"] == "web" for claim in listed.values())
        assert not any(list(objects.owner_references(claim)) for claim in listed.values())
        volumes = (await members(stage))["web-1"]["spec"]["volumes"]
        assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}} in volumes
        assert "Create Claim data-web-0 Pod web-0 in StatefulSet web success" in await stage.events()
        for replicas in (0, 1):
            await patch(stage, replicas=replicas)
            after = await claims(stage)
            assert {objects.uid(each) for each in after.values()} == {
                objects.uid(each) for each in listed.values()
            }

    play(scene)


@pytest.mark.parametrize(
    ("policy", "scaled", "deleted"),
    [
        ({"whenDeleted": "Retain", "whenScaled": "Retain"}, 3, 3),
        ({"whenDeleted": "Delete", "whenScaled": "Retain"}, 3, 0),
        ({"whenDeleted": "Retain", "whenScaled": "Delete"}, 1, 1),
        ({"whenDeleted": "Delete", "whenScaled": "Delete"}, 1, 0),
    ],
)
def test_claims_go_by_their_policy(play: Play, policy: Object, scaled: int, deleted: int) -> None:
    """How many of three are left when the set shrinks to one, and when it is deleted."""

    async def scene(stage: Any) -> None:
        await start(stage, collect, replicas=3, persistentVolumeClaimRetentionPolicy=policy)
        assert len(await claims(stage)) == 3
        await patch(stage, replicas=1)
        assert sorted(await members(stage)) == ["web-0"]
        assert len(await claims(stage)) == scaled
        await stage.client.delete(SETS, "web", "default", propagation="Background")
        await stage.settle()
        assert await members(stage) == {}
        assert len(await claims(stage)) == deleted

    play(scene)


def test_a_changed_policy_changes_the_owners_of_claims(play: Play) -> None:
    """There and back."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=1)
        for when, kinds in (("Delete", ["StatefulSet"]), ("Retain", [])):
            policy = {"whenDeleted": when, "whenScaled": "Retain"}
            await patch(stage, persistentVolumeClaimRetentionPolicy=policy)
            claim = (await claims(stage))["data-web-0"]
            assert [each["kind"] for each in objects.owner_references(claim)] == kinds

    play(scene)


def test_claims_of_adopted_pods_go_by_the_policy_too(play: Play) -> None:
    """Those of a set that left its pods and claims, and was made anew."""

    async def scene(stage: Any) -> None:
        policy = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}}
        await start(stage, collect, replicas=2, **policy)
        await stage.client.delete(SETS, "web", "default", propagation="Orphan")
        await stage.settle()
        assert len(await claims(stage)) == 2
        await stage.create(SETS, "web", spec=spec(2, **policy))
        await stage.settle()
        await patch(stage, replicas=1)
        assert list(await claims(stage)) == ["data-web-0"]
        await stage.client.delete(SETS, "web", "default", propagation="Background")
        await stage.settle()
        assert await claims(stage) == {}

    play(scene)


def test_a_claim_of_another_controller_is_left_alone(play: Play) -> None:
    """The retention policy is ignored for it, until nobody else has it."""

    async def scene(stage: Any) -> None:
        await start(stage, collect, replicas=2)
        other = await stage.create(resources.CONFIG_MAP, "other")
        reference = objects.controller_reference({"apiVersion": "v1", "kind": "ConfigMap", **other})
        policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
        for references, left in (([reference], 2), (None, 1)):
            await patch_claim(stage, "data-web-1", ownerReferences=references)
            await patch(stage, replicas=2, persistentVolumeClaimRetentionPolicy=policy)
            await patch(stage, replicas=1)
            assert len(await claims(stage)) == left

    play(scene)


def test_a_pod_that_waits_gets_its_claim_again(play: Play) -> None:
    """One that was deleted before the pod was started."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="0")
        await provision(stage, Disk())
        await stage.run(*CONTROLLERS)
        pod = template(resources={"requests": {"cpu": "1"}})
        await stage.create(SETS, "web", spec=spec(1, template=pod))
        await stage.settle()
        claim = (await claims(stage))["data-web-0"]
        await patch_claim(stage, "data-web-0", finalizers=None)
        await stage.client.delete(CLAIMS, "data-web-0", "default")
        await stage.settle()
        assert objects.uid((await claims(stage))["data-web-0"]) != objects.uid(claim)

    play(scene)


def test_no_pod_is_made_for_a_claim_that_goes(play: Play) -> None:
    """It is told, and made when the claim is gone and made anew."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=1)
        await patch_claim(stage, "data-web-0", finalizers=["test.dev/used"])
        await stage.client.delete(CLAIMS, "data-web-0", "default")
        await stage.client.delete(resources.POD, "web-0", "default")
        await stage.settle()
        assert await members(stage) == {}
        assert await stage.events("FailedCreate") == [
            "Create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"
        ]
        await patch_claim(stage, "data-web-0", finalizers=None)
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0"]

    play(scene)
