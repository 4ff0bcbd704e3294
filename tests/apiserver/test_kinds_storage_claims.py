"""PersistentVolumeClaims and PersistentVolumes, as kubectl users know them."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

CLAIMS: Final = "/api/v1/namespaces/default/persistentvolumeclaims"
VOLUMES: Final = "/api/v1/persistentvolumes"
CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _claim(name: str = "a", **spec: Any) -> dict[str, Any]:
    own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": {**own, **spec}}


def _volume(name: str = "v", **spec: Any) -> dict[str, Any]:
    own = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}}
    return {"metadata": {"name": name}, "spec": {**own, **spec}}


async def test_a_claim_is_completed(api: Any) -> None:
    """It waits for a volume, and says twice what it is to be filled from."""
    source = {"kind": "PersistentVolumeClaim", "name": "b"}
    stored = await api.post(CLAIMS, _claim(dataSource=source))
    assert stored.status == 201, stored.json
    assert (stored.json["status"], stored.json["spec"]["volumeMode"]) == ({"phase": "Pending"}, "Filesystem")
    assert stored.json["spec"]["dataSourceRef"] == source
    other = await api.post(
        CLAIMS, _claim("b", dataSource={"kind": "Secret", "name": "s", "apiGroup": "x.io"})
    )
    assert "dataSource" not in other.json["spec"]
    deleted = await api.delete(f"{CLAIMS}/a")
    assert deleted.json["kind"] == "PersistentVolumeClaim"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"accessModes": []}, "spec.accessModes: Required value: at least 1 access mode is required"),
        (
            {"accessModes": ["Mine"]},
            (
                'spec.accessModes: Unsupported value: "Mine": supported values: "ReadOnlyMany", '
                '"ReadWriteMany", '
                '"ReadWriteOnce", "ReadWriteOncePod"'
            ),
        ),
        (
            {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]},
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        ({"resources": {}}, "spec.resources[storage]: Required value"),
        (
            {"resources": {"requests": {"storage": "0"}}},
            'spec.resources[storage]: Invalid value: "0": must be greater than zero',
        ),
        (
            {"storageClassName": "A"},
            'spec.storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of',
        ),
        (
            {"volumeMode": "Tape"},
            'spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"',
        ),
        (
            {"dataSourceRef": {"kind": "Secret", "name": "s"}},
            (
                "spec.dataSourceRef: Invalid value: \"Secret\": must be 'PersistentVolumeClaim' when "
                "referencing the "
                "default apiGroup"
            ),
        ),
        (
            {
                "dataSource": {"kind": "PersistentVolumeClaim", "name": "b"},
                "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "c"},
            },
            "must match dataSourceRef",
        ),
    ],
)
async def test_what_no_claim_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(CLAIMS, _claim(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_claim_stays_what_was_asked_for(api: Any) -> None:
    """It is bound once, and grows only when it is bound, never below what it has."""
    for name, grows in (("fast", True), ("fixed", False)):
        stored = {"metadata": {"name": name}, "provisioner": "x.io/y", "allowVolumeExpansion": grows}
        assert (await api.post(CLASSES, stored)).status == 201
    await api.post(CLAIMS, _claim(storageClassName="fast"))
    fixed = (
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound"
    )
    bigger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    refused = await api.patch(f"{CLAIMS}/a", bigger)
    assert refused.status == 422
    assert f"spec: Forbidden: {fixed}" in refused.json["message"]
    assert (await api.patch(f"{CLAIMS}/a", {"spec": {"volumeName": "v"}})).status == 200
    assert (await api.patch(f"{CLAIMS}/a", {"spec": {"volumeName": "w"}})).status == 422
    bound = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    assert (await api.patch(f"{CLAIMS}/a/status", {"status": bound})).json["status"] == bound
    assert (await api.patch(f"{CLAIMS}/a", bigger)).status == 200
    smaller = {"spec": {"resources": {"requests": {"storage": "512Mi"}}}}
    refused = await api.patch(f"{CLAIMS}/a", smaller)
    assert (
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
        in (refused.json["message"])
    )
    table = (await api.get(CLAIMS, accept=TABLE)).json
    assert table["rows"][0]["cells"] == [
        "a",
        "Bound",
        "v",
        "1Gi",
        "RWO",
        "fast",
        "<unset>",
        "0s",
        "Filesystem",
    ]


@pytest.mark.parametrize(("name", "spec"), [("fixed", {"storageClassName": "fixed"}), ("none", {})])
async def test_a_claim_grows_only_if_its_class_lets_it(api: Any, name: str, spec: dict[str, Any]) -> None:
    """One that was not made by such a class is refused in words."""
    await api.post(CLASSES, {"metadata": {"name": "fixed"}, "provisioner": "x.io/y"})
    await api.post(CLAIMS, _claim(name, **spec))
    await api.patch(f"{CLAIMS}/{name}/status", {"status": {"phase": "Bound"}})
    bigger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    refused = await api.patch(f"{CLAIMS}/{name}", bigger)
    assert refused.status == 403
    assert refused.json["message"] == (
        f'persistentvolumeclaims "{name}" is forbidden: only dynamically provisioned pvc can be resized and '
        "the storageclass that provisions the pvc must support resize"
    )


async def test_claims_and_volumes_stay_while_they_are_used(api: Any) -> None:
    """Each is made with the finalizer that a controller takes off, once, however it was made."""
    stored = await api.post(CLAIMS, _claim())
    assert stored.json["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    own = _volume()
    own["metadata"]["finalizers"] = ["kubernetes.io/pv-protection", "x.io/mine"]
    stored = await api.post(VOLUMES, own)
    assert stored.json["metadata"]["finalizers"] == ["kubernetes.io/pv-protection", "x.io/mine"]
    await api.delete(f"{CLAIMS}/a")
    assert "deletionTimestamp" in (await api.get(f"{CLAIMS}/a")).json["metadata"]


async def test_the_class_of_a_claim_is_set_once(api: Any) -> None:
    """By whoever knows the default one; then it stays."""
    await api.post(CLAIMS, _claim())
    assert (await api.patch(f"{CLAIMS}/a", {"spec": {"storageClassName": "fast"}})).status == 200
    assert (await api.patch(f"{CLAIMS}/a", {"spec": {"storageClassName": "slow"}})).status == 422
    annotation = {"volume.beta.kubernetes.io/storage-class": "slow"}
    refused = await api.patch(f"{CLAIMS}/a", {"metadata": {"annotations": annotation}})
    assert (
        "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value"
        in (refused.json["message"])
    )


async def test_a_volume_is_completed(api: Any) -> None:
    """It is kept by default, and tells since when it is in its phase."""
    stored = await api.post(VOLUMES, _volume())
    assert stored.status == 201, stored.json
    assert stored.json["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    began = stored.json["status"]
    assert began["phase"] == "Pending"
    await api.clock.advance(60)
    same = (await api.patch(f"{VOLUMES}/v/status", {"status": {"message": "hm"}})).json["status"]
    assert same["lastPhaseTransitionTime"] == began["lastPhaseTransitionTime"]
    moved = (await api.patch(f"{VOLUMES}/v/status", {"status": {"phase": "Available"}})).json["status"]
    assert moved["lastPhaseTransitionTime"] > began["lastPhaseTransitionTime"]
    await api.patch(f"{VOLUMES}/v", {"spec": {"claimRef": {"namespace": "default", "name": "a"}}})
    table = (await api.get(VOLUMES, accept=TABLE)).json
    cells = ["v", "1Gi", "RWO", "Retain", "Available", "default/a", "", "<unset>", "", "60s", "Filesystem"]
    assert table["rows"][0]["cells"] == cells


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"accessModes": []}, "spec.accessModes: Required value"),
        ({"capacity": {}}, "spec.capacity: Required value"),
        (
            {"capacity": {"storage": "-1"}},
            'spec.capacity[storage]: Invalid value: "-1": must be greater than zero',
        ),
        (
            {"persistentVolumeReclaimPolicy": "Burn"},
            (
                'spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: '
                '"Delete", "Recycle", '
                '"Retain"'
            ),
        ),
        ({"hostPath": None}, "spec: Required value: must specify a volume type"),
        (
            {"nfs": {"server": "s", "path": "/"}},
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            {"hostPath": {"path": "/a/../b"}},
            "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            {"hostPath": None, "local": {"path": "/a"}},
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ),
        (
            {"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"},
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ),
        ({"hostPath": None, "csi": {"driver": "d"}}, "spec.csi.volumeHandle: Required value"),
    ],
)
async def test_what_no_volume_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(VOLUMES, _volume(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_volume_stays_what_it_is_made_of(api: Any) -> None:
    """Its source and its mode are fixed; what may use it is not."""
    await api.post(VOLUMES, _volume())
    refused = await api.patch(f"{VOLUMES}/v", {"spec": {"hostPath": {"path": "/other"}}})
    assert (
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
        in (refused.json["message"])
    )
    refused = await api.patch(f"{VOLUMES}/v", {"spec": {"volumeMode": "Block"}})
    assert 'volumeMode: Invalid value: "Block": field is immutable' in refused.json["message"]
    recycled = await api.patch(f"{VOLUMES}/v", {"spec": {"persistentVolumeReclaimPolicy": "Recycle"}})
    assert recycled.status == 200
    assert any("The Recycle reclaim policy is deprecated" in each for each in recycled.warnings)
