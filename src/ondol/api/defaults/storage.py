"""Defaults of claims and volumes, of their classes and of CSI drivers."""

from __future__ import annotations

from typing import Any

from ondol.api.defaults import pods


def claim(document: Any) -> None:
    document["status"]["phase"] = document["status"].get("phase") or "Pending"
    pods.claim_spec(document["spec"])


def volume(document: Any) -> None:
    spec, status = document["spec"], document["status"]
    status["phase"] = status.get("phase") or "Pending"
    spec["persistentVolumeReclaimPolicy"] = spec.get("persistentVolumeReclaimPolicy") or "Retain"
    pods.claim_spec(spec)
    if "hostPath" in spec:
        spec["hostPath"].setdefault("type", "")
    if "iscsi" in spec:
        spec["iscsi"]["iscsiInterface"] = spec["iscsi"].get("iscsiInterface") or "default"
    if "rbd" in spec:
        for field, value in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
            spec["rbd"][field] = spec["rbd"].get(field) or value


def storage_class(document: Any) -> None:
    document.setdefault("reclaimPolicy", "Delete")
    document.setdefault("volumeBindingMode", "Immediate")


def csi_driver(document: Any) -> None:
    spec = document["spec"]
    spec.setdefault("attachRequired", True)
    for field in ("podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"):
        spec.setdefault(field, False)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
