"""Whose processes a container sees: containers that are added to a pod, and pods that share a namespace."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.client import PatchType
from ondol.node.pods import shared_processes
from ondol.node.runtime import pause

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def _added(world: Any, pod: str, name: str, script: str, **fields: Any) -> None:
    image = (await world.get(pod))["spec"]["containers"][0]["image"]
    container = {"name": name, "image": image, "command": ["/bin/sh", "-c", script], **fields}
    await world.client.patch(
        resources.POD,
        pod,
        "default",
        patch={"spec": {"ephemeralContainers": [container]}},
        patch_type=PatchType.STRATEGIC,
        subresource="ephemeralcontainers",
    )


def _state(pod: Object, name: str) -> dict[str, Any]:
    listed = objects.status(pod).get("ephemeralContainerStatuses") or ()
    return next((dict(each["state"]) for each in listed if each["name"] == name), {})


def _states(pod: Object) -> dict[str, dict[str, Any]]:
    return {each["name"]: each["state"] for each in objects.status(pod).get("containerStatuses") or ()}


async def test_an_added_container(world: Any) -> None:
    """Sees its target's processes; its end is nothing to the pod; it runs once, whatever the agent does."""
    async with world.node():
        await world.create(world.pod("a", "echo main; exec sleep 1234"))
        await world.ready("a")
        await _added(world, "a", "look", "cat /proc/1/cmdline; exit 3", targetContainerName="main")
        pod = await world.until("a", lambda pod: "terminated" in _state(pod, "look"))
        assert _state(pod, "look")["terminated"]["exitCode"] == 3
        assert "1234" in await world.log("a", "look")
        (status,) = objects.status(pod)["ephemeralContainerStatuses"]
        assert (status["restartCount"], status["ready"], "started" in status) == (0, False, False)
        assert objects.status(pod)["containerStatuses"][0]["ready"]
        await _added(world, "a", "stay", "exec sleep 4321")
        pod = await world.until("a", lambda pod: "running" in _state(pod, "stay"))
        began = _state(pod, "stay")
    async with world.node():
        await _added(world, "a", "more", "true")
        pod = await world.until("a", lambda pod: "terminated" in _state(pod, "more"))
        assert _state(pod, "stay") == began
        assert _state(pod, "look")["terminated"]["exitCode"] == 3
        await world.delete("a")
        await world.until_deleted("a")


async def test_a_target_that_does_not_run(world: Any) -> None:
    """Is waited for, and named."""
    async with world.node():
        await world.create(
            world.pod(
                "a",
                "exit 0",
                restartPolicy="OnFailure",
                initContainers=[
                    {
                        "name": "slow",
                        "image": world.pod("x")["spec"]["containers"][0]["image"],
                        "command": ["/bin/sh", "-c", "sleep 1000"],
                    }
                ],
            )
        )
        await world.until("a", lambda pod: objects.status(pod).get("podIP"))
        await _added(world, "a", "look", "true", targetContainerName="main")
        pod = await world.until("a", lambda pod: _state(pod, "look").get("waiting", {}).get("message"))
        waiting = _state(pod, "look")["waiting"]
        assert waiting["reason"] == "CreateContainerConfigError"
        assert waiting["message"] == "unable to find target container main"


async def test_a_shared_namespace(world: Any) -> None:
    """Containers see each other; one that ends takes none with it, and of what held them nothing stays."""
    async with world.node():
        pod = world.pod("s", "exec sleep 1111", shareProcessNamespace=True, restartPolicy="Never")
        image = pod["spec"]["containers"][0]["image"]
        see = 'case "$(cat /proc/[0-9]*/cmdline 2>/dev/null)" in *11[1]1*) true;; *) false;; esac'
        script = f"until {see}; do sleep 0.1; done; cat /proc/[0-9]*/cmdline; exit 1"
        pod["spec"]["containers"].append({"name": "b", "image": image, "command": ["/bin/sh", "-c", script]})
        await world.create(pod)
        shown = await world.until("s", lambda pod: "terminated" in _states(pod).get("b", {}))
        assert "1111" in await world.log("s", "b")
        assert "/pause" in await world.log("s", "b")
        assert "running" in _states(shown)["main"]
        uid = objects.uid(shown)
        holder = world.config.data_dir / "containers" / shared_processes.identity(uid)
        assert holder.exists()
    async with world.node():
        await world.create(world.pod("t"))
        await world.ready("t")
        assert holder.exists(), "a new agent has taken it away"
        await world.delete("s")
        await world.absent(world.config.pod_dir(uid))
        assert not holder.exists()
        assert not (world.config.run_dir / "pidns" / uid).exists()


def test_the_program_that_holds_it() -> None:
    """An executable for this machine, or none; never one for another."""
    program = pause.program("x86_64")
    assert program is not None
    assert program[:4] == b"\x7fELF"
    assert len(program) < 256
    assert pause.program("sparc") is None
