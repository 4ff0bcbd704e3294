"""The folders of claims' volumes on this machine, and what a claim leads its pod to."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.node.scene import Scene, is_ready, phase, play

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.node.local_volumes import documents
from ondol.node.local_volumes.folders import Folders
from ondol.node.value_sources import PodFacts
from ondol.node.volumes import group_ownership, registry
from ondol.node.volumes.lookup import ReadObjects
from ondol.node.volumes.volume import Elsewhere, Inputs, Place, Plan, VolumeFailed, Waits

NAME = "pvc-01234567-89ab-cdef-0123-456789abcdef"
UID = NAME.removeprefix("pvc-")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_open_inside_a_closed_one(tmp_path: Path) -> None:
    """Whoever a container runs as may write there; nobody of the machine gets that far."""
    folders = Folders(tmp_path / "volumes")
    folder = folders.make(NAME)
    assert (mode(folder), mode(folder.parent)) == (0o777, 0o700)
    (folder / "f").write_text("kept")
    assert folders.make(NAME) == folder
    assert (folder / "f").read_text() == "kept"


def test_a_folder_is_marked_until_its_volume_is_there(tmp_path: Path) -> None:
    """Also for the next agent; nothing that is no volume's is taken for one."""
    folders = Folders(tmp_path / "volumes")
    assert folders.marked() == []
    folders.make(NAME)
    (tmp_path / "volumes/making/stray").touch()
    assert Folders(tmp_path / "volumes").marked() == [NAME]
    folders.keep(NAME)
    folders.keep(NAME)
    assert folders.marked() == []


@pytest.mark.parametrize("name", ["", ".", "..", "making", "pvc-1", f"../{NAME}", f"{NAME}/..", f"{NAME}\n"])
def test_no_other_folder_is_made_or_removed(tmp_path: Path, name: str) -> None:
    """Names come from objects that people may write."""
    folders = Folders(tmp_path / "volumes")
    folders.make(NAME)
    for act in (folders.make, folders.remove, folders.keep):
        with pytest.raises(errors.Invalid):
            act(name)
    assert (tmp_path / "volumes" / NAME).is_dir()


def test_links_in_a_volume_lead_removal_nowhere(tmp_path: Path) -> None:
    """What a container left behind is removed, what it pointed at is not; a second removal finds nothing."""
    folders = Folders(tmp_path / "volumes")
    folder = folders.make(NAME)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/f").touch(mode=0o000)
    (folder / "deep/out").symlink_to(outside)
    (folder / "up").symlink_to("..")
    folders.remove(NAME)
    assert not folder.exists()
    assert (outside / "precious").exists()
    assert folders.marked() == []
    folders.remove(NAME)


def test_a_link_in_the_place_of_a_volume_is_removed_itself(tmp_path: Path) -> None:
    """It is not followed."""
    folders = Folders(tmp_path / "volumes")
    folder = folders.make(NAME)
    folder.rmdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    folder.symlink_to(tmp_path / "outside")
    folders.remove(NAME)
    assert not folder.is_symlink()
    assert (tmp_path / "outside/precious").exists()


def test_a_volume_may_be_as_deep_as_a_container_likes(tmp_path: Path) -> None:
    """It can nest folders beyond what a path can name: no group is given there; it is removed."""
    folders = Folders(tmp_path / "volumes")
    folder = folders.make(NAME)
    (folder / ".removed-0").touch()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # as the agent has it, whatever other tests have made of theirs
    try:
        with pytest.raises((VolumeFailed, OSError)):
            group_ownership.give(folder, os.getgid())
    finally:
        sys.setrecursionlimit(limit)
        folders.remove(NAME)
    assert not folder.exists()


@pytest.mark.root
def test_what_is_in_a_volume_becomes_the_groups(tmp_path: Path) -> None:
    """Files and folders with their rights, links and what they lead to not; twice is as once."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "f").touch(mode=0o600)
    folder = tmp_path / "v"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/f").touch(mode=0o600)
    (folder / "sub/dir").symlink_to(outside)
    (folder / "sub/file").symlink_to(outside / "f")
    for _ in range(2):
        group_ownership.give(folder, 4321)
        for path in (folder, folder / "sub", folder / "sub/f"):
            assert path.stat().st_gid == 4321
        assert mode(folder / "sub") == 0o2775
        assert mode(folder / "sub/f") == 0o660
        assert (outside / "f").stat().st_gid == 0
        assert (mode(outside), mode(outside / "f")) == (0o700, 0o600)


def claim(**fields: Any) -> Object:
    metadata = {"name": "c", "namespace": "default", "uid": UID, **fields.pop("metadata", {})}
    spec = {"volumeName": "v", "accessModes": ["ReadWriteOnce"], **fields.pop("spec", {})}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Bound"}, **fields}


def volume(**spec: Any) -> Object:
    return {"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": UID}, **spec}}


def resolved(claimed: Object | None, bound: Object | None, source: Object | None = None) -> Plan:
    pod = {"metadata": {"name": "p", "namespace": "default", "uid": "pod"}, "spec": {}}
    lookup = ReadObjects("default")
    places: dict[tuple[Resource, Key], Object | None] = {
        (resources.PERSISTENT_VOLUME_CLAIM, Key("default", "c")): claimed,
        (resources.PERSISTENT_VOLUME_CLAIM, Key("default", "p-d")): claimed,
        (resources.PERSISTENT_VOLUME, Key("", "v")): bound,
    }
    lookup._objects = dict(places)
    kind = source or {"persistentVolumeClaim": {"claimName": "c"}}
    return registry.of({"name": "d", **kind}).resolve(Inputs(pod, lookup, PodFacts()))


@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        ({"local": {"path": "/srv/a"}}, Elsewhere(Path("/srv/a"), "Directory", takes_group=True)),
        ({"hostPath": {"path": "/srv/b", "type": "File"}}, Elsewhere(Path("/srv/b"), "File")),
        ({"hostPath": {"path": "/srv/b"}}, Elsewhere(Path("/srv/b"))),
    ],
)
def test_a_bound_claim_is_a_place_of_the_machine(spec: Object, plan: Elsewhere) -> None:
    """The group is given what is the volume's alone, not what is the machine's."""
    assert resolved(claim(), volume(**spec)) == plan


LOCAL = {"local": {"path": "/srv/a"}}


@pytest.mark.parametrize(
    ("claimed", "bound", "words"),
    [
        (None, None, 'failed to fetch PVC from API server: persistentvolumeclaims "c" not found'),
        (claim(status={"phase": "Pending"}), None, "PVC is not bound"),
        (claim(spec={"volumeName": ""}), None, "PVC has empty pvc.Spec.VolumeName"),
        (claim(metadata={"deletionTimestamp": "t"}), volume(**LOCAL), "PVC is being deleted"),
        (claim(), None, 'failed to fetch PV v from API server: persistentvolumes "v" not found'),
        (claim(), volume(**LOCAL, claimRef=None), "it has a nil pv.Spec.ClaimRef"),
        (claim(), volume(**LOCAL, claimRef={"uid": "x"}), "pv.Spec.ClaimRef.UID x does not point to"),
        (claim(), volume(nfs={"server": "s", "path": "/"}), "none of the kinds that are supported"),
        (
            claim(),
            volume(csi={"driver": "d"}),
            "none of the kinds that are supported on this node: hostPath,",
        ),
        (claim(), volume(**LOCAL, volumeMode="Block"), "volumeMode Block, which is not supported"),
        (claim(), volume(**LOCAL, mountOptions=["ro"]), "has mountOptions"),
    ],
)
def test_what_a_pod_waits_for(claimed: Object | None, bound: Object | None, words: str) -> None:
    """In the kubelet's words where it has any."""
    plan = resolved(claimed, bound)
    assert isinstance(plan, Waits)
    assert plan.message.startswith("error processing PVC default/c: ")
    assert words in plan.message


def test_an_ephemeral_volume_is_the_pods_own() -> None:
    """A claim of its name that another made is not used."""
    source: Object = {"ephemeral": {"volumeClaimTemplate": {}}}
    plan = resolved(claim(), volume(**LOCAL), source)
    assert isinstance(plan, Waits)
    assert "PVC default/c was not created for pod default/p (pod is not owner)" in plan.message
    own = claim(metadata={"ownerReferences": [{"kind": "Pod", "uid": "pod", "controller": True}]})
    assert isinstance(resolved(own, volume(**LOCAL), source), Elsewhere)


def test_a_place_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    """Nobody makes a local volume's folder at mounting: it would hide that the data is gone."""
    mounted = registry.of({"name": "d", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}})
    assert mounted.is_read_only
    with pytest.raises(VolumeFailed, match="is not a Directory"):
        mounted.place(Place(tmp_path / "none", None, "1", "Directory"), {})
    (tmp_path / "d").mkdir()
    mounted.place(Place(tmp_path / "d", None, "1", "Directory"), {})
    mounted.remove(tmp_path / "d")
    assert (tmp_path / "d").is_dir()


@pytest.mark.parametrize(
    ("spec", "storage_class", "words"),
    [
        ({}, {}, ""),
        ({"volumeMode": "Block"}, {}, "volumeMode Block"),
        ({"selector": {}}, {}, "Selector"),
        ({"volumeAttributesClassName": "x"}, {}, "volume attributes"),
        ({}, {"parameters": {"a": "b"}}, "parameters"),
        ({}, {"mountOptions": ["ro"]}, "mountOptions"),
    ],
)
def test_what_no_volume_is_made_for(spec: Object, storage_class: Object, words: str) -> None:
    """Nothing a claim or a class says is passed over."""
    refusal = documents.refusal(claim(spec=spec), storage_class)
    assert words in refusal if words else refusal == ""


@pytest.mark.parametrize(
    ("annotations", "spec", "asked"),
    [
        ({"volume.kubernetes.io/storage-provisioner": "ondol.dev/local"}, {"volumeName": ""}, True),
        ({"volume.kubernetes.io/storage-provisioner": "ondol.dev/local"}, {}, False),
        ({"volume.kubernetes.io/storage-provisioner": "x.io/y"}, {"volumeName": ""}, False),
        ({}, {"volumeName": ""}, False),
        (
            {
                "volume.kubernetes.io/storage-provisioner": "ondol.dev/local",
                "volume.kubernetes.io/selected-node": "other",
            },
            {"volumeName": ""},
            False,
        ),
    ],
)
def test_who_asks_this_node(annotations: Object, spec: Object, asked: bool) -> None:
    """A claim without a volume whose class is ours, and whose pod runs here or anywhere."""
    assert documents.is_asked(claim(metadata={"annotations": annotations}, spec=spec), "n") is asked


def test_a_pod_starts_when_its_claim_is_bound() -> None:
    """It waits until then, says for what, and mounts the place of the volume."""

    async def scene(world: Scene) -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
        metadata = {"name": "c", "namespace": "default"}
        claimed = await world.client.create(
            resources.PERSISTENT_VOLUME_CLAIM, {"metadata": metadata, "spec": spec}
        )
        await world.pod(spec={"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]})
        await world.clock.sleep(30.0)
        assert phase(await world.live()) == "Pending"
        events = (await world.client.list(resources.EVENT)).items
        assert "error processing PVC default/c: PVC is not bound" in {each["message"] for each in events}
        reference = {"namespace": "default", "name": "c", "uid": objects.uid(claimed)}
        place = {"claimRef": reference, "hostPath": {"path": "/srv/v"}, "capacity": {"storage": "1"}}
        document = {"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], **place}}
        await world.client.create(resources.PERSISTENT_VOLUME, document)
        patch: Object = {"spec": {"volumeName": "v"}}
        await world.client.patch(resources.PERSISTENT_VOLUME_CLAIM, "c", "default", patch=patch)
        patch = {"status": {"phase": "Bound"}}
        await world.client.patch(
            resources.PERSISTENT_VOLUME_CLAIM, "c", "default", patch=patch, subresource="status"
        )
        assert await world.until(is_ready) < 2.0
        assert world.node.machine.folders[objects.uid(await world.live()), "d"] == Path("/srv/v")

    play(scene)
