"""Whose a name is: pods that go while nobody listens, and names that another pod has by now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.node.scene import Scene, is_absent, is_ready, phase, play

from ondol.api import objects, resources
from ondol.node.config import NodeConfig
from ondol.node.pods import storage
from ondol.node.pods.model import Attempt, Container, PodStep, Record
from ondol.node.pods.worker import PodWorker

CHANGE = {"metadata": {"labels": {"a": "b"}}}


def test_a_pod_deleted_while_a_new_agent_sorts_out_what_it_finds() -> None:
    """It was listed before and is gone after: it is ended like one that went while no agent ran."""

    async def scene(world: Scene) -> None:
        await world.pod()
        await world.until(is_ready)
        world.end_agent()
        world.node.machine.adopting_s = 10.0

        async def delete() -> None:
            await world.clock.sleep(5.0)
            await world.client.delete(resources.POD, "p", "default", grace_period_s=0)

        world._tasks_now().start_soon(delete)
        await world.start_agent()
        await world.clock.sleep(30.0)
        assert world.node.runtime.container_ids() == []
        assert world.node.machine.sandboxes == {}
        assert world.node.records.all() == []

    play(scene)


def test_a_pod_created_while_a_new_agent_sorts_out_what_it_finds() -> None:
    """It runs, and so does one that takes the name of a pod that was listed before."""

    async def scene(world: Scene) -> None:
        await world.pod()
        await world.until(is_ready)
        former = objects.uid(await world.live())
        world.end_agent()
        world.node.machine.adopting_s = 10.0

        async def recreate() -> None:
            await world.clock.sleep(5.0)
            await world.client.delete(resources.POD, "p", "default", grace_period_s=0)
            await world.pod()
            await world.pod("other")

        world._tasks_now().start_soon(recreate)
        await world.start_agent()
        await world.until(is_ready)
        await world.until(is_ready, "other")
        await world.clock.sleep(30.0)
        assert former not in world.node.machine.sandboxes
        assert len(world.node.runtime.running()) == 2

    play(scene)


@pytest.mark.parametrize("name", [step.value for step in PodStep])
def test_a_container_is_called_like_a_step_of_the_pod(name: str) -> None:
    """It is made, fails, is made again and is stopped as one with any other name."""

    async def scene(world: Scene) -> None:
        world.node.runtime.failures = {"create": 1, "start": 1}
        world.node.machine.looking_s = 2.0
        await world.pod(container={"name": name})
        await world.clock.sleep(1.0)
        assert phase(await world.live()) == "Pending"
        await world.until(is_ready)
        reasons = await world.events()
        assert "Failed" in reasons
        assert not {"FailedCreatePodSandBox", "FailedMount", "FailedKillPod"} & set(reasons)
        await world.pod("short", container={"name": name})
        await world.clock.sleep(1.0)
        await world.client.delete(resources.POD, "short", "default")
        await world.until(is_absent, "short")
        assert len(world.node.runtime.container_ids()) == 1
        assert len(world.node.machine.sandboxes) == 1

    play(scene)


@pytest.mark.parametrize("name", ["volumes", "etc", "main"])
@pytest.mark.anyio
async def test_a_container_is_called_like_a_folder_of_the_pod(name: str, tmp_path: Path) -> None:
    """What volumes hold is not counted as the container's."""
    config = NodeConfig(instance="000000", name="n", data_dir=tmp_path, host_ip="192.0.2.2")
    for folder in (config.volume_dir("u", "v"), config.etc_dir("u"), config.container_dir("u", name)):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(4096))
    attempt = Attempt(0, "id", "image", "")
    record = Record("u", "n", "p", "b", 0.0, containers={name: Container(attempt)})
    pod = {"spec": {"containers": [{"name": name}], "volumes": [{"name": "v", "emptyDir": {}}]}}
    usage = await storage.measured(config, tmp_path / "roots", pod, record)
    assert usage.containers == {name: usage.volumes["v"]}


@pytest.fixture
def defects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pods whose worker fails, once each, at its next look at them."""
    listed: list[str] = []
    original = PodWorker._facts

    async def facts(worker: PodWorker) -> Any:
        name = objects.name(worker.pod)
        if name in listed:
            listed.remove(name)
            raise RuntimeError("injected: a defect")
        return await original(worker)

    monkeypatch.setattr(PodWorker, "_facts", facts)
    return listed


def test_a_name_is_another_pods_after_a_workers_defect(defects: list[str]) -> None:
    """A StatefulSet's pod, say: the former one is ended for good, and the name leads to the new one."""

    async def scene(world: Scene) -> None:
        await world.pod("web-0")
        await world.until(is_ready, "web-0")
        defects.append("web-0")
        await world.client.patch(resources.POD, "web-0", "default", patch=CHANGE)
        await world.clock.sleep(1.0)
        assert defects == []
        await world.client.delete(resources.POD, "web-0", "default", grace_period_s=0)
        await world.pod("web-0")
        await world.clock.sleep(60.0)
        pod = await world.live("web-0")
        assert is_ready(pod)
        assert set(world.node.machine.sandboxes) == {objects.uid(pod)}
        assert len(world.node.runtime.running()) == 1
        assert [worker.uid for worker in world.workers] == [objects.uid(pod)]

    play(scene)


def test_the_name_leads_to_the_pod_that_has_it(defects: list[str]) -> None:
    """Though the worker of the one that had it was begun later, because the first one failed."""

    async def scene(world: Scene) -> None:
        world.node.machine.working_s = 3.0
        await world.pod()
        await world.until(is_ready)
        defects.append("p")
        await world.client.patch(resources.POD, "p", "default", patch=CHANGE)
        await world.clock.sleep(1.0)
        await world.client.delete(resources.POD, "p", "default", grace_period_s=0)
        await world.pod()
        await world.clock.sleep(5.0)
        assert len(list(world.workers)) == 2
        named = world.workers.named(objects.key(await world.live()))
        assert named is not None
        assert named.uid == objects.uid(await world.live())

    play(scene)


def test_a_worker_that_failed_does_not_count_against_its_own_pod(defects: list[str]) -> None:
    """The node has 40 CPUs: a pod that asks for 30 of them finds room again after a defect."""

    async def scene(world: Scene) -> None:
        defects.append("p")  # before there is a record of it
        await world.pod(container={"resources": {"requests": {"cpu": "30"}}})
        await world.until(is_ready)
        assert defects == []

    play(scene)


def test_a_pod_that_ended_meanwhile_is_not_begun_again(defects: list[str]) -> None:
    """Its worker failed, the API says that it is over, and nothing of it is here: so it stays."""

    async def scene(world: Scene) -> None:
        world.node.records.is_full = True
        defects.append("p")
        await world.pod(spec={"restartPolicy": "Never"})
        await world.clock.sleep(1.0)
        assert defects == []
        over = {"status": {"phase": "Succeeded"}}
        await world.client.patch(resources.POD, "p", "default", patch=over, subresource="status")
        world.node.records.is_full = False
        await world.clock.sleep(30.0)
        assert phase(await world.live()) == "Succeeded"
        assert list(world.workers) == []
        await world.client.delete(resources.POD, "p", "default")
        await world.until(is_absent)

    play(scene)
