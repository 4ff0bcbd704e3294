"""Volumes of real pods: what they show, that they follow, and that they are given back."""

from __future__ import annotations

import dataclasses
from typing import Any

import anyio
import anyio.to_thread
import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import files
from ondol.node import agent

pytestmark = [pytest.mark.anyio, pytest.mark.root]


def state(pod: Object, index: int = 0) -> dict[str, Any]:
    container: dict[str, Any] = objects.status(pod)["containerStatuses"][index]
    return container


async def test_volumes(world: Any) -> None:
    """ConfigMap, secret, token, downward API and emptyDir (disk and memory) are where they belong."""
    client = world.client
    await client.create(
        resources.CONFIG_MAP, {"metadata": {"name": "conf", "namespace": "default"}, "data": {"a.txt": "one"}}
    )
    labels = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    volumes = [
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "me", "downwardAPI": {"items": [labels]}},
    ]
    mounts = [
        {"name": "conf", "mountPath": "/conf"},
        {"name": "conf", "mountPath": "/one.txt", "subPath": "a.txt"},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "memory", "mountPath": "/memory", "readOnly": False},
        {"name": "me", "mountPath": "/me"},
    ]
    script = (
        "cat /conf/a.txt; echo; cat /one.txt; echo; cat /me/labels; echo;"
        "echo x > /scratch/f && cat /scratch/f;"
        "echo y > /memory/f && cat /memory/f; echo z 2>/dev/null > /conf/no || echo read-only;"
        "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo;"
        'while [ "$(cat /conf/a.txt)" = one ]; do sleep 0.02; done; cat /conf/a.txt'
    )
    async with world.node():
        pod = world.pod(
            "vol", script, container={"volumeMounts": mounts}, volumes=volumes, restartPolicy="Never"
        )
        await world.create(pod)
        await world.ready("vol")
        await client.patch(resources.CONFIG_MAP, "conf", "default", patch={"data": {"a.txt": "two"}})
        await world.phase("vol", "Succeeded")
        assert (await world.log("vol")).split() == [
            *("one", "one", 'istio.io/dataplane-mode="none"', "x", "y", "read-only", "default", "two")
        ]


async def test_volumes_follow_the_pods_own_metadata(world: Any) -> None:
    """Labels and annotations that change while it runs; an annotation that comes later."""
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "flag", "fieldRef": {"fieldPath": "metadata.annotations['flag']"}},
    ]
    projected = {"sources": [{"downwardAPI": {"items": items}}]}
    volumes = [{"name": "d", "downwardAPI": {"items": items}}, {"name": "p", "projected": projected}]
    mounts = [{"name": "d", "mountPath": "/d"}, {"name": "p", "mountPath": "/p"}]
    script = (
        'while [ "$(cat /d/flag)$(cat /p/flag)" != onon ]; do sleep 0.02; done; cat /d/labels; echo;'
        "cat /p/labels"
    )
    async with world.node():
        await world.create(
            world.pod(
                "me", script, container={"volumeMounts": mounts}, volumes=volumes, restartPolicy="Never"
            )
        )
        await world.ready("me")
        change = {"metadata": {"labels": {"x": "two"}, "annotations": {"flag": "on"}}}
        await world.client.patch(resources.POD, "me", "default", patch=change)
        await world.phase("me", "Succeeded")
        assert (await world.log("me")).split() == ['istio.io/dataplane-mode="none"', 'x="two"'] * 2


async def test_no_change_of_a_volume_is_lost(world: Any) -> None:
    """Of three sources one is deleted, one changed and one created at once, again and again."""
    client = world.client

    async def put(name: str, value: str) -> None:
        data = {"metadata": {"name": name, "namespace": "default"}, "data": {"v": value}}
        await client.create(resources.CONFIG_MAP, data)

    names = ("gone", "changed", "new")
    sources = {name: {"sources": [{"configMap": {"name": name, "optional": True}}]} for name in names}
    await put("gone", "old")
    await put("changed", "old")
    async with world.node():
        volumes = [{"name": name, "projected": source} for name, source in sources.items()]
        pod = await world.create(world.pod("quick", volumes=volumes))
        await world.ready("quick")
        folder = world.config.pod_dir(objects.uid(pod)) / "volumes"

        async def shows(**values: str) -> None:
            async def current() -> dict[str, str]:
                paths = {name: folder / name / "v" for name in names}
                contents = {name: files.read(path) for name, path in paths.items()}
                return {name: content.decode() for name, content in contents.items() if content}

            with anyio.fail_after(15):
                while await current() != values:  # noqa: ASYNC110 - a file tells nobody
                    await anyio.sleep(0.01)

        for turn in range(3):
            await client.delete(resources.CONFIG_MAP, "gone", "default")
            await client.patch(resources.CONFIG_MAP, "changed", "default", patch={"data": {"v": f"{turn}"}})
            await put("new", "here")
            await shows(changed=f"{turn}", new="here")
            await client.delete(resources.CONFIG_MAP, "new", "default")
            await put("gone", "old")
            await shows(changed=f"{turn}", gone="old")


async def test_volumes_of_an_ended_pod_are_freed(world: Any) -> None:
    """Its object stays, and so do its logs; what it wrote to emptyDirs is given back."""
    mounts = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    async with world.node():
        script = "echo x > /disk/f; echo y > /memory/f; echo bye"
        pod = world.pod("over", script, volumes=volumes, restartPolicy="Never")
        # A container's folder of logs has its name, which may be that of the folder that volumes are in.
        pod["spec"]["containers"][0] |= {"name": "volumes", "volumeMounts": mounts}
        created = await world.create(pod)
        await world.phase("over", "Succeeded")
        folder = world.config.pod_dir(objects.uid(created)) / "volumes"
        await world.absent(folder / "disk")
        await world.absent(folder / "memory")
        assert await world.log("over", "volumes") == "bye\n"


async def test_a_volume_beyond_its_size_costs_the_pod(world: Any) -> None:
    """It is evicted, says why, and what it held is freed; one that stays within its limits runs on."""
    world.config = dataclasses.replace(world.config, housekeeping_interval_s=0.1)
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done > /e/f; sleep 1000"
    mount = {"volumeMounts": [{"name": "e", "mountPath": "/e"}]}
    async with world.node():
        for name, limit in (("much", "4Ki"), ("little", "1Mi")):
            volumes = [{"name": "e", "emptyDir": {"sizeLimit": limit}}]
            pod = await world.create(world.pod(name, script, container=mount, volumes=volumes))
            folder = world.config.pod_dir(objects.uid(pod)) / "volumes" / "e"
            if name == "much":
                status = objects.status(await world.phase(name, "Failed"))
                assert status["reason"] == "Evicted"
                assert status["message"] == 'Usage of EmptyDir volume "e" exceeds the limit "4Ki".'
                await world.absent(folder)
                await world.until_events(name, {"Evicted"})
        await world.ready("little")


async def test_a_new_boot_initializes_again(world: Any) -> None:
    """What init containers put into memory is gone with the machine's last run: they put it there again."""
    mounts = [{"name": "m", "mountPath": "/m"}]
    async with world.node():
        pod = world.pod("init", "cat /m/f && sleep 1000", container={"volumeMounts": mounts})
        main = pod["spec"]["containers"][0]
        first = {**main, "name": "first", "command": ["/bin/sh", "-c", "echo x > /m/f"]}
        pod["spec"] |= {"initContainers": [first]}
        pod["spec"] |= {"volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}]}
        pod = await world.create(pod)
        await world.ready("init")
    await anyio.to_thread.run_sync(agent.remove, world.config)
    async with world.node():
        read = await world.until(
            "init", lambda p: state(p)["restartCount"] == 1 and conditions.is_true(p, "Ready")
        )
        [again] = objects.status(read)["initContainerStatuses"]
        assert (again["restartCount"], again["state"]["terminated"]["reason"]) == (1, "Completed")
