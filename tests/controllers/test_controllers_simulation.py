"""The controllers among faults: requests lost, watches cut, conflicts, crashes; then all is as asked for.

Safety holds at each step: no pod is bound twice or to a full node, no two ReplicaSets of one
template. A failure names its seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ondol import controllers
from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.controllers import endpoints, garbage, scheduler
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.workloads import deployment, replicaset
from ondol.sdk.testing import rough

CPU_MAX = 40


def workloads(manager: Any) -> None:
    """All but the node controller, for which a node without a heartbeat is a dead one."""
    garbage.add_to(manager, Catalogue(manager))
    for each in (deployment, replicaset, scheduler, endpoints):
        each.add_to(manager)


def spec(name: str, rng: random.Random) -> Object:
    strategy = rng.choice([{"type": "Recreate"}, {"type": "RollingUpdate"}])
    return {
        "replicas": rng.randrange(6),
        "strategy": strategy,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "image": f"shop:{rng.randrange(3)}",
                        "resources": {"requests": {"cpu": "1"}},
                    }
                ]
            },
        },
    }


async def change(stage: Any, rng: random.Random) -> None:
    """Create, change or delete a deployment, or lose one of its pods."""
    name = rng.choice(["front", "back"])
    live = await stage.get(resources.DEPLOYMENT, name, "default")
    if live is None:
        await stage.create(resources.DEPLOYMENT, name, spec=spec(name, rng))
    elif objects.is_deleting(live):
        return
    elif rng.random() < 0.15:
        how = rng.choice(["Background", "Foreground"])
        await stage.client.delete(resources.DEPLOYMENT, name, "default", propagation=how)
    elif rng.random() < 0.4 and (pods := await stage.pods()):
        await stage.client.delete(resources.POD, objects.name(rng.choice(pods)), "default")
    else:
        template_spec = spec(name, rng)
        if template_spec["strategy"] == {"type": "Recreate"}:
            template_spec["strategy"]["rollingUpdate"] = None
        await stage.client.patch(resources.DEPLOYMENT, name, "default", patch={"spec": template_spec})


async def safe(stage: Any) -> None:
    """What must hold at any moment."""
    pods = await stage.pods()
    taken = Counter(pod["spec"].get("nodeName", "") for pod in pods)
    assert all(taken[node] <= CPU_MAX for node in taken if node), f"overfull node (seed {stage.seed})"
    sets = (await stage.client.list(resources.REPLICA_SET, "default")).items
    templates = Counter(
        (
            (objects.controller_of(each) or {})["uid"],
            each["spec"]["template"]["spec"]["containers"][0]["image"],
        )
        for each in sets
    )
    assert all(count == 1 for count in templates.values()), f"{templates} (seed {stage.seed})"


async def settled(stage: Any) -> None:
    """Every deployment has its pods, all of its template; nothing else is left."""
    expected: Counter[tuple[str, str]] = Counter()
    for each in (await stage.client.list(resources.DEPLOYMENT, "default")).items:
        image = each["spec"]["template"]["spec"]["containers"][0]["image"]
        expected[objects.name(each), image] += each["spec"]["replicas"]
        ready = each["status"].get("availableReplicas", 0)
        assert ready == each["spec"]["replicas"], f"seed {stage.seed}"
    actual = Counter(
        (objects.labels(pod)["app"], pod["spec"]["containers"][0]["image"]) for pod in await stage.pods()
    )
    assert actual == +expected, f"seed {stage.seed}"
    await endpoints_agree(stage)


async def endpoints_agree(stage: Any) -> None:
    addresses = {
        pod["status"]["podIP"] for pod in await stage.pods() if objects.labels(pod)["app"] == "front"
    }
    slices = (await stage.client.list(resources.ENDPOINT_SLICE, "default")).items
    listed = [
        address
        for each in slices
        if objects.labels(each).get("kubernetes.io/service-name") == "front"
        for endpoint in each["endpoints"]
        for address in endpoint["addresses"]
    ]
    assert sorted(listed) == sorted(addresses), f"seed {stage.seed}"


@pytest.mark.parametrize("seed", range(10))
def test_workloads_become_what_was_asked_for(play: Callable[..., None], seed: int) -> None:
    """Whatever was lost, refused, late or crashed on the way; and then no more writes follow."""

    async def scene(stage: Any) -> None:
        rng = random.Random(seed)
        await stage.node(cpu=str(CPU_MAX))
        ports = [{"port": 80}]
        await stage.create(resources.SERVICE, "front", spec={"selector": {"app": "front"}, "ports": ports})
        manager = await stage.run(workloads)
        for _ in range(10):
            await change(stage, rng)
            await stage.advance(rng.random() * 8)
            await safe(stage)
            if rng.random() < 0.2:
                stage.crash(manager)
                manager = await stage.run(workloads, kubelet=False)
        await change(stage, rng)
        await stage.advance(rng.random() * 10)
        stage.faults.heal()
        await stage.run_until_stable(quiet_s=400, limit_s=20_000)
        await settled(stage)
        writes = stage.transport.writes
        await stage.advance(3_000)
        assert stage.transport.writes == writes, f"writes went on (seed {seed})"

    play(scene, seed=seed, faults=rough())


def test_the_whole_package_fits_one_manager(play: Callable[..., None]) -> None:
    """All controllers together sync, and an empty cluster is quiet."""

    async def scene(stage: Any) -> None:
        manager = await stage.run(lambda each: controllers.add_to(each, controllers.ControllersConfig()))
        await stage.advance(5)
        assert manager.idle
        writes = stage.transport.writes
        await stage.advance(3_000)
        assert stage.transport.writes == writes

    play(scene)
