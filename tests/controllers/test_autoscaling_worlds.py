"""HorizontalPodAutoscalers against the API server, on virtual time: what is measured, sized and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.controllers import autoscaling, scheduler
from ondol.controllers.workloads import deployment, replicaset
from ondol.sdk.testing import Faults

from .conftest import deployment_spec

Play = Callable[..., None]
CONTROLLERS = (deployment.add_to, replicaset.add_to, scheduler.add_to, autoscaling.add_to)
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
HALF = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}


async def scaled(stage: Any, replicas: int = 2, **spec: Any) -> None:
    """A Deployment whose pods request a tenth of a core, and an autoscaler of it."""
    await stage.node(cpu="64")
    await stage.run(*CONTROLLERS)
    asked = deployment_spec(replicas)
    asked["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    await stage.create(resources.DEPLOYMENT, "web", spec=asked)
    await stage.settle()
    autoscaler = {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 10, "metrics": [HALF], **spec}
    await stage.create(resources.HORIZONTAL_POD_AUTOSCALER, "web", spec=autoscaler)


async def size(stage: Any) -> int:
    return int((await stage.client.get(resources.DEPLOYMENT, "web", "default"))["spec"]["replicas"])


async def live(stage: Any, name: str = "web") -> Object:
    autoscaler: Object = await stage.client.get(resources.HORIZONTAL_POD_AUTOSCALER, name, "default")
    return autoscaler


async def reasons(stage: Any, name: str = "web") -> dict[str, str]:
    listed = conditions.of(await live(stage, name))
    return {str(each["type"]): f"{each['status']} {each['reason']}" for each in listed}


@pytest.mark.parametrize("faults", [None, Faults(latency_s=0.2, conflict=0.2, unavailable=0.1)])
def test_a_load_comes_and_goes(play: Play, faults: Faults | None) -> None:
    """Pods are added while each uses more than half of what it requests, and go when none does any more."""

    async def scene(stage: Any) -> None:
        load = {"milli": 400}

        def share(pod: Object) -> tuple[int, int]:
            return load["milli"] // max(1, load["pods"]), 10

        load["pods"] = 2
        stage.usage = share
        await scaled(stage)
        for _ in range(60):
            await stage.advance(15.0)
            load["pods"] = await size(stage)
        assert await size(stage) == 8
        status = (await live(stage))["status"]
        assert (status["currentReplicas"], status["desiredReplicas"]) == (8, 8)
        assert status["currentMetrics"][0]["resource"]["current"] == {
            "averageUtilization": 50,
            "averageValue": "50m",
        }
        load["milli"] = 40
        for _ in range(60):
            await stage.advance(15.0)
            load["pods"] = await size(stage)
        assert await size(stage) == 1
        assert await stage.events("SuccessfulRescale")

    play(scene, faults=faults)


def test_what_it_says_of_itself(play: Play) -> None:
    """Conditions in Kubernetes' words while all is well."""

    async def scene(stage: Any) -> None:
        stage.usage = lambda _: (50, 10)
        await scaled(stage)
        await stage.advance(400.0)
        assert await reasons(stage) == {
            "AbleToScale": "True ReadyForNewScale",
            "ScalingActive": "True ValidMetricFound",
            "ScalingLimited": "False DesiredWithinRange",
        }
        before = objects.resource_version(await live(stage))
        await stage.advance(120.0)
        assert objects.resource_version(await live(stage)) == before, "nothing changed, so nothing is written"

    play(scene)


@pytest.mark.parametrize(
    ("replicas", "bounds", "expected"),
    [(2, {"minReplicas": 4}, 4), (6, {"maxReplicas": 3}, 3), (0, {}, 0)],
)
def test_bounds_hold_without_metrics(play: Play, replicas: int, bounds: Object, expected: int) -> None:
    """A size outside of them is mended at once; one of zero was switched off by somebody."""

    async def scene(stage: Any) -> None:
        await scaled(stage, replicas, **bounds)
        await stage.advance(1.0)
        assert await size(stage) == expected
        if not expected:
            assert (await reasons(stage))["ScalingActive"] == "False ScalingDisabled"

    play(scene)


def test_metrics_that_are_not_to_be_had(play: Play) -> None:
    """The size stays, and the condition names the first that failed."""

    async def scene(stage: Any) -> None:
        pods_metric = {
            "type": "Pods",
            "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "10"}},
        }
        stage.usage = lambda _: (10, 10)
        await scaled(stage, 4, metrics=[pods_metric, HALF])
        await stage.advance(900.0)
        assert await size(stage) == 4, "one metric says fewer, but the other is not known"
        assert (await reasons(stage))["ScalingActive"] == "False FailedGetPodsMetric"
        events = await stage.events("FailedComputeMetricsReplicas")
        assert events
        assert (
            "invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value"
            in events[0]
        )
        stage.usage = lambda _: (90, 10)
        await stage.advance(60.0)
        assert await size(stage) > 4, "upwards one metric is enough"

    play(scene)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({**TARGET, "name": "none"}, 'deployments.apps "none" not found'),
        ({"apiVersion": "no.such/v1", "kind": "Thing", "name": "a"}, 'no kind "Thing" is served'),
        ({"apiVersion": "batch/v1", "kind": "Job", "name": "a"}, "could not find the requested resource"),
    ],
)
def test_a_target_that_cannot_be_scaled(play: Play, reference: Object, message: str) -> None:
    """The condition says why, and a later pass may find it."""

    async def scene(stage: Any) -> None:
        await scaled(stage, scaleTargetRef=reference)
        await stage.advance(20.0)
        able = conditions.get(await live(stage), "AbleToScale")
        assert able is not None
        assert (able["status"], able["reason"]) == ("False", "FailedGetScale")
        assert message in able["message"]

    play(scene)


def test_two_of_one_target_do_not_fight(play: Play) -> None:
    """Both stand still and say so, until one of them goes."""

    async def scene(stage: Any) -> None:
        stage.usage = lambda _: (90, 10)
        await scaled(stage)
        await stage.create(
            resources.HORIZONTAL_POD_AUTOSCALER,
            "other",
            spec={"scaleTargetRef": TARGET, "maxReplicas": 5, "metrics": [HALF]},
        )
        await stage.advance(60.0)
        assert (await reasons(stage, "other"))["ScalingActive"] == "False AmbiguousSelector"
        await stage.client.delete(resources.HORIZONTAL_POD_AUTOSCALER, "other", "default")
        await stage.advance(60.0)
        assert (await reasons(stage))["ScalingActive"] == "True ValidMetricFound"

    play(scene)
