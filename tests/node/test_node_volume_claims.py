"""A volume that other objects lead to: a claim, the store it is bound to, the store's place on the machine.

The kind is a toy, so that it leads where the test wants; what it stands on is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.node.scene import Scene, is_absent, is_ready, phase, play

import ondol.node.volumes
from ondol import sdk
from ondol.api import objects, resources, volume_kinds
from ondol.api.objects import Object, Resource
from ondol.node.volumes import registry

CLAIM = Resource("toy.example", "v1", "claims", "Claim")
STORE = Resource("toy.example", "v1", "stores", "Store", namespaced=False)
VOLUMES = [{"name": "data", "photonPersistentDisk": {"pdID": "c"}}, {"name": "room", "emptyDir": {}}]

TOY = """
from pathlib import Path

from ondol.api.objects import Resource
from ondol.node.volumes.volume import Elsewhere, OwnFolder, Waits

CLAIM = Resource("toy.example", "v1", "claims", "Claim")
STORE = Resource("toy.example", "v1", "stores", "Store", namespaced=False)


class ClaimVolume(OwnFolder):
    def resolve(self, inputs):
        name = self.source["pdID"]
        claim = inputs.lookup.get(CLAIM, name)
        if claim is None:
            return Waits(f'claim "{name}" not found')
        bound = claim["spec"].get("storeName")
        if not bound:
            return Waits(f'claim "{name}" is not bound')
        store = inputs.lookup.get(STORE, bound)
        if store is None:
            return Waits(f'store "{bound}" not found')
        return Elsewhere(Path(store["spec"]["path"]))

    def place(self, at, files):
        assert at.folder.is_dir()

    def remove(self, folder):
        pass


KIND = ClaimVolume
"""


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kind, as a contributor adds it."""
    (tmp_path / "photon_persistent_disk.py").write_text(TOY)
    monkeypatch.setattr(ondol.node.volumes, "__path__", [*ondol.node.volumes.__path__, str(tmp_path)])
    monkeypatch.setattr(volume_kinds, "KINDS", (*volume_kinds.KINDS, "photonPersistentDisk"))
    registry.load.cache_clear()
    yield
    registry.load.cache_clear()


def crd(resource: Resource) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.group_resource},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {"plural": resource.plural, "kind": resource.kind, "singular": resource.kind.lower()},
            "versions": [version],
        },
    }


async def install(world: Scene) -> None:
    await sdk.install_crds(world.client, [crd(CLAIM), crd(STORE)], clock=world.clock)


async def claim(world: Scene, **spec: str) -> None:
    await world.client.create(CLAIM, {"metadata": {"name": "c", "namespace": "default"}, "spec": spec})


async def store(world: Scene, name: str = "s", path: str = "/srv/s") -> None:
    await world.client.create(STORE, {"metadata": {"name": name}, "spec": {"path": path}})


async def reasons(world: Scene) -> set[tuple[str, str]]:
    await world.clock.sleep(5.0)
    listed = (await world.client.list(resources.EVENT)).items
    return {(event["reason"], event["message"]) for event in listed}


def test_a_claim_that_is_bound_later_starts_its_pod() -> None:
    """Until then the pod waits, and its event says for what; then it starts at once."""

    async def scene(world: Scene) -> None:
        await install(world)
        await claim(world)
        await world.pod(spec={"volumes": VOLUMES})
        await world.clock.sleep(60.0)
        uid = objects.uid(await world.live())
        assert phase(await world.live()) == "Pending"
        assert world.node.runtime.container_ids() == []
        assert ("FailedMount", 'claim "c" is not bound') in await reasons(world)
        assert set(world.node.machine.volumes[uid]) == {"room"}  # what waits for nothing is there
        await store(world)
        await world.client.patch(CLAIM, "c", "default", patch={"spec": {"storeName": "s"}})
        assert await world.until(is_ready) < 2.0
        assert world.node.machine.folders[uid, "data"] == Path("/srv/s")

    play(scene)


def test_what_a_claim_leads_to_is_followed_too() -> None:
    """The store comes after the claim was bound to it; nothing of the pod names it."""

    async def scene(world: Scene) -> None:
        await install(world)
        await claim(world, storeName="s")
        await world.pod(spec={"volumes": VOLUMES})
        await world.clock.sleep(60.0)
        assert ("FailedMount", 'store "s" not found') in await reasons(world)
        await store(world)
        assert await world.until(is_ready) < 2.0

    play(scene)


def test_a_placed_volume_stays_where_it_is() -> None:
    """Containers have it mounted: whatever the claim says later, over restarts of the agent too."""

    async def scene(world: Scene) -> None:
        await install(world)
        await store(world)
        await store(world, "other", "/srv/other")
        await claim(world, storeName="s")
        await world.pod(spec={"volumes": VOLUMES})
        await world.until(is_ready)
        uid = objects.uid(await world.live())
        await world.client.patch(CLAIM, "c", "default", patch={"spec": {"storeName": "other"}})
        await world.clock.sleep(10.0)
        world.end_agent()
        await world.start_agent()
        await world.clock.sleep(10.0)
        assert world.node.machine.folders[uid, "data"] == Path("/srv/s")
        assert is_ready(await world.live())

    play(scene)


@pytest.mark.parametrize("sandbox_failures", [0, 99], ids=["with a sandbox", "before it has one"])
def test_what_was_begun_is_removed_though_the_pod_never_ran(sandbox_failures: int) -> None:
    """Of a pod that is deleted while one of its volumes waits, each other one is removed, once."""

    async def scene(world: Scene) -> None:
        await install(world)
        world.node.machine.failures = {"sandbox": sandbox_failures}
        await world.pod(spec={"volumes": VOLUMES})
        await world.clock.sleep(30.0)
        uid = objects.uid(await world.live())
        assert world.node.machine.removed == []
        world.node.machine.failures = {"removal": 2}
        await world.client.delete(resources.POD, "p", "default")
        await world.until(is_absent)
        assert world.node.machine.removed == [(uid, "room")]
        assert world.node.machine.volumes == {}

    play(scene)


def test_a_volume_that_was_begun_and_failed_is_removed() -> None:
    """It may be half made."""

    async def scene(world: Scene) -> None:
        world.node.machine.failures = {"volumes": 999}
        await world.pod(spec={"volumes": [{"name": "room", "emptyDir": {}}]})
        await world.clock.sleep(30.0)
        uid = objects.uid(await world.live())
        await world.client.delete(resources.POD, "p", "default")
        await world.until(is_absent)
        assert world.node.machine.removed == [(uid, "room")]

    play(scene)


def test_volumes_of_a_pod_that_went_while_no_agent_ran() -> None:
    """The new agent never sees the pod, and removes by the record what was begun for it."""

    async def scene(world: Scene) -> None:
        await install(world)
        await store(world)
        await claim(world, storeName="s")
        await world.pod(spec={"volumes": VOLUMES})
        await world.until(is_ready)
        uid = objects.uid(await world.live())
        world.end_agent()
        await world.client.delete(resources.POD, "p", "default", grace_period_s=0)
        await world.start_agent()
        await world.clock.sleep(10.0)
        assert world.node.machine.removed == [(uid, "data"), (uid, "room")]
        assert world.node.records.all() == []

    play(scene)


def test_nothing_is_made_of_a_volume_that_could_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk there is no record of it, also not at the second try; with room again it is made."""

    async def scene(world: Scene) -> None:
        calls: list[Any] = []
        original = world.node.machine.put_volume

        async def put_volume(*about: Any, **more: Any) -> None:
            calls.append(about)
            await original(*about, **more)

        monkeypatch.setattr(world.node.machine, "put_volume", put_volume)
        world.node.records.is_full = True
        await world.pod(spec={"volumes": [{"name": "room", "emptyDir": {}}]})
        await world.clock.sleep(60.0)
        assert calls == []
        world.node.records.is_full = False
        await world.until(is_ready, limit_s=30.0)

    play(scene)


def test_a_record_of_an_earlier_version_names_no_volumes() -> None:
    """They are placed anew, where they are already; what runs runs on, and all is removed in the end."""

    async def scene(world: Scene) -> None:
        await world.pod(spec={"volumes": [{"name": "room", "emptyDir": {}}]})
        await world.until(is_ready)
        uid, running = objects.uid(await world.live()), world.node.runtime.running()
        world.end_agent()
        (record,) = world.node.records.all()
        world.node.records.save(msgspec.structs.replace(record, volumes={}))
        await world.start_agent()
        await world.clock.sleep(10.0)
        assert world.node.runtime.running() == running
        assert is_ready(await world.live())
        await world.client.delete(resources.POD, "p", "default")
        await world.until(is_absent)
        assert world.node.machine.removed == [(uid, "room")]

    play(scene)
