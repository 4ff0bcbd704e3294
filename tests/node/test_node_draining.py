"""The drain at a pod's end: in simulated time what it waits for, on a real node who gets one."""

from __future__ import annotations

import dataclasses
from typing import Any

import anyio
import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.client import PatchType
from ondol.contracts import mesh
from ondol.node.pods import draining
from ondol.sdk.testing.clock import LoopClock, simulate


@pytest.mark.parametrize(
    ("withdrawn_s", "hurried_s", "linger_s", "limit_s", "expected_s"),
    [
        (0.0, 99.0, 2.0, 15.0, 2.0),
        (3.0, 99.0, 2.0, 15.0, 5.0),
        (99.0, 99.0, 2.0, 15.0, 15.0),
        (14.0, 99.0, 2.0, 15.0, 15.0),
        (0.0, 1.0, 2.0, 15.0, 1.0),
        (99.0, 1.0, 2.0, 15.0, 1.0),
        (99.0, 99.0, 0.0, 15.0, 0.0),
        (0.0, 99.0, 2.0, 0.0, 0.0),
    ],
    ids=["withdrawn", "late", "never", "late and bounded", "hurried", "hurried before", "off", "no grace"],
)
def test_what_a_drain_waits_for(
    withdrawn_s: float, hurried_s: float, linger_s: float, limit_s: float, expected_s: float
) -> None:
    """Until the pod is no endpoint, a moment longer, never beyond the bound, and not for whoever hurries."""

    async def main() -> float:
        clock = LoopClock()
        begun_s = clock.monotonic()
        await draining.drained(
            clock,
            is_endpoint=lambda: clock.monotonic() - begun_s < withdrawn_s,
            is_hurried=lambda: clock.monotonic() - begun_s >= hurried_s,
            linger_s=linger_s,
            limit_s=limit_s,
        )
        return clock.monotonic() - begun_s

    assert simulate(main) == pytest.approx(expected_s, abs=0.11)


@pytest.mark.parametrize(("grace_s", "bound_s"), [(30.0, 15.0), (1.0, 0.5), (0.0, 0.0), (-1.0, 0.0)])
def test_a_program_keeps_half_of_its_grace(grace_s: float, bound_s: float) -> None:
    """However long the drain would be."""
    assert draining.bound_s(grace_s) == bound_s


def slice_of(address: str, *, ready: bool) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "shop",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "shop"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready, "serving": True}}],
    }


async def meshed(world: Any, name: str) -> Object:
    """A ready pod in the mesh that ends at SIGTERM at once and has all the time in the world."""
    pod = world.pod(name, "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")
    del pod["metadata"]["labels"]
    pod["spec"]["terminationGracePeriodSeconds"] = 3600
    pod["metadata"]["finalizers"] = ["test.ondol.dev/look"]
    await world.create(pod)
    await world.until(name, lambda p: conditions.is_true(p, mesh.SANDBOX_READY))
    condition = {"type": mesh.POD_PROGRAMMED, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    await world.client.patch(
        resources.POD,
        name,
        "default",
        patch={"status": {"conditions": [condition]}},
        patch_type=PatchType.STRATEGIC,
        subresource="status",
    )
    ready: Object = await world.ready(name)
    await world.until_it_says(name, "up")
    return ready


async def ended(world: Any, name: str) -> None:
    await world.phase(name, "Failed")
    await world.client.patch(resources.POD, name, "default", patch={"metadata": {"finalizers": None}})
    await world.until_deleted(name)


@pytest.mark.root
@pytest.mark.anyio
async def test_an_endpoint_answers_until_it_is_none(world: Any) -> None:
    """SIGTERM waits while a Service leads to the pod; it comes once the endpoint is withdrawn."""
    async with world.node():
        pod = await meshed(world, "shop")
        address = objects.status(pod)["podIP"]
        await world.client.create(resources.ENDPOINT_SLICE, slice_of(address, ready=True))
        await world.client.delete(resources.POD, "shop", "default")
        await world.until_events("shop", {"Killing"})
        await anyio.sleep(0.5)  # it would have ended by now
        assert objects.status(await world.get("shop"))["phase"] == "Running"
        await world.client.apply(
            resources.ENDPOINT_SLICE, slice_of(address, ready=False), field_manager="t", force=True
        )
        await ended(world, "shop")


@pytest.mark.root
@pytest.mark.anyio
async def test_a_drain_can_be_cut_short(world: Any) -> None:
    """Who deletes by force does not wait for endpoints that nobody withdraws."""
    async with world.node():
        pod = await meshed(world, "shop")
        await world.client.create(
            resources.ENDPOINT_SLICE, slice_of(objects.status(pod)["podIP"], ready=True)
        )
        await world.client.delete(resources.POD, "shop", "default")
        await world.until_events("shop", {"Killing"})
        await world.client.delete(resources.POD, "shop", "default", grace_period_s=1)
        await ended(world, "shop")


@pytest.mark.root
@pytest.mark.anyio
@pytest.mark.parametrize("mesh", [True, False], ids=["no service", "no mesh"])
async def test_who_has_nothing_to_wait_for_is_told_at_once(world: Any, mesh: bool) -> None:
    """No request is sent to a pod of no Service, and none by the mesh to a pod outside of it."""
    world.config = dataclasses.replace(world.config, drain_s=3600)
    async with world.node():
        if mesh:
            await meshed(world, "job")
        else:
            await world.create(world.pod("job", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"))
            address = objects.status(await world.ready("job"))["podIP"]
            await world.until_it_says("job", "up")
            await world.client.create(resources.ENDPOINT_SLICE, slice_of(address, ready=False))
        await world.client.delete(resources.POD, "job", "default", grace_period_s=3600)
        if mesh:
            await ended(world, "job")
        await world.until_deleted("job")
