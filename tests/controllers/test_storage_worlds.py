"""Claims, volumes, the provisioner and the scheduler against the API server, with faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.controllers import garbage, scheduler, storage
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.storage import default_class
from ondol.sdk.testing.faults import Faults, rough

from .conftest import Disk, provision

Play = Callable[..., None]
CLAIM, VOLUME, CLASS = resources.PERSISTENT_VOLUME_CLAIM, resources.PERSISTENT_VOLUME, resources.STORAGE_CLASS


async def begin(stage: Any, disk: Disk, *, kubelet: bool = True) -> None:
    await stage.node()
    await provision(stage, disk)
    await stage.run(
        storage.add_to,
        scheduler.add_to,
        lambda manager: garbage.add_to(manager, Catalogue(manager)),
        kubelet=kubelet,
    )
    await stage.settle()


async def claim(stage: Any, name: str, size: str = "1Gi", **spec: Any) -> Object:
    own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    created: Object = await stage.create(CLAIM, name, spec=own)
    return created


async def volume(stage: Any, name: str, size: str = "1Gi", **spec: Any) -> None:
    own = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/srv"}}
    await stage.create(VOLUME, name, spec={**own, **spec})


async def pod(stage: Any, name: str, *claims: str, **spec: Any) -> None:
    listed = [{"name": f"v{i}", "persistentVolumeClaim": {"claimName": c}} for i, c in enumerate(claims)]
    containers = [{"name": "c", "image": "i"}]
    await stage.create(
        resources.POD, name, spec={"containers": containers, "volumes": [*listed, *spec.pop("volumes", ())]}
    )


async def phase(stage: Any, resource: Any, name: str) -> str:
    live = await stage.get(resource, name, "default" if resource.namespaced else "")
    return str(objects.status(live)["phase"]) if live else "gone"


async def of(stage: Any, name: str) -> Object:
    live: Object = await stage.client.get(CLAIM, name, "default")
    return live


async def scheduled(stage: Any, name: str) -> str:
    """The node of a pod, or why it has none."""
    live = await stage.client.get(resources.POD, name, "default")
    return str(
        objects.spec(live).get("nodeName") or (conditions.get(live, "PodScheduled") or {}).get("message")
    )


async def check(stage: Any, disk: Disk) -> None:
    """No volume is two claims', each bound claim has its volume, and folders and volumes are the same."""
    volumes = (await stage.client.list(VOLUME)).items
    claims = (await stage.client.list(CLAIM)).items
    by_name = {objects.name(each): each for each in volumes}
    named = [objects.spec(each)["volumeName"] for each in claims if objects.spec(each).get("volumeName")]
    assert len(named) == len(set(named))
    for each in claims:
        if objects.status(each)["phase"] == "Bound":
            reference = objects.spec(by_name[objects.spec(each)["volumeName"]])["claimRef"]
            assert reference["uid"] == objects.uid(each)
    own = {name for name in by_name if name.startswith("pvc-")}
    assert own == disk.folders
    assert disk.marks == set()


def test_the_default_class_is_made_once(play: Play) -> None:
    """Who deletes it has none, also after a restart."""

    async def scene(stage: Any) -> None:
        await stage.run(storage.add_to)
        await stage.settle()
        live = await stage.client.get(CLASS, "local")
        assert objects.annotations(live)["storageclass.kubernetes.io/is-default-class"] == "true"
        await stage.client.delete(CLASS, "local")
        await stage.run(storage.add_to, kubelet=False)
        await stage.settle()
        assert await stage.get(CLASS, "local") is None
        namespace = await stage.client.get(resources.NAMESPACE, "ondol-system")
        assert default_class.MARK in objects.annotations(namespace)

    play(scene)


def test_a_claim_waits_for_its_pod_and_is_provided_for(play: Play) -> None:
    """The pod's node is the volume's; with the claim the volume and its folder go."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        await claim(stage, "data")
        await stage.settle()
        assert await phase(stage, CLAIM, "data") == "Pending"
        text = "waiting for first consumer to be created before binding"
        assert await stage.events("WaitForFirstConsumer") == [text]
        await pod(stage, "p", "data")
        await stage.settle()
        live = await of(stage, "data")
        assert await scheduled(stage, "p") == "n1"
        assert objects.status(live) == {
            "phase": "Bound",
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
        }
        assert objects.annotations(live)["volume.kubernetes.io/selected-node"] == "n1"
        assert disk.folders == {f"pvc-{objects.uid(live)}"}
        await check(stage, disk)
        await stage.client.delete(CLAIM, "data", "default")
        await stage.settle()
        assert await phase(stage, CLAIM, "data") == "Bound"  # a pod uses it
        await stage.client.delete(resources.POD, "p", "default")
        await stage.settle()
        assert await phase(stage, CLAIM, "data") == "gone"
        assert (await stage.client.list(VOLUME)).items == []
        assert disk.folders == set()

    play(scene)


@pytest.mark.parametrize("seed", range(6))
def test_claims_and_volumes_on_a_bad_day(play: Play, seed: int) -> None:
    """Static and provisioned ones, made and deleted all at once; then all is quiet and as it should be."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        immediate = {"provisioner": "ondol.dev/local", "volumeBindingMode": "Immediate"}
        await stage.create(CLASS, "now", **immediate)
        for number in range(4):
            await volume(stage, f"static-{number}", f"{number + 1}Gi", storageClassName="manual")
            await claim(stage, f"manual-{number}", storageClassName="manual")
            await claim(stage, f"now-{number}", storageClassName="now")
            await claim(stage, f"late-{number}")
            await pod(stage, f"p{number}", f"late-{number}", f"now-{number}")
        disk.failures = 2
        await stage.advance(seed * 1.5)
        for number in range(2):
            await stage.client.delete(resources.POD, f"p{number}", "default")
            await stage.client.delete(CLAIM, f"late-{number}", "default")
            await stage.client.delete(CLAIM, f"now-{number}", "default")
        await stage.advance(60.0)
        stage.faults.heal()
        await stage.settle(10.0)
        await check(stage, disk)
        phases = {
            objects.name(each): each["status"]["phase"] for each in (await stage.client.list(CLAIM)).items
        }
        expected = [f"manual-{n}" for n in range(4)] + [
            f"{kind}-{n}" for kind in ("now", "late") for n in (2, 3)
        ]
        assert phases == dict.fromkeys(expected, "Bound")
        assert {await scheduled(stage, f"p{n}") for n in (2, 3)} == {"n1"}
        bound = {objects.name(each) for each in (await stage.client.list(VOLUME)).items}
        assert not bound & set(disk.removed)

    play(scene, seed=seed, faults=rough())


def test_two_claims_and_one_volume(play: Play) -> None:
    """One of them has it; the other says why it has none, and takes it once the first is forgotten."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        for name in ("a", "b"):
            await claim(stage, name, storageClassName="")
        await volume(stage, "v")
        await stage.settle()
        phases = {name: await phase(stage, CLAIM, name) for name in ("a", "b")}
        assert sorted(phases.values()) == ["Bound", "Pending"]
        text = "no persistent volumes available for this claim and no storage class is set"
        assert text in await stage.events("FailedBinding")
        first = next(name for name in phases if phases[name] == "Bound")
        await stage.client.delete(CLAIM, first, "default")
        await stage.settle()
        assert await phase(stage, VOLUME, "v") == "Released"
        await stage.client.patch(VOLUME, "v", patch={"spec": {"claimRef": None}})
        await stage.settle()
        assert {await phase(stage, CLAIM, name) for name in ("a", "b")} == {"Bound", "gone"}

    play(scene)


def test_reservations_both_ways(play: Play) -> None:
    """A volume for a claim of a name, a claim that names its volume; a volume of somebody else is refused."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await volume(stage, "kept", claimRef={"namespace": "default", "name": "mine"})
        await volume(stage, "named", storageClassName="x")
        await claim(stage, "other", storageClassName="")
        await stage.settle()
        assert await phase(stage, VOLUME, "kept") == "Available"
        assert await phase(stage, CLAIM, "other") == "Pending"
        await claim(stage, "mine", storageClassName="")
        await claim(stage, "by-name", storageClassName="x", volumeName="named")
        await claim(stage, "too-late", storageClassName="", volumeName="kept")
        await claim(stage, "too-large", "9Gi", storageClassName="", volumeName="spare")
        await volume(stage, "spare")
        await stage.settle()
        for name, its in (("mine", "kept"), ("by-name", "named")):
            assert await phase(stage, CLAIM, name) == "Bound"
            assert objects.spec(await of(stage, name))["volumeName"] == its
        assert 'volume "kept" already bound to a different claim.' in await stage.events("FailedBinding")
        refused = 'Cannot bind to requested volume "spare": requested PV is too small'
        assert refused in await stage.events("VolumeMismatch")

    play(scene)


@pytest.mark.parametrize(
    ("policy", "expected", "message"),
    [
        ("Retain", "Released", None),
        (
            "Delete",
            "Failed",
            'error getting deleter volume plugin for volume "v": no deletable volume plugin matched',
        ),
        ("Recycle", "Failed", "No recycler plugin found for the volume!"),
    ],
)
def test_what_becomes_of_a_volume_of_a_person(
    play: Play, policy: str, expected: str, message: str | None
) -> None:
    """Nobody deletes or empties what was not made here; it says so."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await volume(stage, "v", persistentVolumeReclaimPolicy=policy)
        await claim(stage, "a", storageClassName="")
        await stage.settle()
        assert await phase(stage, CLAIM, "a") == "Bound"
        await stage.client.delete(CLAIM, "a", "default")
        await stage.settle()
        live = await stage.client.get(VOLUME, "v")
        assert (live["status"]["phase"], live["status"].get("message")) == (expected, message)

    play(scene)


def test_a_provisioned_volume_that_is_to_be_kept(play: Play) -> None:
    """Its folder stays, also when the volume itself is deleted."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        keeping = {"provisioner": "ondol.dev/local", "reclaimPolicy": "Retain"}
        await stage.create(CLASS, "keep", **keeping)
        uid = objects.uid(await claim(stage, "a", storageClassName="keep"))
        await stage.settle()
        assert await phase(stage, VOLUME, f"pvc-{uid}") == "Bound"
        await stage.client.delete(VOLUME, f"pvc-{uid}")
        await stage.settle()
        assert await phase(stage, VOLUME, f"pvc-{uid}") == "Bound"  # its claim has it
        await stage.client.delete(CLAIM, "a", "default")
        await stage.settle()
        assert await phase(stage, VOLUME, f"pvc-{uid}") == "gone"
        assert disk.folders == {f"pvc-{uid}"}
        assert disk.removed == []

    play(scene)


def test_a_claim_whose_volume_is_gone_is_lost(play: Play) -> None:
    """Force takes a volume from under its claim: that stays and says so."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await volume(stage, "v")
        await claim(stage, "a", storageClassName="")
        await stage.settle()
        await stage.client.delete(VOLUME, "v")
        await stage.client.patch(VOLUME, "v", patch={"metadata": {"finalizers": None}})
        await stage.settle()
        assert await phase(stage, CLAIM, "a") == "Lost"
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        assert await stage.events("ClaimLost") == [text]

    play(scene)


def test_a_claim_that_came_before_the_default_class(play: Play) -> None:
    """It gets the class as soon as there is one."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await stage.client.delete(CLASS, "local")
        await claim(stage, "early")
        await claim(stage, "none", storageClassName="")
        await stage.settle()
        mark = {"storageclass.kubernetes.io/is-default-class": "true"}
        await stage.create(CLASS, "later", metadata={"annotations": mark}, provisioner="ondol.dev/local")
        await stage.settle()
        assert await phase(stage, CLAIM, "early") == "Bound"
        assert objects.spec(await of(stage, "early"))["storageClassName"] == "later"
        assert await phase(stage, CLAIM, "none") == "Pending"

    play(scene)


def test_claims_grow(play: Play) -> None:
    """The volume first, then what the claim says it has."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await claim(stage, "a")
        await pod(stage, "p", "a")
        await stage.settle()
        larger = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
        await stage.client.patch(CLAIM, "a", "default", patch=larger)
        await stage.settle()
        live = await of(stage, "a")
        assert objects.status(live)["capacity"] == {"storage": "3Gi"}
        own = await stage.client.get(VOLUME, objects.spec(live)["volumeName"])
        assert objects.spec(own)["capacity"] == {"storage": "3Gi"}
        smaller = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        with pytest.raises(errors.Invalid, match=r"field can not be less than status\.capacity"):
            await stage.client.patch(CLAIM, "a", "default", patch=smaller)

    play(scene)


def test_a_class_of_another_provisioner_is_left_to_it(play: Play) -> None:
    """The claim says for whom it waits, and the pod with it; so does one of a class that is not there."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        await stage.create(CLASS, "far", provisioner="csi.example.com")
        await claim(stage, "a", storageClassName="far")
        await claim(stage, "b", storageClassName="absent")
        await pod(stage, "p", "a")
        await stage.settle()
        assert disk.folders == set()
        (text,) = await stage.events("ExternalProvisioning")
        assert text.startswith(
            "Waiting for a volume to be created either by the external provisioner 'csi.exa"
        )
        live = await of(stage, "a")
        assert objects.annotations(live)["volume.kubernetes.io/storage-provisioner"] == "csi.example.com"
        assert await stage.events("ProvisioningFailed") == ['storageclass.storage.k8s.io "absent" not found']
        message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        assert await scheduled(stage, "p") == message

    play(scene)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"volumeMode": "Block"}, "ondol.dev/local makes no volumes of volumeMode Block"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "claim Selector is not supported"),
    ],
)
def test_what_the_provisioner_cannot_make(play: Play, spec: Object, message: str) -> None:
    """It says so, and makes nothing."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        await claim(stage, "a", **spec)
        await pod(stage, "p", "a")
        await stage.settle()
        failed = f'failed to provision volume with StorageClass "local": {message}'
        assert await stage.events("ProvisioningFailed") == [failed]
        assert disk.folders == set()

    play(scene, faults=Faults(latency_s=0.2))  # events of one object at one instant have one name


def test_pods_wait_for_their_claims(play: Play) -> None:
    """For one that is not there, one that is going, one that another pod has for itself alone."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await pod(stage, "p", "absent")
        await stage.settle()
        reason = "0/1 nodes are available: {}."
        assert await scheduled(stage, "p") == reason.format('persistentvolumeclaim "absent" not found')
        await claim(stage, "absent", accessModes=["ReadWriteOncePod"])
        await stage.settle()
        assert await scheduled(stage, "p") == "n1"
        await pod(stage, "second", "absent")
        await stage.settle()
        assert "ReadWriteOncePod access mode already in-use by another pod" in await scheduled(
            stage, "second"
        )
        await stage.client.delete(resources.POD, "p", "default")
        await stage.settle()
        assert await scheduled(stage, "second") == "n1"
        await stage.client.delete(CLAIM, "absent", "default")
        await pod(stage, "third", "absent")
        await stage.settle()
        expected = reason.format('persistentvolumeclaim "absent" is being deleted')
        assert await scheduled(stage, "third") == expected

    play(scene)


def test_a_pod_goes_where_its_volume_is(play: Play) -> None:
    """Volumes of one node, also those that are reserved while the pod is scheduled."""

    async def scene(stage: Any) -> None:
        await begin(stage, Disk())
        await stage.node("n0", cpu="99")
        delayed = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
        await stage.create(CLASS, "static", **delayed)
        await claim(stage, "a", storageClassName="static")
        await pod(stage, "p", "a")
        await stage.settle()
        text = (
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. "
            "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )
        assert await scheduled(stage, "p") == text
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
        await volume(stage, "v", storageClassName="static", nodeAffinity=affinity)
        await stage.settle()
        assert await scheduled(stage, "p") == "n1"
        assert await phase(stage, CLAIM, "a") == "Bound"
        await stage.client.patch(resources.NODE, "n1", patch={"spec": {"unschedulable": True}})
        await pod(stage, "q", "a")
        await stage.settle()
        assert "1 node(s) didn't match PersistentVolume's node affinity" in await scheduled(stage, "q")

    play(scene)


def test_ephemeral_volumes_live_with_their_pod(play: Play) -> None:
    """The claim is the pod's; one that somebody else made under its name is not touched."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        await begin(stage, disk)
        template = {
            "metadata": {"labels": {"k": "v"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        }
        own = {"name": "own", "ephemeral": {"volumeClaimTemplate": template}}
        await claim(stage, "q-own")
        await pod(stage, "p", volumes=[own])
        await pod(stage, "q", volumes=[own])
        await stage.settle()
        live = await of(stage, "p-own")
        assert objects.labels(live) == {"k": "v"}
        assert await scheduled(stage, "p") == "n1"
        assert len(disk.folders) == 1
        not_its = "PVC default/q-own was not created for pod default/q (pod is not owner)"
        assert await scheduled(stage, "q") == f"0/1 nodes are available: {not_its}."
        assert f"ephemeral volume own: {not_its}" in await stage.events("FailedBinding")
        await stage.client.delete(resources.POD, "p", "default")
        await stage.advance(30.0)
        assert await phase(stage, CLAIM, "p-own") == "gone"
        await stage.advance(30.0)
        assert disk.folders == set()

    play(scene)


def test_what_was_begun_for_a_claim_that_went_is_removed(play: Play) -> None:
    """A folder is marked until the server has its volume."""

    async def scene(stage: Any) -> None:
        disk = Disk()
        name = "pvc-00000000-0000-0000-0000-000000000000"
        disk.folders.add(name)
        disk.marks.add(name)
        await begin(stage, disk)
        await stage.advance(10.0)
        assert disk.removed == [name]
        assert (disk.folders, disk.marks) == (set(), set())

    play(scene)
