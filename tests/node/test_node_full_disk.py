"""A node whose disk is full: it starts all the same, or says in words why it cannot."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.node.conftest import IMAGE, LayoutWriter

from ondol.api import objects
from ondol.base import clock, errors
from ondol.node import agent
from ondol.node.config import NodeConfig
from ondol.node.pods import machine
from ondol.node.runtime import learn, oci

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def small_disk(node_config: NodeConfig) -> Iterator[Path]:
    """The node's data directory, on a disk of its own."""
    with mounted(node_config.data_dir, "size=1m"):
        yield node_config.data_dir


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(b"x" * 4096):
            pass


async def test_a_runtime_is_found_to_work(node_config: NodeConfig, small_disk: Path) -> None:
    """The trial of runtimes needs no room on the disk, and leaves nothing."""
    folders = oci.Folders(small_disk, node_config.run_dir)
    folders.prepare()
    fill(small_disk)
    runtime = await learn.working(folders, clock.SystemClock(), node_config.cgroup)
    assert runtime.name in ("crun", "runc")
    assert runtime.container_ids() == []
    assert not (node_config.run_dir / "trial").exists()


async def test_a_node_that_went_down_comes_up(world: Any, small_disk: Path) -> None:
    """Taking everything down and starting again need no room, and pods are driven on once there is some."""
    waiting = world.pod("a", container={"image": "missing.test/none:1"})
    async with world.node():
        await world.create(waiting)
        await world.until("a", lambda pod: "podIP" in pod["status"])
    fill(small_disk)
    agent.remove(world.config)
    async with world.node():
        pod = await world.get("a")
        assert objects.status(pod)["phase"] == "Pending"
        (small_disk / "ballast").unlink()
        await world.delete("a")


async def test_pods_end_and_go(world: Any, tools: bytes) -> None:
    """On a full disk one is deleted, another ends with its own exit code; then all is as before."""
    with mounted(world.config.data_dir, "size=24m"):
        disk = world.config.data_dir
        LayoutWriter(disk / "images").image(IMAGE, [tools], {"Cmd": ["/bin/sh"]})
        world.config = dataclasses.replace(world.config, housekeeping_interval_s=0.1)
        async with world.node():
            await world.create(world.pod("deleted", "sleep 1000"))
            ending = "while [ ! -e /go ]; do sleep 0.05; done; exit 6"
            over = await world.create(world.pod("over", ending, restartPolicy="Never"))
            again = await world.create(world.pod("again", ending))
            for name in ("deleted", "over", "again"):
                await world.ready(name)
            assert (disk / "node.reserve").stat().st_size == 1024 * 1024
            fill(disk)
            await world.delete("deleted")
            fill(disk)
            for pod in (over, again):
                (root_of(world, pod) / "go").touch()
            pod = await world.phase("over", "Failed")
            assert ended(pod)["exitCode"] == 6
            await world.delete("over")
            (disk / "ballast").unlink()
            await world.until("again", lambda pod: container(pod).get("restartCount") == 1, 30)
            await world.create(world.pod("new", "sleep 1000"))
            for name in ("again", "new"):
                await world.ready(name, 30)
            with anyio.fail_after(10):
                while not (disk / "node.reserve").exists():  # noqa: ASYNC110 - a file tells nobody
                    await anyio.sleep(0.02)
            for name in ("again", "new"):
                await world.delete(name)
            for folder in (disk / "pods").iterdir():
                await world.absent(folder)
        assert [path.name for path in disk.rglob("*.new")] == []
        agent.remove(world.config)


def container(pod: Any) -> Any:
    return objects.status(pod)["containerStatuses"][0]


def ended(pod: Any) -> Any:
    return container(pod)["state"]["terminated"]


def root_of(world: Any, pod: Any) -> Path:
    """The root of the pod's first container, as the container sees it."""
    place = world.config.data_dir / "rootfs" / machine.container_id(objects.uid(pod), "main", 0) / "root"
    return Path(place)


async def test_what_cannot_begin_is_told(node_config: NodeConfig, small_disk: Path) -> None:
    """In one line with what to do, where not even a folder can be made."""
    with mounted(small_disk / "other", "nr_inodes=1"):
        config = NodeConfig(
            instance=node_config.instance,
            name="n",
            data_dir=small_disk / "other" / "data",
            host_ip="192.0.2.2",
        )
        with pytest.raises(errors.HostError, match=r"the disk is full.*other/data") as refused:
            await agent.run(config, None, clock.SystemClock())  # type: ignore[arg-type]  # it is not come to
        assert refused.value.remedy == "free some space there"
