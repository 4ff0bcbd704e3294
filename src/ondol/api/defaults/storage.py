"""Defaults of PersistentVolumeClaims and PersistentVolumes."""

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
