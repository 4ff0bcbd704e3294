"""The Gateway that the mesh makes itself: once, whatever becomes of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from ondol import apiserver, mesh, sdk, store
from ondol.api import resources
from ondol.api.objects import Object
from ondol.base.clock import SystemClock
from ondol.contracts import cluster
from ondol.contracts import mesh as mesh_contract
from ondol.mesh.config import MeshConfig
from ondol.mesh.controller import Mesh
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio
PLACE = (mesh_contract.DEFAULT_GATEWAY, cluster.PLATFORM_NAMESPACE)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1))
    async with World(app) as world:
        await sdk.install_crds(world.client, mesh.crds())
        if await world.get(resources.NAMESPACE, cluster.PLATFORM_NAMESPACE) is None:
            name = {"metadata": {"name": cluster.PLATFORM_NAMESPACE}}
            await world.client.create(resources.NAMESPACE, name)
        yield world


async def start(world: World, config: MeshConfig) -> Object | None:
    """What each start of the mesh does about it."""
    await Mesh(world.manager("mesh"), config).make_default_gateway()
    return await world.get(mesh_contract.GATEWAY, *PLACE)


async def test_a_deleted_default_gateway_stays_away(world: World, mesh_config: MeshConfig) -> None:
    """Also over restarts, of which each would otherwise open the ingress to every host again."""
    assert await start(world, mesh_config)
    await world.client.delete(mesh_contract.GATEWAY, *PLACE)
    assert await start(world, mesh_config) is None
    assert await start(world, mesh_config) is None


async def test_a_changed_default_gateway_stays_changed(world: World, mesh_config: MeshConfig) -> None:
    """And one that was there before the mesh is taken for the one that it would have made."""
    await start(world, mesh_config)
    patch = {"metadata": {"labels": {"mine": "yes"}}}
    await world.client.patch(mesh_contract.GATEWAY, *PLACE, patch=patch)
    gateway = await start(world, mesh_config)
    assert gateway is not None
    assert gateway["metadata"]["labels"] == {"mine": "yes"}


async def test_without_the_mark_the_gateway_is_made_again(world: World, mesh_config: MeshConfig) -> None:
    """Taking the annotation off is how one has it back."""
    await start(world, mesh_config)
    await world.client.delete(mesh_contract.GATEWAY, *PLACE)
    off = {"metadata": {"annotations": {"mesh.ondol.dev/default-gateway-made": None}}}
    await world.client.patch(resources.NAMESPACE, cluster.PLATFORM_NAMESPACE, patch=off)
    assert await start(world, mesh_config)
