"""What Kubernetes' conformance suite does with the kinds of storage, while the controllers run.

The titles are those of its `[sig-storage]` tests that need no CSI driver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object, Resource
from ondol.controllers import storage

Play = Callable[..., None]
CLAIM, VOLUME, CLASS = resources.PERSISTENT_VOLUME_CLAIM, resources.PERSISTENT_VOLUME, resources.STORAGE_CLASS
LABEL: Final = {"e2e": "x"}


def of_group(plural: str, kind: str) -> Resource:
    return Resource("storage.k8s.io", "v1", plural, kind, namespaced=False)


ATTACHMENT: Final = {"attacher": "e2e.io", "nodeName": "n1", "source": {"persistentVolumeName": "v"}}
KINDS: Final = [
    pytest.param(CLASS, {"provisioner": "e2e.io", "reclaimPolicy": "Delete"}, id="StorageClass"),
    pytest.param(of_group("csinodes", "CSINode"), {"spec": {"drivers": []}}, id="csinode"),
    pytest.param(of_group("csidrivers", "CSIDriver"), {"spec": {"attachRequired": False}}, id="CSIDriver"),
    pytest.param(
        of_group("volumeattachments", "VolumeAttachment"), {"spec": ATTACHMENT}, id="VolumeAttachment"
    ),
    pytest.param(
        of_group("volumeattributesclasses", "VolumeAttributesClass"),
        {"driverName": "e2e.io", "parameters": {"a": "1"}},
        id="VolumeAttributesClass",
    ),
]


@pytest.mark.parametrize(("resource", "fields"), KINDS)
def test_should_run_through_the_lifecycle(play: Play, resource: Resource, fields: Object) -> None:
    """Created, read, listed, patched, replaced, deleted by name and by label; nothing else is touched."""

    async def scene(stage: Any) -> None:
        await stage.run(storage.add_to)
        created = await stage.create(resource, "one", metadata={"labels": LABEL}, **fields)
        assert (await stage.client.get(resource, "one"))["metadata"]["uid"] == objects.uid(created)
        patched = await stage.client.patch(
            resource, "one", patch={"metadata": {"labels": {"one": "patched"}}}
        )
        assert int(objects.resource_version(patched)) > int(objects.resource_version(created))
        selected = await stage.client.list(resource, label_selector="one=patched")
        assert [objects.name(each) for each in selected.items] == ["one"]
        replaced = {**patched, "metadata": {**patched["metadata"], "labels": {**LABEL, "one": "updated"}}}
        replaced = await stage.client.update(resource, replaced)
        assert objects.labels(replaced)["one"] == "updated"
        await stage.client.delete(resource, "one")
        assert await stage.get(resource, "one") is None
        await stage.create(resource, "two", metadata={"labels": LABEL}, **fields)
        await stage.client.delete_collection(resource, label_selector="e2e=x")
        await stage.settle()
        left = (await stage.client.list(resource)).items
        assert [objects.name(each) for each in left] == (["local"] if resource == CLASS else [])

    play(scene)


async def pair(stage: Any) -> tuple[Object, Object]:
    """A volume and the claim that it is for, of a class that does not exist."""
    size = {"storage": "1Mi"}
    volume = await stage.create(
        VOLUME,
        "e2e",
        metadata={"labels": LABEL},
        spec={
            "accessModes": ["ReadWriteOnce"],
            "capacity": size,
            "hostPath": {"path": "/tmp/e2e"},
            "storageClassName": "e2e",
            "persistentVolumeReclaimPolicy": "Retain",
        },
    )
    claim = await stage.create(
        CLAIM,
        "e2e",
        metadata={"labels": LABEL},
        spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "storageClassName": "e2e"},
    )
    return volume, claim


@pytest.mark.parametrize("by_label", [False, True])
def test_should_run_through_the_lifecycle_of_a_pv_and_a_pvc(play: Play, *, by_label: bool) -> None:
    """Both are bound, labelled, and go when they are deleted, by name or by label."""

    async def scene(stage: Any) -> None:
        await stage.run(storage.add_to)
        for each in await pair(stage):
            assert objects.resource_version(each)
        await stage.settle()
        for resource, namespace in ((VOLUME, ""), (CLAIM, "default")):
            patch = {"metadata": {"labels": {"e2e": "patched"}}}
            patched = await stage.client.patch(resource, "e2e", namespace, patch=patch)
            assert objects.labels(patched) == {"e2e": "patched"}
            assert (objects.status(patched)["phase"], objects.name(patched)) == ("Bound", "e2e")
        for resource, namespace in ((CLAIM, "default"), (VOLUME, "")):
            if by_label:
                await stage.client.delete_collection(resource, namespace, label_selector="e2e=patched")
            else:
                await stage.client.delete(resource, "e2e", namespace)
            await stage.settle()
            assert await stage.get(resource, "e2e", namespace) is None

    play(scene)


def test_should_apply_changes_to_a_pv_pvc_status(play: Play) -> None:
    """What is patched and replaced there stays, beside what the controllers say."""

    async def scene(stage: Any) -> None:
        await stage.run(storage.add_to)
        await pair(stage)
        await stage.settle()
        condition = {"type": "StatusPatched", "status": "True", "reason": "E2E patchStatus", "message": "m"}
        await stage.client.patch(
            CLAIM, "e2e", "default", patch={"status": {"conditions": [condition]}}, subresource="status"
        )
        words = {"reason": "E2E patchStatus", "message": "StatusPatched"}
        await stage.client.patch(VOLUME, "e2e", patch={"status": words}, subresource="status")
        await stage.settle()
        claim = await stage.client.get(CLAIM, "e2e", "default")
        assert (objects.status(claim)["phase"], conditions.is_true(claim, "StatusPatched")) == ("Bound", True)
        volume = await stage.client.get(VOLUME, "e2e")
        assert {field: volume["status"][field] for field in words} == words
        assert volume["status"]["phase"] == "Bound"
        again = {**volume, "status": {**volume["status"], "message": "StatusUpdated"}}
        await stage.client.update(VOLUME, again, subresource="status")
        await stage.settle()
        assert (await stage.client.get(VOLUME, "e2e"))["status"]["message"] == "StatusUpdated"

    play(scene)


def test_should_apply_changes_to_a_volumeattachment_status(play: Play) -> None:
    """An attacher says there what it did."""

    async def scene(stage: Any) -> None:
        resource = of_group("volumeattachments", "VolumeAttachment")
        await stage.create(resource, "a", spec=ATTACHMENT)
        status = {"attached": True, "attachmentMetadata": {"a": "b"}}
        await stage.client.patch(resource, "a", patch={"status": status}, subresource="status")
        assert (await stage.client.get(resource, "a"))["status"] == status

    play(scene)
