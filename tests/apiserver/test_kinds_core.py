"""Kinds and parts of the core group that no other test is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

CONTROLLERS: Final = "/api/v1/namespaces/default/replicationcontrollers"
TEMPLATES: Final = "/api/v1/namespaces/default/podtemplates"
PODS: Final = "/api/v1/namespaces/default/pods"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _template(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "example.org/app:1"}]
    return {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers, **spec}}


def _controller(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"template": _template(), **spec}}


async def test_a_replication_controller_takes_labels_of_its_template(api: Any) -> None:
    """For itself and for its selector, which is not a LabelSelector: its scale shows it all the same."""
    stored = await api.post(CONTROLLERS, _controller())
    assert stored.status == 201, stored.json
    assert stored.json["metadata"]["labels"] == {"app": "a"}
    assert (stored.json["spec"]["selector"], stored.json["spec"]["replicas"]) == ({"app": "a"}, 1)
    assert (stored.json["status"], stored.json["metadata"]["generation"]) == ({"replicas": 0}, 1)
    scale = (await api.get(f"{CONTROLLERS}/a/scale")).json
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 0, "selector": "app=a"})
    assert (await api.patch(f"{CONTROLLERS}/a/scale", {"spec": {"replicas": 0}})).status == 200
    await api.patch(f"{CONTROLLERS}/a/status", {"status": {"replicas": 3, "readyReplicas": 2}})
    table = (await api.get(f"{CONTROLLERS}?fieldSelector=status.replicas=3", accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", 0, 3, 2, "0s", "main", "example.org/app:1", "app=a"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"template": {"spec": _template()["spec"]}}, "spec.selector: Required value"),
        ({"template": None}, "spec.template: Required value"),
        (
            {"selector": {"app": "b"}},
            (
                'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not '
                "match template "
                "`labels`"
            ),
        ),
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"template": _template(restartPolicy="Never")},
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (
            {"template": _template(activeDeadlineSeconds=1)},
            "activeDeadlineSeconds in ReplicationController is not Supported",
        ),
    ],
)
async def test_what_no_replication_controller_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(CONTROLLERS, _controller(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_replication_controller_leaves_its_pods(api: Any) -> None:
    """Unless its deletion says otherwise."""
    await api.post(CONTROLLERS, _controller())
    assert (await api.delete(f"{CONTROLLERS}/a")).json["metadata"]["finalizers"] == ["orphan"]


async def test_a_pod_template_is_completed(api: Any) -> None:
    """As the pods made by it would be, and checked like them."""
    stored = await api.post(TEMPLATES, {"metadata": {"name": "a"}, "template": _template()})
    assert stored.json["template"]["spec"]["restartPolicy"] == "Always"
    changed = await api.patch(f"{TEMPLATES}/a", {"template": {"metadata": {"labels": {"b": "c"}}}})
    assert changed.json["metadata"]["generation"] == 2
    refused = await api.post(TEMPLATES, {"metadata": {"name": "b"}, "template": {"spec": {"containers": []}}})
    assert "template.spec.containers: Required value" in refused.json["message"]
    table = (await api.get(TEMPLATES, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", "main", "example.org/app:1", "app=a,b=c"]


async def test_component_statuses_are_answered(api: Any) -> None:
    """Of the store, which answers, with the warning that nobody should ask any more."""
    listed = await api.get("/api/v1/componentstatuses")
    assert listed.json["kind"] == "ComponentStatusList"
    assert [each["metadata"]["name"] for each in listed.json["items"]] == ["store"]
    assert listed.warnings == ['299 - "v1 ComponentStatus is deprecated in v1.19+"']
    one = (await api.get("/api/v1/componentstatuses/store")).json
    assert one["conditions"] == [{"type": "Healthy", "status": "True", "message": "ok"}]
    assert (await api.get("/api/v1/componentstatuses/etcd")).status == 404
    assert (await api.post("/api/v1/componentstatuses", {"metadata": {"name": "a"}})).status == 405
    table = (await api.get("/api/v1/componentstatuses", accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["store", "Healthy", "ok", ""]
    assert (await api.get("/api/v1/componentstatuses?fieldSelector=metadata.name%3Da")).json["items"] == []


def _ephemeral(name: str = "debug", **fields: Any) -> dict[str, Any]:
    return {"spec": {"ephemeralContainers": [{"name": name, "image": "busybox", **fields}]}}


Make = Callable[..., Any]


async def test_ephemeral_containers_are_added(api: Any, pod: Make) -> None:
    """At their own path alone, completed like others, and with the warning that nothing starts them yet."""
    refused = await api.post(PODS, pod("p", **_ephemeral()["spec"]))
    assert "spec.ephemeralContainers: Forbidden: cannot be set on create" in refused.json["message"]
    await api.post(PODS, pod("p"))
    part = f"{PODS}/p/ephemeralcontainers"
    added = await api.patch(part, _ephemeral(targetContainerName="main"), "strategic-merge-patch+json")
    assert added.status == 200, added.json
    assert added.warnings == []
    container = added.json["spec"]["ephemeralContainers"][0]
    assert (container["imagePullPolicy"], added.json["metadata"]["generation"]) == ("Always", 2)
    whole = (await api.get(part)).json
    assert whole["spec"] == added.json["spec"]
    whole["metadata"]["labels"] = {"other": "label"}
    whole["spec"]["containers"][0]["image"] = "other"
    whole["spec"]["ephemeralContainers"].append({"name": "more", "image": "busybox:1"})
    replaced = (await api.put(part, whole)).json
    assert [each["name"] for each in replaced["spec"]["ephemeralContainers"]] == ["debug", "more"]
    assert replaced["spec"]["containers"][0]["image"] == "example.org/app:1"
    assert "labels" not in replaced["metadata"]
    refused = await api.patch(f"{PODS}/p", _ephemeral("new"), "strategic-merge-patch+json")
    assert refused.status == 422


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"ports": [{"containerPort": 80}]}, ".ports: Forbidden: cannot be set for an Ephemeral Container"),
        (
            {"resources": {"limits": {"cpu": "1"}}},
            ".resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
        ({"targetContainerName": "none"}, '.targetContainerName: Not found: "none"'),
        ({"restartPolicy": "Always"}, ".restartPolicy: Forbidden: may not be set for ephemeral containers"),
        ({"name": "main"}, '.name: Duplicate value: "main"'),
        ({"image": ""}, ".image: Required value"),
    ],
)
async def test_what_no_ephemeral_container_may_be(
    api: Any, pod: Make, container: dict[str, Any], message: str
) -> None:
    """Refused in Kubernetes' words."""
    await api.post(PODS, pod("p"))
    body = _ephemeral(**container)
    refused = await api.patch(f"{PODS}/p/ephemeralcontainers", body, "strategic-merge-patch+json")
    assert refused.status == 422, refused.json
    assert f"spec.ephemeralContainers[0]{message}" in refused.json["message"]


async def test_ephemeral_containers_stay(api: Any, pod: Make) -> None:
    """They are never removed or changed."""
    await api.post(PODS, pod("p"))
    part = f"{PODS}/p/ephemeralcontainers"
    await api.patch(part, _ephemeral())
    changed = await api.patch(part, _ephemeral(image="other"))
    assert (
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be changed'
        in (changed.json["message"])
    )
    removed = await api.patch(part, {"spec": {"ephemeralContainers": []}})
    assert 'existing ephemeral containers "debug" may not be removed' in removed.json["message"]


def _sizes(**resources: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "resources": resources}]}}


async def test_the_size_of_a_pod_is_written_by_itself(api: Any, pod: Make) -> None:
    """It is kept and counted as a generation; nobody is warned, for the node resizes what runs."""
    document = pod("p")
    document["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
    await api.post(PODS, document)
    part = f"{PODS}/p/resize"
    resized = await api.patch(part, _sizes(requests={"cpu": "2"}), "strategic-merge-patch+json")
    assert resized.status == 200, resized.json
    assert resized.json["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "2", "memory": "1Gi"}
    assert resized.json["metadata"]["generation"] == 2
    assert resized.warnings == []
    image = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    same = await api.patch(part, image, "strategic-merge-patch+json")
    assert (same.json["spec"], same.warnings) == (resized.json["spec"], [])
    refused = await api.patch(f"{PODS}/p", _sizes(requests={"cpu": "3"}), "strategic-merge-patch+json")
    assert refused.status == 422


ENDS = {"exitCodes": {"operator": "In", "values": [3]}, "action": "Restart"}


@pytest.mark.parametrize("group", ["containers", "initContainers"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"restartPolicy": "Never", "restartPolicyRules": [ENDS]}, ""),
        ({"restartPolicy": "OnFailure"}, ""),
        ({"restartPolicyRules": [ENDS]}, "must specify restartPolicy when restart rules are used"),
        ({"restartPolicy": "Sometimes"}, 'supported values: "Always", "Never", "OnFailure"'),
        ({"restartPolicy": "Never", "restartPolicyRules": [ENDS] * 21}, "must have at most 20 items"),
        (
            {"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart"}]},
            "exitCodes: Required value",
        ),
        (
            {"restartPolicy": "Never", "restartPolicyRules": [{**ENDS, "action": "Stop"}]},
            'restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart"',
        ),
        (
            {
                "restartPolicy": "Never",
                "restartPolicyRules": [{**ENDS, "exitCodes": {"operator": "Out", "values": []}}],
            },
            'operator: Unsupported value: "Out": supported values: "In", "NotIn"',
        ),
    ],
)
async def test_restart_rules_are_checked(
    api: Any, pod: Make, group: str, fields: dict[str, Any], message: str
) -> None:
    """They need a restart policy of the container's own, and name exit codes."""
    document = pod("p")
    document["spec"].setdefault(group, [{"name": "first", "image": "i"}])[0].update(fields)
    answer = await api.post(PODS, document)
    assert answer.status == (422 if message else 201)
    assert message in answer.json.get("message", "")
    assert answer.warnings == []


@pytest.mark.parametrize(
    ("policies", "restarts", "message"),
    [
        ([{"resourceName": "disk", "restartPolicy": "NotRequired"}], "Always", 'Unsupported value: "disk"'),
        ([{"resourceName": "cpu", "restartPolicy": "Never"}], "Always", 'Unsupported value: "Never"'),
        ([{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2, "Always", 'Duplicate value: "cpu"'),
        (
            [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            "Never",
            "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
        ),
    ],
)
async def test_resize_policies_are_checked(
    api: Any, pod: Make, policies: list[dict[str, str]], restarts: str, message: str
) -> None:
    """Each names one resource that can be changed, and what becomes of the container."""
    document = pod("p")
    document["spec"]["restartPolicy"] = restarts
    document["spec"]["containers"][0]["resizePolicy"] = policies
    refused = await api.post(PODS, document)
    assert refused.status == 422
    assert message in refused.json["message"]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (
            _sizes(limits={"cpu": "1", "memory": "1Gi"}),
            'spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing',
        ),
        (
            _sizes(requests={"cpu": None}),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            _sizes(requests={"ephemeral-storage": "1Gi"}),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            {"spec": {"containers": [{"name": "more", "image": "i"}]}},
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
    ],
)
async def test_only_the_size_of_a_pod_is_resized(
    api: Any, pod: Make, patch: dict[str, Any], message: str
) -> None:
    """Refused in Kubernetes' words."""
    document = pod("p")
    document["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
    await api.post(PODS, document)
    refused = await api.patch(f"{PODS}/p/resize", patch, "strategic-merge-patch+json")
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        ({"limits": {"cpu": "2", "memory": "2Gi"}}, ""),
        ({"requests": {"cpu": "500m"}}, "must be greater than or equal to aggregate container requests of 1"),
        ({"limits": {"cpu": "1500m"}}, "must be less than or equal to pod limits of 1500m"),
        ({"limits": {"ephemeral-storage": "1Gi"}}, 'Unsupported value: "ephemeral-storage"'),
    ],
)
async def test_the_amounts_of_a_whole_pod_are_checked(
    api: Any, pod: Make, whole: dict[str, Any], message: str
) -> None:
    """Its containers fit into them; nobody is warned."""
    document = pod("p")
    document["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    document["spec"]["resources"] = whole
    answer = await api.post(PODS, document)
    assert answer.status == (422 if message else 201), answer.json
    assert message in answer.json.get("message", "")
    assert answer.warnings == []


FILE_KEY = {"volumeName": "v", "path": "env", "key": "A"}


@pytest.mark.parametrize(
    ("of_pod", "of_container", "message"),
    [
        ({"hostnameOverride": "own.example"}, {}, ""),
        (
            {"hostnameOverride": "own.example", "hostNetwork": True},
            {},
            "may not be specified when hostNetwork",
        ),
        ({"hostnameOverride": "Own"}, {}, "spec.hostnameOverride: Invalid value"),
        ({"hostnameOverride": "a" * 65}, {}, "may not be more than 64 bytes"),
        ({}, {"env": [{"name": "A", "valueFrom": {"fileKeyRef": FILE_KEY}}]}, ""),
        (
            {},
            {"env": [{"name": "A", "valueFrom": {"fileKeyRef": {**FILE_KEY, "path": "../x"}}}]},
            "must not contain '..'",
        ),
        ({"volumes": [{"name": "v", "image": {}}]}, {}, "volumes[0].image.reference: Required value"),
        (
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]},
            "may only be specified when readOnly is true",
        ),
        ({"securityContext": {"fsGroup": 1, "fsGroupChangePolicy": "OnRootMismatch"}}, {}, ""),
    ],
)
async def test_what_surrounds_containers_is_checked(
    api: Any, pod: Make, of_pod: dict[str, Any], of_container: dict[str, Any], message: str
) -> None:
    """Names, files, mounts; what is taken brings no warning."""
    document = pod("p")
    document["spec"] |= of_pod
    document["spec"]["containers"][0] |= of_container
    answer = await api.post(PODS, document)
    assert answer.status == (422 if message else 201), answer.json
    assert message in answer.json.get("message", "")
    assert answer.warnings == []
