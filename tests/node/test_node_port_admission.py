"""Whether a node takes a pod that names it itself and asks for ports of the machine."""

from __future__ import annotations

from typing import Any

import pytest
from tests.node.scene import Scene, is_absent, is_ready, phase, play

from ondol.api import objects, resources
from ondol.node.pods import port_admission


def pod(*ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "ports": list(ports)}], **spec}}


WEB = {"containerPort": 80, "hostPort": 8000}


@pytest.mark.parametrize(
    ("asked", "other", "is_refused"),
    [
        (pod(WEB), pod(WEB), True),
        (pod(WEB), pod({"containerPort": 81, "hostPort": 8000, "hostIP": "192.0.2.1"}), True),
        (pod({"containerPort": 8000}, hostNetwork=True), pod(WEB), True),
        (pod(WEB), pod({"containerPort": 80, "hostPort": 8001}), False),
        (pod({**WEB, "protocol": "UDP"}), pod(WEB), False),
        (pod({**WEB, "hostIP": "192.0.2.1"}), pod({**WEB, "hostIP": "192.0.2.2"}), False),
        (pod({"containerPort": 80}), pod({"containerPort": 80}), False),
        (pod(), pod(WEB), False),
    ],
)
def test_a_port_is_one_pods(asked: dict[str, Any], other: dict[str, Any], is_refused: bool) -> None:
    """Of one protocol at one address, or at all of them; in the pod's own network there is no clash."""
    assert bool(port_admission.refusal(asked, [other])) is is_refused


def test_who_was_there_first_keeps_the_port() -> None:
    """The second fails as with the kubelet, so that its controller makes another; then there is room."""

    async def scene(world: Scene) -> None:
        await world.pod("first", container={"ports": [WEB]})
        await world.until(is_ready, "first")
        await world.pod("second", container={"ports": [WEB]})
        await world.until(lambda p: phase(p) == "Failed", "second")
        status = objects.status(await world.live("second"))
        assert status["reason"] == "NodePorts"
        assert "didn't have free ports for the requested pod ports" in status["message"]
        assert is_ready(await world.live("first"))
        await world.client.delete(resources.POD, "first", "default")
        await world.until(is_absent, "first")
        await world.pod("third", container={"ports": [WEB]})
        await world.until(is_ready, "third")

    play(scene)
