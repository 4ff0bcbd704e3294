"""Disruption budgets against the API server, on virtual time: counts, evictions, what comes to nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.controllers import disruption, scheduler
from ondol.controllers.disruption import budgets
from ondol.controllers.workloads import deployment, replicaset
from ondol.sdk.testing import Faults

from .conftest import deployment_spec, names, template

Play = Callable[..., None]
CONTROLLERS = (deployment.add_to, replicaset.add_to, scheduler.add_to, disruption.add_to)
SELECTOR = {"matchLabels": {"app": "web"}}


async def budget(stage: Any, **spec: Any) -> None:
    await stage.create(resources.POD_DISRUPTION_BUDGET, "web", spec={"selector": SELECTOR, **spec})


async def counts(stage: Any) -> tuple[int, ...]:
    """Expected, healthy, needed, allowed; with the condition that says the same."""
    live = await stage.client.get(resources.POD_DISRUPTION_BUDGET, "web", "default")
    status = live["status"]
    assert conditions.is_true(live, "DisruptionAllowed") is (status["disruptionsAllowed"] > 0)
    assert status["observedGeneration"] == objects.generation(live)
    fields = ("expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed")
    return tuple(status[field] for field in fields)


async def evict(stage: Any, pod: Object) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": objects.name(pod)}}
    await stage.client.create(
        resources.POD, eviction, "default", name=objects.name(pod), subresource="eviction"
    )


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ({"maxUnavailable": 1}, (4, 4, 3, 1)),
        ({"maxUnavailable": "30%"}, (4, 4, 2, 2)),
        ({"minAvailable": 3}, (4, 4, 3, 1)),
        ({"minAvailable": 7}, (4, 4, 7, 0)),
        ({"minAvailable": "60%"}, (4, 4, 3, 1)),
        ({}, (4, 4, 0, 4)),
    ],
)
def test_a_budget_counts_its_pods(play: Play, spec: Object, counted: tuple[int, ...]) -> None:
    """Percentages are of what the Deployment asks for, rounded up; none at all lets every pod go."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*CONTROLLERS)
        await stage.create(resources.DEPLOYMENT, "web", spec=deployment_spec(4))
        await budget(stage, **spec)
        await stage.settle()
        assert await counts(stage) == counted

    play(scene)


@pytest.mark.parametrize("seed", range(4))
def test_evictions_never_take_more_than_the_budget_has(play: Play, seed: int) -> None:
    """Whatever the controller has not seen yet; and it goes on when pods are back."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*CONTROLLERS)
        await stage.create(resources.DEPLOYMENT, "web", spec=deployment_spec(3))
        await budget(stage, minAvailable=2)
        await stage.settle()
        for _ in range(5):
            taken = 0
            for pod in await stage.pods():
                with contextlib.suppress(errors.TooManyRequests):
                    await evict(stage, pod)
                    taken += 1
            assert taken == 1
            await stage.settle()
            assert await counts(stage) == (3, 3, 2, 1)

    play(scene, seed=seed, faults=Faults(latency_s=0.2))


def test_an_evicted_pod_that_stays_is_counted_again(play: Play) -> None:
    """Two minutes later, with an event; a pod that was to go and did not is no longer marked."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*CONTROLLERS)
        await stage.create(resources.DEPLOYMENT, "web", spec=deployment_spec(3))
        await budget(stage, minAvailable=2)
        await stage.settle()
        pod = (await stage.pods())[0]
        evicted = {"disruptedPods": {objects.name(pod): "2020-01-01T00:00:00Z"}, "disruptionsAllowed": 0}
        await stage.client.patch(
            resources.POD_DISRUPTION_BUDGET, "web", "default", patch={"status": evicted}, subresource="status"
        )
        listed = conditions.set(conditions.of(pod), "DisruptionTarget", "True", now=stage.clock.now())
        await stage.client.patch(
            resources.POD,
            objects.name(pod),
            "default",
            patch={"status": {"conditions": listed}},
            subresource="status",
        )
        await stage.settle()
        live = await stage.client.get(resources.POD_DISRUPTION_BUDGET, "web", "default")
        assert "disruptedPods" not in live["status"]
        assert await counts(stage) == (3, 3, 2, 1)
        assert await stage.events("NotDeleted") == [
            "Pod was expected by PDB default/web to be deleted but it wasn't"
        ]
        await stage.advance(budgets.CONFIRMED_S + 1)
        again = await stage.client.get(resources.POD, objects.name(pod), "default")
        assert conditions.is_false(again, "DisruptionTarget")

    play(scene)


def test_pods_that_nobody_made(play: Play) -> None:
    """Are event of where scales are counted, and count where pods are."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*CONTROLLERS)
        await stage.create(
            resources.POD, "bare", metadata={"labels": {"app": "web"}}, spec=template()["spec"]
        )
        await budget(stage, minAvailable="50%")
        await stage.settle()
        assert await counts(stage) == (0, 1, 0, 0)
        (event,) = await stage.events("UnmanagedPods")
        assert "unmanaged: bare." in event
        await stage.client.patch(
            resources.POD_DISRUPTION_BUDGET, "web", "default", patch={"spec": {"minAvailable": 0}}
        )
        await stage.settle()
        assert await counts(stage) == (1, 1, 0, 1)

    play(scene)


def test_what_cannot_be_counted_allows_nothing(play: Play) -> None:
    """A pod of an owner without a scale: the condition says why, and no pod may go."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*CONTROLLERS)
        owner = await stage.create(resources.CONFIG_MAP, "owner")
        reference = objects.controller_reference({**owner, "apiVersion": "v1", "kind": "ConfigMap"})
        await stage.create(
            resources.POD,
            "odd",
            metadata={"labels": {"app": "web"}, "ownerReferences": [reference]},
            spec=template()["spec"],
        )
        await budget(stage, maxUnavailable=1)
        await stage.settle()
        live = await stage.client.get(resources.POD_DISRUPTION_BUDGET, "web", "default")
        condition = conditions.get(live, "DisruptionAllowed") or {}
        assert (condition["status"], condition["reason"]) == ("False", "SyncFailed")
        assert 'found no controllers for pod "odd"' in condition["message"]
        assert live["status"]["disruptionsAllowed"] == 0
        with pytest.raises(errors.TooManyRequests):
            await evict(stage, (await stage.pods())[0])
        assert names(await stage.pods()) == ["odd"]

    play(scene)
