"""StatefulSets, DaemonSets and ControllerRevisions, as kubectl users know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

SETS: Final = "/apis/apps/v1/namespaces/default/statefulsets"
DAEMONS: Final = "/apis/apps/v1/namespaces/default/daemonsets"
REVISIONS: Final = "/apis/apps/v1/namespaces/default/controllerrevisions"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _template(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "example.org/app:1"}]
    return {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers, **spec}}


def _workload(name: str = "a", **spec: Any) -> dict[str, Any]:
    own = {"selector": {"matchLabels": {"app": "a"}}, "template": _template()}
    return {"metadata": {"name": name}, "spec": {**own, **spec}}


def _claim(**spec: Any) -> dict[str, Any]:
    own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": "data"}, "spec": {**own, **spec}}


async def test_a_stateful_set_is_completed(api: Any) -> None:
    """Defaults of the set, of its claims and of its pods; a fresh status; generation one."""
    stored = await api.post(SETS, _workload(volumeClaimTemplates=[_claim()], serviceName="a"))
    assert stored.status == 201, stored.json
    assert stored.json["metadata"]["generation"] == 1
    assert stored.json["status"] == {"replicas": 0, "availableReplicas": 0}
    spec = stored.json["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"], spec["revisionHistoryLimit"]) == (
        1,
        "OrderedReady",
        10,
    )
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    claim = spec["volumeClaimTemplates"][0]
    assert (claim["kind"], claim["spec"]["volumeMode"], claim["status"]) == (
        "PersistentVolumeClaim",
        "Filesystem",
        {"phase": "Pending"},
    )
    assert spec["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert stored.warnings == []


REFUSED_SETS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "an empty selector": (
        {"selector": {}},
        "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
    ),
    "no selector": ({"selector": None}, "spec.selector: Required value"),
    "a policy": (
        {"podManagementPolicy": "Fast"},
        "spec.podManagementPolicy: Invalid value: \"Fast\": must be 'OrderedReady' or 'Parallel'",
    ),
    "a strategy": (
        {"updateStrategy": {"type": "Recreate"}},
        "spec.updateStrategy: Invalid value: {\"type\":\"Recreate\"}: must be 'RollingUpdate' or 'OnDelete'",
    ),
    "a partition with OnDelete": (
        {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}},
        (
            'spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for '
            "updateStrategy "
            "'RollingUpdate'"
        ),
    ),
    "a negative partition": (
        {"updateStrategy": {"rollingUpdate": {"partition": -1}}},
        "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
    ),
    "a retention policy": (
        {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Keep"}},
        (
            'spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": '
            "supported values: "
            '"Retain", "Delete"'
        ),
    ),
    "a claim without a size": (
        {"volumeClaimTemplates": [_claim(resources={})]},
        "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
    ),
    "a service name": (
        {"serviceName": "A"},
        'spec.serviceName: Invalid value: "A": a lowercase RFC 1123 label must consist of',
    ),
    "negative replicas": (
        {"replicas": -1},
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    ),
    "a first ordinal": (
        {"ordinals": {"start": -1}},
        "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
    ),
    "other labels": (
        {"selector": {"matchLabels": {"app": "b"}}},
        (
            'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match '
            "template `labels`"
        ),
    ),
    "pods that end": (
        {"template": _template(restartPolicy="Never")},
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ),
    "a deadline": (
        {"template": _template(activeDeadlineSeconds=5)},
        (
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in "
            "StatefulSet is not "
            "Supported"
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED_SETS)
async def test_what_no_stateful_set_may_be(api: Any, name: str) -> None:
    """Refused in Kubernetes' words, at the field that is wrong."""
    spec, message = REFUSED_SETS[name]
    refused = await api.post(SETS, _workload(**spec))
    assert refused.status == 422
    assert message in refused.json["message"]


async def test_the_name_of_a_stateful_set_is_a_label(api: Any) -> None:
    """Its pods carry it as their host name."""
    refused = await api.post(SETS, _workload("a.b"))
    assert refused.status == 422
    assert 'metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label' in refused.json["message"]


async def test_mounts_of_claims_need_no_volumes(api: Any) -> None:
    """The volumes of claim templates are there although the pod's template does not list them."""
    mounted = {"name": "main", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    template = _template(containers=[mounted])
    assert (await api.post(SETS, _workload(template=template, volumeClaimTemplates=[_claim()]))).status == 201
    refused = await api.post(SETS, _workload("b", template=template))
    assert 'volumeMounts[0].name: Not found: "data"' in refused.json["message"]


async def test_a_stateful_set_changes_in_few_fields(api: Any) -> None:
    """Replicas, template and strategies change and count as generations; the rest is fixed."""
    await api.post(SETS, _workload(serviceName="a", volumeClaimTemplates=[_claim()]))
    changed = await api.patch(f"{SETS}/a", {"spec": {"replicas": 3, "minReadySeconds": 1}})
    assert (changed.status, changed.json["metadata"]["generation"]) == (200, 2)
    assert changed.warnings == []
    refused = await api.patch(f"{SETS}/a", {"spec": {"serviceName": "b"}})
    assert refused.status == 422
    assert (
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
        "'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
        "'minReadySeconds' "
        "are forbidden"
    ) in refused.json["message"]


async def test_status_and_scale_of_a_stateful_set(api: Any) -> None:
    """Each is written by itself: the status by controllers, the replicas by who scales."""
    stored = await api.post(SETS, _workload(updateStrategy={"rollingUpdate": {"maxUnavailable": 2}}))
    assert "maxUnavailable: not kept, an update replaces one pod at a time" in stored.warnings[0]
    status = {"replicas": 2, "readyReplicas": 1, "availableReplicas": 1}
    written = await api.patch(f"{SETS}/a/status", {"spec": {"replicas": 9}, "status": status})
    assert (written.json["spec"]["replicas"], written.json["status"]) == (1, status)
    assert "maxUnavailable" not in written.json["spec"]["updateStrategy"]["rollingUpdate"]
    whole = await api.patch(f"{SETS}/a", {"status": {"replicas": 7}})
    assert whole.json["status"] == status
    scale = await api.get(f"{SETS}/a/scale")
    assert scale.json["status"] == {"replicas": 2, "selector": "app=a"}
    assert (await api.patch(f"{SETS}/a/scale", {"spec": {"replicas": 4}})).json["spec"] == {"replicas": 4}
    table = (await api.get(SETS, accept=TABLE)).json
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        "Ready",
        "Age",
        "Containers",
        "Images",
    ]
    assert table["rows"][0]["cells"] == ["a", "1/4", "0s", "main", "example.org/app:1"]


async def test_a_negative_history_is_warned_of(api: Any) -> None:
    """All revisions are kept then."""
    stored = await api.post(SETS, _workload(revisionHistoryLimit=-1, volumeClaimTemplates=[_sized("1m")]))
    assert stored.status == 422  # a fraction of a byte
    stored = await api.post(SETS, _workload(revisionHistoryLimit=-1))
    assert any("a negative value retains all historical revisions" in each for each in stored.warnings)


def _sized(size: str) -> dict[str, Any]:
    return _claim(resources={"requests": {"storage": size}})


async def test_a_daemon_set_is_completed(api: Any) -> None:
    """Its defaults, its status of zeros, and the count of its templates."""
    stored = (await api.post(DAEMONS, _workload())).json
    rolling = {"maxUnavailable": 1, "maxSurge": 0}
    assert stored["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert stored["spec"]["revisionHistoryLimit"] == 10
    assert set(stored["status"].values()) == {0}
    generation = "deprecated.daemonset.template.generation"
    assert stored["metadata"]["annotations"] == {generation: "1"}
    patch = {"metadata": {"annotations": {generation: "7"}}, "spec": {"minReadySeconds": 1}}
    same = (await api.patch(f"{DAEMONS}/a", patch)).json
    assert (same["metadata"]["annotations"][generation], same["metadata"]["generation"]) == ("1", 2)
    template = {"spec": {"template": {"metadata": {"labels": {"tier": "x"}}}}}
    changed = (await api.patch(f"{DAEMONS}/a", template)).json
    assert (changed["metadata"]["annotations"][generation], changed["metadata"]["generation"]) == ("2", 3)


def _rolling(**fields: Any) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": fields}}


REFUSED_DAEMONS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "an empty selector": (
        {"selector": {}},
        "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
    ),
    "two kinds of room": (
        _rolling(maxUnavailable=1, maxSurge=1),
        (
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when "
            "maxUnavailable is "
            "non-zero"
        ),
    ),
    "no room": (
        _rolling(maxUnavailable=0),
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
    ),
    "more than all": (
        _rolling(maxUnavailable="101%"),
        (
            'spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be '
            "greater than 100%"
        ),
    ),
    "a strategy": (
        {"updateStrategy": {"type": "Recreate"}},
        (
            'spec.updateStrategy: Unsupported value: {"type":"Recreate"}: supported values: "RollingUpdate", '
            '"OnDelete"'
        ),
    ),
    "pods that end": (
        {"template": _template(restartPolicy="OnFailure")},
        'spec.template.spec.restartPolicy: Unsupported value: "OnFailure": supported values: "Always"',
    ),
    "a deadline": (
        {"template": _template(activeDeadlineSeconds=5)},
        "activeDeadlineSeconds in DaemonSet is not Supported",
    ),
    "a history": (
        {"revisionHistoryLimit": -1},
        "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED_DAEMONS)
async def test_what_no_daemon_set_may_be(api: Any, name: str) -> None:
    """Refused in Kubernetes' words, at the field that is wrong."""
    spec, message = REFUSED_DAEMONS[name]
    refused = await api.post(DAEMONS, _workload(**spec))
    assert refused.status == 422
    assert message in refused.json["message"]


async def test_the_selector_of_a_daemon_set_is_fixed(api: Any) -> None:
    """Its pods would no longer be its own."""
    await api.post(DAEMONS, _workload())
    patch = {
        "spec": {"selector": {"matchLabels": {"b": "c"}}, "template": {"metadata": {"labels": {"b": "c"}}}}
    }
    refused = await api.patch(f"{DAEMONS}/a", patch)
    assert refused.status == 422
    assert "spec.selector: Invalid value" in refused.json["message"]
    assert "field is immutable" in refused.json["message"]


async def test_columns_of_daemon_sets(api: Any) -> None:
    """Counts from the status, the node selector, and who they select."""
    await api.post(DAEMONS, _workload(template=_template(nodeSelector={"disk": "fast"})))
    table = (await api.get(DAEMONS, accept=TABLE)).json
    assert table["rows"][0]["cells"] == [
        "a",
        *[0] * 5,
        "disk=fast",
        "0s",
        "main",
        "example.org/app:1",
        "app=a",
    ]


async def test_a_revision_keeps_its_data(api: Any, config_map: Callable[..., Any]) -> None:
    """An object of data is needed, and is never another one; its number may grow."""
    owner = (await api.post("/api/v1/namespaces/default/configmaps", config_map("o"))).json["metadata"]
    reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "o", "uid": owner["uid"]}
    metadata = {"name": "a", "ownerReferences": [{**reference, "controller": True}]}
    refused = await api.post(REVISIONS, {"metadata": {"name": "a"}, "revision": 1})
    assert "data: Required value: data is mandatory" in refused.json["message"]
    refused = await api.post(REVISIONS, {"metadata": {"name": "a"}, "revision": -1, "data": [1]})
    assert "revision: Invalid value: -1" in refused.json["message"]
    assert "data: Required value: data must be a valid JSON object" in refused.json["message"]
    stored = await api.post(REVISIONS, {"metadata": metadata, "revision": 1, "data": {"spec": {"x": 1}}})
    assert stored.json["data"] == {"spec": {"x": 1}}
    assert (await api.patch(f"{REVISIONS}/a", {"revision": 2})).json["revision"] == 2
    refused = await api.patch(f"{REVISIONS}/a", {"data": {"spec": {"x": 2}}})
    assert "data: Invalid value" in refused.json["message"]
    table = (await api.get(REVISIONS, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", "statefulset.apps/o", 2, "0s"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (SETS, {"replicas": -1}, "status.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            SETS,
            {"replicas": 1, "readyReplicas": 2},
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
        ),
        (
            SETS,
            {"replicas": 2, "availableReplicas": 1},
            "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas",
        ),
        (DAEMONS, {"numberReady": -1}, "status.numberReady: Invalid value: -1: must be greater than"),
    ],
)
async def test_what_cannot_be_reported(api: Any, path: str, status: dict[str, Any], message: str) -> None:
    """Counts below zero, or of more than there are."""
    await api.post(path, _workload())
    refused = await api.patch(f"{path}/a/status", {"status": status})
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]
    assert (await api.patch(f"{path}/a/status", {"status": {"collisionCount": 2}})).status == 200
    refused = await api.patch(f"{path}/a/status", {"status": {"collisionCount": 1}})
    assert "status.collisionCount: Invalid value: 1: cannot be decremented" in refused.json["message"]
