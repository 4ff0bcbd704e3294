"""What the mesh writes to the statuses of its objects: its own conditions, and no others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from ondol import apiserver, mesh, sdk, store
from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.base.clock import SystemClock
from ondol.contracts import mesh as contract
from ondol.mesh import controller
from ondol.mesh.config import MeshConfig
from ondol.mesh.translate import registry
from ondol.mesh.xds.types import Origin
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio

_OTHER: Object = {
    "type": "example.org/Reviewed",
    "status": "True",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


async def test_a_condition_that_another_adds_meanwhile_stays(mesh_config: MeshConfig) -> None:
    """The mesh works from what it read before: it says its own part, and takes nothing back."""
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(1))
    async with World(app, clock=clock) as world:
        await sdk.install_crds(world.client, mesh.crds(), clock=clock)
        own = controller.Mesh(world.manager("ondol-mesh"), mesh_config)
        host = {"metadata": {"name": "r", "namespace": "default"}, "spec": {"host": "web"}}
        rule = await world.client.create(contract.DESTINATION_RULE, host)
        added = {"status": {"conditions": [_OTHER]}}
        await world.client.patch(contract.DESTINATION_RULE, "r", "default", patch=added, subresource="status")
        informer = own._informers["DestinationRule"]
        informer._store.put(Key("default", "r"), rule)  # as it was before the other's write
        own._acceptance.admit("DestinationRule", [rule])
        await own._write_rule("DestinationRule", Key("default", "r"))
        await anyio.wait_all_tasks_blocked()
        written = await world.client.get(contract.DESTINATION_RULE, "r", "default")
        types = {condition["type"] for condition in conditions.of(written)}
        assert types >= {_OTHER["type"], contract.ACCEPTED}
        managers = {entry["manager"] for entry in objects.metadata(written)["managedFields"]}
        assert "ondol-mesh" in managers


async def test_what_fails_of_a_generated_rule_is_left_out(
    mesh_config: MeshConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error ends the process of the mesh, which would meet the same object again."""
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(1))
    async with World(app, clock=clock) as world:
        own = controller.Mesh(world.manager("ondol-mesh"), mesh_config)

        def failing(name: str) -> Callable[[Any], Any]:
            def translate(_world: Any) -> Any:
                raise registry.Failed(Origin("VirtualService", "default", name, "1"), "too large a number")

            return translate

        for name in (f"{registry.OF_GATEWAY_API}80:*", f"{registry.OF_INGRESS}80:*"):
            monkeypatch.setattr(own._translator, "translate", failing(name))
            own._changed.clear()
            own._translate()
            assert own._changed.is_set
        monkeypatch.setattr(own._translator, "translate", failing("nobody's"))
        with pytest.raises(registry.Failed):
            own._translate()


async def test_what_nobody_thought_of_ends_nothing(
    mesh_config: MeshConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was served goes on, and the next translation starts anew: it may be without the cause."""
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(1))
    async with World(app, clock=clock) as world:
        own = controller.Mesh(world.manager("ondol-mesh"), mesh_config)
        assert own._has_translated()
        served = own._translation

        def translate(_world: Any) -> Any:
            raise RecursionError("deep")

        monkeypatch.setattr(own._translator, "translate", translate)
        assert not own._has_translated()
        assert own._translation is served
        assert own._has_translated()
