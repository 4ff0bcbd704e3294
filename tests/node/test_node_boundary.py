"""The pod's boundary with real containers: what of the host a pod can reach, change or leave behind."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.node import linux
from ondol.node.images import rootfs

pytestmark = [pytest.mark.anyio, pytest.mark.root]
BURST = anyio.Path("/proc/sys/kernel/printk_ratelimit_burst")


def sysctl(name: str, value: str) -> Object:
    return {"sysctls": [{"name": name, "value": value}]}


async def tries(world: Any, name: str, script: str, **spec: Any) -> list[str]:
    """What a container printed that ran to its end."""
    await world.create(world.pod(name, script, restartPolicy="Never", **spec))
    await world.phase(name, "Succeeded")
    return list((await world.log(name)).splitlines())


async def test_a_pod_that_asks_for_the_hosts_sysctls_fails(world: Any) -> None:
    """It fails for the kubelet's reason, in its words, and the host's value stays."""
    before = await BURST.read_text()
    async with world.node():
        request = sysctl("kernel.printk_ratelimit_burst", str(int(before) + 1))
        await world.create(world.pod("greedy", securityContext=request))
        status = objects.status(await world.phase("greedy", "Failed"))
        assert status["reason"] == "SysctlForbidden"
        assert status["message"].endswith('forbidden sysctl: "kernel.printk_ratelimit_burst" not allowlisted')
        await world.until_events("greedy", {"SysctlForbidden"})
    assert await BURST.read_text() == before


async def test_sysctls_of_a_pods_own(world: Any) -> None:
    """Safe ones and those the administrator allows are set in the pod's namespaces, and in these alone."""
    world.config = dataclasses.replace(world.config, allowed_unsafe_sysctls=("kernel.msg*",))
    places = {"net.ipv4.tcp_fin_timeout": "37", "kernel.msgmax": "12345"}
    files = {name: Path("/proc/sys", name.replace(".", "/")) for name in places}
    before = {name: file.read_text() for name, file in files.items()}
    context = {"sysctls": [{"name": name, "value": value} for name, value in places.items()]}
    async with world.node():
        script = f"cat {' '.join(map(str, files.values()))}"
        assert await tries(world, "own", script, securityContext=context) == list(places.values())
    assert {name: file.read_text() for name, file in files.items()} == before


async def test_mounts_in_any_order_and_a_key_that_is_not_there(world: Any) -> None:
    """An inner mount shows whatever is listed after it; a missing key of an optional map is a folder."""
    mounts = [
        {"name": "inner", "mountPath": "/w/s"},
        {"name": "outer", "mountPath": "/w"},
        {"name": "none", "mountPath": "/conf/key", "subPath": "key"},
    ]
    volumes = [
        {
            "name": "inner",
            "downwardAPI": {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]},
        },
        {"name": "outer", "emptyDir": {}},
        {"name": "none", "configMap": {"name": "none", "optional": True}},
    ]
    async with world.node():
        script = "echo $(cat /w/s/me); ls /w; ls /conf"
        lines = await tries(world, "order", script, container={"volumeMounts": mounts}, volumes=volumes)
        assert lines == ["order", "s", "key"]


async def test_sub_paths_of_people_without_root(world: Any) -> None:
    """A subPath that was not there can be written by the pod's user, as its volume can."""
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "a/b"}]
    async with world.node():
        lines = await tries(
            world,
            "user",
            "echo x >/v/f && cat /v/f",
            container={"volumeMounts": mounts, "securityContext": {"runAsUser": 4321}},
            volumes=[{"name": "v", "emptyDir": {}}],
        )
        assert lines == ["x"]
        assert linux.mounts_below(str(world.config.run_dir / "staging")) == []


@pytest.mark.parametrize("target", ["/", "../../../../..", "/proc/self/root", "/etc"])
async def test_links_in_a_volume_lead_nowhere(world: Any, target: str) -> None:
    """A subPath over a link out of the volume is refused; so is a mount over one, or it stays inside."""
    marker = f"ondol-{os.getpid()}"
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]
    init = world.pod("x", f"ln -s {target} /v/link")["spec"]["containers"][0]
    init |= {"name": "init", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    below = {"volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "link/x"}]}
    over = {
        "volumeMounts": [
            {"name": "v", "mountPath": "/v"},
            {"name": "w", "mountPath": f"/v/link/{marker}"},
        ]
    }
    async with world.node():
        for name, container in (("below", below), ("over", over)):
            await world.create(
                world.pod(
                    name,
                    "exit 0",
                    container=container,
                    volumes=volumes,
                    initContainers=[init],
                    restartPolicy="Never",
                )
            )
        pod = await world.until("below", lambda p: "leads out" in str(objects.status(p)))
        assert "CreateContainerConfigError" in str(objects.status(pod))
        await world.until("over", lambda p: objects.status(p).get("phase") in ("Succeeded", "Failed"))
    assert not await anyio.Path("/", marker).exists()
    assert not await anyio.Path("/etc", marker).exists()


async def test_where_a_container_starts_and_what_it_leaves(world: Any) -> None:
    """A working folder and a message path that lead through links or `..` stay in the container."""
    async with world.node():
        container = {
            "workingDir": "../../../../../ondol-made/here",
            "terminationMessagePath": "/tmp/../../../../ondol-message",
        }
        script = "echo told >/ondol-message; touch made; ls /ondol-made/here"
        assert await tries(world, "start", script, container=container) == ["made"]
        ended = objects.status(await world.get("start"))["containerStatuses"][0]["state"]["terminated"]
        assert ended["message"] == "told\n"
    for name in ("ondol-made", "ondol-message"):
        assert not await anyio.Path("/", name).exists()


async def test_nothing_stays_of_containers_that_could_not_be_made(world: Any) -> None:
    """A container refused for its configuration leaves no root, no mount and no staged place behind."""
    client, node = world.client, world.config
    await client.create(
        resources.CONFIG_MAP, {"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "v"}}
    )
    bad: dict[str, Object] = {
        "nonroot": {"securityContext": {"runAsUser": 0, "runAsNonRoot": True}},
        "absolute": {
            "env": [{"name": "P", "value": "/abs"}],
            "volumeMounts": [
                {"name": "v", "mountPath": "/fine", "subPath": "k"},
                {"name": "v", "mountPath": "/v", "subPathExpr": "$(P)"},
            ],
        },
        "profile": {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "none"}}},
    }
    async with world.node():
        for name, container in bad.items():
            volumes = [{"name": "v", "configMap": {"name": "m"}}]
            await world.create(world.pod(name, container=container, volumes=volumes))
        for name in bad:
            await world.until(name, lambda p: "CreateContainerConfigError" in str(objects.status(p)))
            await world.delete(name)
    assert rootfs.existing(rootfs.RootFolders(node.data_dir / "rootfs")) == []
    assert linux.mounts_below(str(node.run_dir / "staging")) == []
    assert linux.mounts_below(str(node.data_dir)) == []


async def test_nothing_stays_of_containers_that_end_with_their_pod(world: Any) -> None:
    """What ended last is discarded before the pod is gone, though nobody waits for it any more."""
    async with world.node():
        for number in range(6):
            await world.create(world.pod(f"p{number}", "sleep 1000"))
        pods = [await world.ready(f"p{number}") for number in range(6)]
        folders = [world.config.pod_dir(objects.uid(pod)) for pod in pods]
        for number in range(6):
            await world.client.delete(resources.POD, f"p{number}", "default", grace_period_s=0)
        for number in range(6):
            await world.until_deleted(f"p{number}")
        for folder in folders:
            await world.absent(folder)
        assert rootfs.existing(rootfs.RootFolders(world.config.data_dir / "rootfs")) == []


async def test_a_pod_has_the_default_filter_and_its_own(world: Any) -> None:
    """RuntimeDefault without asking; a profile of the node's folder by name; none when it says so."""
    world.config.seccomp_dir.mkdir(parents=True)
    (world.config.seccomp_dir / "open.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    profiles: dict[str, Object | None] = {
        "usual": None,
        "local": {"type": "Localhost", "localhostProfile": "open.json"},
        "none": {"type": "Unconfined"},
    }
    modes: dict[str, str] = {}
    script = 'while read -r n v; do [ "$n" = Seccomp: ] && echo $v; done </proc/self/status; exit 0'
    async with world.node():
        for name, profile in profiles.items():
            context = {"seccompProfile": profile} if profile else {}
            (modes[name],) = await tries(world, name, script, securityContext=context)
    assert modes == {"usual": "2", "local": "2", "none": "0"}


async def test_the_processes_of_a_pod_are_limited(world: Any) -> None:
    """The limit is the pod's, set before its containers start."""
    world.config = dataclasses.replace(world.config, pod_pids_limit=77)
    async with world.node():
        await world.create(world.pod("many"))
        pod = await world.ready("many")
        group = f"{world.config.cgroup}/pod{objects.uid(pod)}/pids.max"
        places = [anyio.Path("/sys/fs/cgroup", part, group.lstrip("/")) for part in ("pids", "")]
        limits = [await place.read_text() for place in places if await place.exists()]
        assert limits == ["77\n"]
