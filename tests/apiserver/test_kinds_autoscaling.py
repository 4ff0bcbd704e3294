"""HorizontalPodAutoscalers in both of their versions."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

V1: Final = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
V2: Final = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
METRICS: Final = "autoscaling.alpha.kubernetes.io/metrics"
BEHAVIOR: Final = "autoscaling.alpha.kubernetes.io/behavior"
CONDITIONS: Final = "autoscaling.alpha.kubernetes.io/conditions"
CURRENT: Final = "autoscaling.alpha.kubernetes.io/current-metrics"
TARGET: Final = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def _autoscaler(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"scaleTargetRef": TARGET, "maxReplicas": 5, **spec}}


def _cpu(percent: int = 50) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _pods(**target: Any) -> dict[str, Any]:
    own = {"type": "AverageValue", "averageValue": "10", **target}
    return {"type": "Pods", "pods": {"metric": {"name": "requests"}, "target": own}}


async def test_one_object_is_both_versions(api: Any) -> None:
    """Made in one, read, listed and deleted in the other."""
    stored = await api.post(V1, _autoscaler(targetCPUUtilizationPercentage=60))
    assert stored.status == 201, stored.json
    assert stored.json["apiVersion"] == "autoscaling/v1"
    assert stored.json["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 5,
        "targetCPUUtilizationPercentage": 60,
    }
    other = (await api.get(f"{V2}/a")).json
    assert (other["apiVersion"], other["spec"]["metrics"]) == ("autoscaling/v2", [_cpu(60)])
    assert other["metadata"]["resourceVersion"] == stored.json["metadata"]["resourceVersion"]
    assert len((await api.get(V1)).json["items"]) == 1
    assert (await api.delete(f"{V2}/a")).status == 200
    assert (await api.get(f"{V1}/a")).status == 404


async def test_who_names_no_metric_means_the_processor(api: Any) -> None:
    """Eighty percent of what is requested, in both versions."""
    assert (await api.post(V1, _autoscaler())).json["spec"]["targetCPUUtilizationPercentage"] == 80
    assert (await api.post(V2, _autoscaler("b"))).json["spec"]["metrics"] == [_cpu(80)]


async def test_version_one_keeps_the_rest_in_annotations(api: Any) -> None:
    """Other metrics, behaviour and what a controller reported, in the form Kubernetes gives them."""
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    await api.post(V2, _autoscaler(metrics=[_pods(), _cpu()], behavior=behavior))
    condition = {"type": "AbleToScale", "status": "True"}
    current = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 33}}}
    status = {
        "currentReplicas": 2,
        "desiredReplicas": 3,
        "conditions": [condition],
        "currentMetrics": [current],
    }
    assert (await api.patch(f"{V2}/a/status", {"status": status})).status == 200
    shown = (await api.get(f"{V1}/a")).json
    annotations = shown["metadata"]["annotations"]
    assert json.loads(annotations[METRICS]) == [
        {"type": "Pods", "pods": {"metricName": "requests", "targetAverageValue": "10"}}
    ]
    assert json.loads(annotations[BEHAVIOR])["scaleDown"]["stabilizationWindowSeconds"] == 60
    assert json.loads(annotations[CONDITIONS]) == [condition]
    assert json.loads(annotations[CURRENT]) == [
        {"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 33}}
    ]
    assert shown["spec"]["targetCPUUtilizationPercentage"] == 50
    assert shown["status"] == {
        "currentReplicas": 2,
        "desiredReplicas": 3,
        "currentCPUUtilizationPercentage": 33,
    }


async def test_nothing_is_lost_by_writing_version_one(api: Any) -> None:
    """A change by a client of version one leaves the rest as it is; blind ones lose their own part alone."""
    behavior = {"scaleUp": {"selectPolicy": "Disabled"}}
    before = (await api.post(V2, _autoscaler(metrics=[_pods(), _cpu()], behavior=behavior))).json
    condition = {"type": "AbleToScale", "status": "True"}
    await api.patch(f"{V2}/a/status", {"status": {"conditions": [condition], "desiredReplicas": 1}})
    patched = await api.patch(f"{V1}/a", {"spec": {"maxReplicas": 9}})
    assert patched.status == 200, patched.json
    after = (await api.get(f"{V2}/a")).json
    assert after["spec"] == {**before["spec"], "maxReplicas": 9}
    assert after["status"]["conditions"] == [condition]
    assert "annotations" not in after["metadata"]
    assert (await api.put(f"{V1}/a", _autoscaler(targetCPUUtilizationPercentage=70))).status == 200
    replaced = (await api.get(f"{V2}/a")).json
    assert (replaced["spec"]["metrics"], replaced["status"]["conditions"]) == ([_cpu(70)], [condition])
    await api.patch(f"{V1}/a/status", {"status": {"currentReplicas": 4}})
    assert (await api.get(f"{V2}/a")).json["status"]["currentReplicas"] == 4


METRIC_KINDS: Final = [
    _pods(),
    {
        "type": "Object",
        "object": {
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"},
            "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "Value", "value": "2k"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {"name": "queue", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "30"},
        },
    },
    {
        "type": "ContainerResource",
        "containerResource": {
            "name": "memory",
            "container": "main",
            "target": {"type": "Utilization", "averageUtilization": 60},
        },
    },
    {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
    },
]


@pytest.mark.parametrize("metric", METRIC_KINDS, ids=lambda metric: metric["type"])
async def test_every_metric_goes_through_version_one(api: Any, metric: dict[str, Any]) -> None:
    """There and back."""
    stored = await api.post(V2, _autoscaler(metrics=[metric]))
    assert stored.status == 201, stored.json
    shown = (await api.get(f"{V1}/a")).json
    assert (await api.put(f"{V1}/a", shown)).status == 200
    assert (await api.get(f"{V2}/a")).json["spec"]["metrics"] == [metric]


async def test_behaviour_is_completed(api: Any) -> None:
    """Both directions, once one is named; a tolerance is of a feature that is off."""
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5, "tolerance": "0.1"}}
    spec = (await api.post(V2, _autoscaler(behavior=behavior))).json["spec"]
    percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
    assert spec["behavior"] == {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent],
        },
        "scaleDown": {"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "policies": [percent]},
    }


def _object(**target: Any) -> dict[str, Any]:
    described = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    return {
        "type": "Object",
        "object": {"describedObject": described, "metric": {"name": "m"}, "target": target},
    }


REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no replicas at least": (
        {"minReplicas": 0},
        "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
    ),
    "none at most": ({"maxReplicas": 0}, "spec.maxReplicas: Invalid value: 0: must be greater than 0"),
    "bounds that cross": (
        {"minReplicas": 6},
        "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
    ),
    "a target without a name": (
        {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment"}},
        "spec.scaleTargetRef.name: Required value",
    ),
    "a target without a group": (
        {"scaleTargetRef": {"kind": "Deployment", "name": "web"}},
        'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group',
    ),
    "a metric of no kind": (
        {"metrics": [{"type": "Mood"}]},
        (
            'spec.metrics[0].type: Unsupported value: "Mood": supported values: "ContainerResource", '
            '"External", '
            '"Object", "Pods", "Resource"'
        ),
    ),
    "a metric without its source": (
        {"metrics": [{"type": "Pods"}]},
        "spec.metrics[0].pods: Required value: must populate information for the given metric source",
    ),
    "two sources": (
        {"metrics": [{**_pods(), "resource": _cpu()["resource"]}]},
        "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
    ),
    "an amount below one": (
        {"metrics": [_pods(averageValue="0")]},
        'spec.metrics[0].pods.target.averageValue: Invalid value: "0": must be positive',
    ),
    "a kind of target": (
        {"metrics": [_object(type="Most", value="1")]},
        (
            'spec.metrics[0].object.target.type: Invalid value: "Most": must be either Utilization, '
            "Value, or "
            "AverageValue"
        ),
    ),
    "no amount": (
        {"metrics": [_object(type="Value")]},
        (
            "spec.metrics[0].object.target.averageValue: Required value: must set either a target value or "
            "averageValue"
        ),
    ),
    "a long window": (
        {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601}}},
        (
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or "
            "equal to 3600"
        ),
    ),
    "a policy": (
        {"behavior": {"scaleUp": {"policies": [{"type": "Half", "value": 0, "periodSeconds": 1801}]}}},
        (
            'spec.behavior.scaleUp.policies[0].type: Unsupported value: "Half": supported values: '
            '"Percent", "Pods"'
        ),
    ),
    "a choice": (
        {"behavior": {"scaleUp": {"selectPolicy": "Any"}}},
        (
            'spec.behavior.scaleUp.selectPolicy: Unsupported value: "Any": supported values: "Disabled", '
            '"Max", "Min"'
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_no_autoscaler_may_be(api: Any, name: str) -> None:
    """Refused in Kubernetes' words."""
    spec, message = REFUSED[name]
    refused = await api.post(V2, _autoscaler(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_version_one_is_held_to_the_same_rules(api: Any) -> None:
    """Also to what stands in its annotations."""
    refused = await api.post(V1, _autoscaler(maxReplicas=0))
    assert "spec.maxReplicas: Invalid value: 0: must be greater than 0" in refused.json["message"]
    metric = json.dumps([{"type": "Pods", "pods": {"metricName": "", "targetAverageValue": "1"}}])
    document = {**_autoscaler(), "metadata": {"name": "a", "annotations": {METRICS: metric}}}
    refused = await api.post(V1, document)
    assert (
        "spec.metrics[0].pods.metric.name: Required value: must specify a metric name"
        in (refused.json["message"])
    )


async def test_columns_of_autoscalers(api: Any) -> None:
    """Targets with what they are now, the same in both versions."""
    await api.post(V2, _autoscaler(metrics=[_pods(), _cpu(), METRIC_KINDS[-1]]))
    current = [
        {"type": "Pods", "pods": {"metric": {"name": "requests"}, "current": {"averageValue": "7"}}},
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 33}}},
    ]
    await api.patch(
        f"{V2}/a/status", {"status": {"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics": current}}
    )
    cells = ["a", "Deployment/web", "7/10, cpu: 33%/50% + 1 more...", "1", 5, 2, "0s"]
    assert (await api.get(V2, accept=TABLE)).json["rows"][0]["cells"] == cells
    shown = (await api.get(V1, accept=TABLE)).json["rows"][0]["cells"]
    assert (shown[0], shown[2].split(" ")[0], shown[3:]) == ("a", "7/10,", cells[3:])


async def test_a_watch_of_version_one_sees_writes_of_version_two(api: Any) -> None:
    """Each watch in its own form."""
    async with api.watch(f"{V1}?watch=1") as watch:
        await api.post(V2, _autoscaler(metrics=[_cpu(70)]))
        event = await watch.next()
        assert event["object"]["apiVersion"] == "autoscaling/v1"
        assert event["object"]["spec"]["targetCPUUtilizationPercentage"] == 70
