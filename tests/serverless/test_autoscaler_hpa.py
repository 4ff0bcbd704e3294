"""Revisions of the class `hpa`: their HorizontalPodAutoscaler, and what is left to the autoscaler."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serverless.serving_world import NAMESPACE, Platform

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.contracts import serving
from ondol.serverless.autoscaler import hpa
from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.autoscaler.scaler import Facts
from ondol.serverless.serving import wellknown

CLASS = {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}


def notes(**values: str) -> dict[str, str]:
    return CLASS | {f"autoscaling.knative.dev/{k.replace('_', '-')}": v for k, v in values.items()}


def spec(values: dict[str, str] | None = None, *, reachable: bool = True) -> Any:
    annotations = notes(**values or {})
    scaling, causes = wellknown.scaling(annotations, container_concurrency=0)
    assert causes == []
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-deployment"}
    autoscaler: Object = {
        "apiVersion": "v1",
        "kind": "PodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "uid": "1", "annotations": annotations},
        "spec": {"scaleTargetRef": target},
    }
    return hpa.document(autoscaler, scaling, reachable=reachable)["spec"]


def test_bounds() -> None:
    """It never goes below one, nor keeps a minimum that nobody asks for any more."""
    assert (spec()["minReplicas"], spec()["maxReplicas"]) == (1, 2**31 - 1)
    bounded = spec({"min_scale": "2", "max_scale": "5"})
    assert (bounded["minReplicas"], bounded["maxReplicas"]) == (2, 5)
    assert spec({"min_scale": "2"}, reachable=False)["minReplicas"] == 1
    assert spec()["scaleTargetRef"]["name"] == "web-deployment"


@pytest.mark.parametrize(
    ("values", "resource"),
    [
        ({"target": "70"}, {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}),
        (
            {"metric": "memory", "target": "200"},
            {"name": "memory", "target": {"type": "AverageValue", "averageValue": "200Mi"}},
        ),
    ],
)
def test_targets(values: dict[str, str], resource: Object) -> None:
    """Percent of the cpu that is requested, or MiB of memory."""
    assert spec(values)["metrics"] == [{"type": "Resource", "resource": resource}]


def test_what_is_left_to_kubernetes() -> None:
    """Without a target the default of a HorizontalPodAutoscaler holds, and without a window its behaviour."""
    assert not {"metrics", "behavior"} & spec().keys()
    assert spec({"window": "90s"})["behavior"]["scaleUp"] == {"stabilizationWindowSeconds": 90}


def test_memory_needs_a_target() -> None:
    """There is no usual amount; and what only the other class measures is refused."""
    _, causes = wellknown.scaling(notes(metric="memory"), container_concurrency=0)
    assert [cause.field.rpartition("/")[2] for cause in causes] == ["target]"]
    _, causes = wellknown.scaling(notes(metric="concurrency"), container_concurrency=0)
    assert [cause.field.rpartition("/")[2] for cause in causes] == ["metric]"]


def facts(**values: Any) -> Facts:
    usual: dict[str, Any] = {"replicas": 1, "ready": 1, "demand": 0, "initialized": True}
    return Facts(scaling=values.pop("scaling", Scaling()), decision=None, observed_s=0, **{**usual, **values})


def test_first_replicas_and_then_what_is_there() -> None:
    """As many as make it ready; later the number is another's, unless it is none."""
    asked = Scaling(initial_scale=3)
    first = hpa.plan(facts(scaling=asked, initialized=False, ready=0))
    assert (first.replicas, first.mode, first.active) == (3, "Proxy", "Unknown")
    assert hpa.plan(facts(scaling=asked, replicas=2)).replicas == 2
    assert hpa.plan(facts(replicas=0, ready=0)).replicas == 1
    serving_ = hpa.plan(facts(replicas=2))
    assert (serving_.mode, serving_.active) == ("Serve", "True")


@pytest.mark.anyio
async def test_a_revision_is_scaled_by_a_horizontal_pod_autoscaler(platform: Platform) -> None:
    """It is made with the revision, tells how many it wants, and no quiet window ends its last pod."""
    await platform.serve("one", notes=notes(target="50", max_scale="4"))
    await platform.ready()
    live = await platform.client.get(resources.HORIZONTAL_POD_AUTOSCALER, "hello-00001", NAMESPACE)
    assert (objects.controller_of(live) or {})["kind"] == "PodAutoscaler"
    assert live["spec"]["maxReplicas"] == 4
    await platform.client.patch(
        resources.HORIZONTAL_POD_AUTOSCALER,
        "hello-00001",
        NAMESPACE,
        patch={"status": {"desiredReplicas": 3, "currentReplicas": 1}},
        subresource="status",
    )
    scaler = await platform.eventually(
        serving.POD_AUTOSCALER, "hello-00001", lambda pa: objects.status(pa).get("desiredScale") == 3
    )
    assert conditions.is_true(scaler, "Active")
    assert objects.status(scaler)["mode"] == "Serve"
    deployment = await platform.client.get(resources.DEPLOYMENT, "hello-00001-deployment", NAMESPACE)
    assert objects.spec(deployment)["replicas"] == 1
