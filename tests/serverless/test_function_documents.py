"""The API objects of a function: its Service and its Triggers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ondol import apiserver, sdk, store
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import serving
from ondol.sdk.testing.world import World
from ondol.serverless import wiring
from ondol.serverless.functions import reading, service, triggers, validation
from ondol.serverless.functions.model import Function
from ondol.serverless.serving import validation as serving_rules

HEAD = "specVersion: 0.36.0\ncreated: 2023-01-01T10:00:00Z\nname: f\nruntime: python\n"


def function(more: str = "") -> Function:
    return reading.read(HEAD + more).function


def document(more: str = "", **environment: str) -> Any:
    return service.document(function(more), "ondol.local/ns/f:1", "ns", environment)


def container(of: Any) -> Any:
    [only] = of["spec"]["template"]["spec"]["containers"]
    return only


def test_a_service_has_the_labels_of_knatives_own_tool() -> None:
    """By these a function is found by either tool, on the Service and on its revisions."""
    written = document("deploy: {labels: [{key: team, value: '{{ env:TEAM }}'}]}", TEAM="blue")
    labels = {
        "team": "blue",
        "boson.dev/function": "true",
        "function.knative.dev/name": "f",
        "function.knative.dev/runtime": "python",
    }
    assert written["metadata"]["labels"] == written["spec"]["template"]["metadata"]["labels"] == labels
    assert written["metadata"]["annotations"]["function.knative.dev/deployer"] == "knative"


def test_a_container_is_probed_and_may_do_little() -> None:
    """Health endpoints have defaults, and the process has no rights beyond its own."""
    plain = container(document())
    assert plain["readinessProbe"] == {"httpGet": {"path": "/health/readiness"}}
    assert plain["securityContext"]["runAsNonRoot"] is True
    own = container(document("deploy: {healthEndpoints: {liveness: /alive}}"))
    assert own["livenessProbe"] == {"httpGet": {"path": "/alive"}}


def test_an_executable_is_probed_only_where_it_says() -> None:
    """Nobody knows what any program answers, so that it listens must do."""
    program = reading.read(HEAD.replace("python", "executable")).function
    assert "livenessProbe" not in container(service.document(program, "i", "ns", {}))


def test_variables_come_from_where_they_say() -> None:
    """Values, this machine's variables, keys of Secrets and ConfigMaps, and all keys of one."""
    envs = (
        "run: {envs: [{name: A, value: 1}, {name: B, value: '{{ env:X }}'},"
        " {name: C, value: '{{ secret:s:k }}'},"
        " {name: D, value: '{{ configMap:c:k }}'}, {value: '{{ secret:all }}'}]}"
    )
    only = container(document(envs, X="x"))
    assert only["env"] == [
        {"name": "ADDRESS", "value": "0.0.0.0"},
        {"name": "A", "value": "1"},
        {"name": "B", "value": "x"},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ]
    assert only["envFrom"] == [{"secretRef": {"name": "all"}}]
    with pytest.raises(errors.HostError, match="X, which is not set"):
        document(envs)


def test_volumes_are_named_once_and_mounted_each_time() -> None:
    """Two mounts of one Secret are one volume."""
    spec = document(
        "run: {volumes: [{secret: s, path: /a}, {secret: s, path: /b}, {configMap: c, path: /c},"
        " {persistentVolumeClaim: {claimName: p, readOnly: true}, path: /d},"
        " {emptyDir: {sizeLimit: 1Gi, medium: Memory}, path: /e}]}"
    )["spec"]["template"]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == [
        "secret-s",
        "config-map-c",
        "pvc-p",
        "empty-dir-4",
    ]
    assert spec["volumes"][3]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    mounts = spec["containers"][0]["volumeMounts"]
    assert [mount["mountPath"] for mount in mounts] == ["/a", "/b", "/c", "/d", "/e"]
    assert mounts[3] == {"name": "pvc-p", "mountPath": "/d", "readOnly": True}


def test_options_are_annotations_and_limits() -> None:
    """Scaling goes to the revision, concurrency is a hard limit, amounts go to the container."""
    written = document(
        "deploy: {options: {scale: {min: 1, max: 5, metric: rps, target: 10, utilization: 70.5},"
        " resources: {requests: {cpu: 50m}, limits: {memory: 64Mi, concurrency: 3}}},"
        " annotations: {autoscaling.knative.dev/window: 6s}}"
    )
    annotations = written["spec"]["template"]["metadata"]["annotations"]
    assert {
        key.partition("/")[2]: text for key, text in annotations.items() if key.startswith("autoscaling")
    } == {
        "min-scale": "1",
        "max-scale": "5",
        "metric": "rps",
        "target": "10",
        "target-utilization-percentage": "70.5",
        "window": "6s",
    }
    assert written["spec"]["template"]["spec"]["containerConcurrency"] == 3
    assert container(written)["resources"] == {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}}
    assert not any(key.startswith("autoscaling") for key in written["metadata"]["annotations"])


@pytest.mark.anyio
async def test_the_platform_takes_it_without_a_complaint() -> None:
    """What is applied is valid by the rules of Serving, and nothing of it is warned of."""
    full = document(
        "run: {envs: [{name: A, value: 1}], volumes: [{secret: s, path: /a}, {emptyDir: {}, path: /b}]}\n"
        "deploy: {serviceAccountName: sa, imagePullSecret: p, options: {scale: {min: 1, target: 5},"
        " resources: {limits: {cpu: 1, concurrency: 2}}}}"
    )
    full["metadata"]["namespace"] = "default"
    rules = serving_rules.rules()
    app = apiserver.build(
        apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1), rules=rules
    )
    warnings: list[str] = []
    async with World(app) as world:
        await sdk.install_crds(world.client, wiring.crds())
        world.client.on_warning = warnings.append
        applied = await world.client.apply(serving.SERVICE, full, field_manager="f")
        again = await world.client.apply(serving.SERVICE, full, field_manager="f")
    assert warnings == []
    assert applied["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("labels", "annotations", "words"),
    [
        ({}, {}, "is no function"),
        ({"boson.dev/function": "true"}, {}, ""),
        ({"boson.dev/function": "true"}, {"functions.ondol.dev/created": "2023-01-01T10:00:00Z"}, ""),
        (
            {"boson.dev/function": "true"},
            {"functions.ondol.dev/created": "2024"},
            "is another function of that name",
        ),
    ],
)
def test_functions_of_one_name_are_told_apart(labels: Any, annotations: Any, words: str) -> None:
    """By when they were created; one that Knative's own tool deployed is anybody's."""
    live = {"metadata": {"labels": labels, "annotations": annotations}}
    assert service.another(function(), live).startswith(words)
    assert bool(service.another(function(), live)) is bool(words)


def test_what_cannot_be_deployed_says_why() -> None:
    """Other deployers, and events from elsewhere than a broker."""
    assert "deployer keda is not supported" in validation.not_deployable(function("deployer: keda"))
    kafka = "run: {kafka: {brokers: b, topic: t, consumerGroup: g}}"
    assert "run.kafka is not supported" in validation.not_deployable(function(kafka))
    assert validation.not_deployable(function()) == ""


LIVE = {"metadata": {"name": "f", "namespace": "ns", "uid": "u1"}}


def test_each_subscription_is_a_trigger_that_the_service_owns() -> None:
    """As Knative's own tool names and writes them."""
    subscribed = triggers.subscribed(function(), "default", {"type": "a"})
    subscribed = triggers.subscribed(subscribed, "other", {})
    subscribed = triggers.subscribed(subscribed, "default", {"source": "/b"})
    first, second = triggers.documents(subscribed, LIVE)
    assert first["metadata"]["name"] == "f-function-trigger-0"
    assert first["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert first["spec"] == {
        "broker": "default",
        "filter": {"attributes": {"type": "a", "source": "/b"}},
        "subscriber": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "f"}},
    }
    assert second["spec"]["broker"] == "other"


def test_triggers_of_subscriptions_that_are_gone_go() -> None:
    """Only those of this Service, and none that somebody else named alike."""
    live = triggers.documents(triggers.subscribed(triggers.subscribed(function(), "a", {}), "b", {}), LIVE)
    foreign = {"metadata": {"name": "f-function-trigger-7", "ownerReferences": [{"uid": "u2"}]}}
    assert triggers.surplus(triggers.subscribed(function(), "a", {}), LIVE, [*live, foreign]) == [
        "f-function-trigger-1"
    ]
