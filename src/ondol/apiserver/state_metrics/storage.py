"""Config maps and secrets, volumes and their claims."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.state_metrics.families import (
    Family,
    Sample,
    Subject,
    amount,
    at,
    condition_statuses,
    created,
    deleted,
    each_of,
    exists,
    info,
    named,
    namespaced,
    one,
    owned,
    revision,
)

CONFIG_MAP: Final = Subject(
    resources.CONFIG_MAP,
    "configmap",
    namespaced("configmap"),
    (exists("configmap"), created("configmap"), revision("configmap")),
)
SECRET: Final = Subject(
    resources.SECRET,
    "secret",
    namespaced("secret"),
    (
        exists("secret"),
        Family("kube_secret_type", "Its type.", lambda obj: info(("type", str(obj.get("type") or "")))),
        created("secret"),
        revision("secret"),
        owned("secret"),
    ),
)

# Volumes

_VOLUME_PHASES: Final = ("Pending", "Available", "Bound", "Released", "Failed")
_CLAIM_PHASES: Final = ("Lost", "Bound", "Pending")
_BETA_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
_SOURCES: Final = {
    "nfs_server": ("nfs", "server"),
    "nfs_path": ("nfs", "path"),
    "csi_driver": ("csi", "driver"),
    "csi_volume_handle": ("csi", "volumeHandle"),
    "local_path": ("local", "path"),
    "local_fs": ("local", "fsType"),
    "host_path": ("hostPath", "path"),
    "host_path_type": ("hostPath", "type"),
    "iscsi_target_portal": ("iscsi", "targetPortal"),
    "iscsi_iqn": ("iscsi", "iqn"),
    "iscsi_initiator_name": ("iscsi", "initiatorName"),
}


def _volume(volume: Object) -> Iterable[Sample]:
    """Where it is; labels that would be empty are left out, which is the same to Prometheus."""
    spec = objects.spec(volume)
    places = ((label, at(spec, *path)) for label, path in _SOURCES.items())
    return info(
        ("storageclass", str(spec.get("storageClassName") or "")),
        ("reclaim_policy", str(spec.get("persistentVolumeReclaimPolicy") or "")),
        *((label, str(place)) for label, place in places if place),
    )


def _claim_reference(volume: Object) -> Iterable[Sample]:
    reference = objects.spec(volume).get("claimRef")
    if not reference:
        return ()
    name, namespace = str(reference.get("name") or ""), str(reference.get("namespace") or "")
    return info(("name", name), ("claim_namespace", namespace))


def _access_modes(obj: Object) -> Iterable[Sample]:
    modes = dict.fromkeys(map(str, objects.spec(obj).get("accessModes") or ()))
    return [((("access_mode", mode),), 1) for mode in modes]


PERSISTENT_VOLUME: Final = Subject(
    resources.PERSISTENT_VOLUME,
    "persistentvolume",
    named("persistentvolume"),
    (
        Family("kube_persistentvolume_info", "Where it is.", _volume),
        created("persistentvolume"),
        deleted("persistentvolume"),
        Family(
            "kube_persistentvolume_capacity_bytes",
            "Its size.",
            lambda obj: one(amount(at(obj, "spec", "capacity", "storage") or 0)),
        ),
        Family(
            "kube_persistentvolume_status_phase",
            "Its phase.",
            lambda obj: each_of("phase", _VOLUME_PHASES, str(objects.status(obj).get("phase") or "")),
        ),
        Family("kube_persistentvolume_claim_ref", "The claim that it is for.", _claim_reference),
        Family(
            "kube_persistentvolume_volume_mode",
            "Whether it is a file system or a device.",
            lambda obj: info(("volumemode", str(objects.spec(obj).get("volumeMode") or "Filesystem"))),
        ),
        Family("kube_persistentvolume_access_mode", "How it may be mounted.", _access_modes),
    ),
)


def _claim(claim: Object) -> Iterable[Sample]:
    spec = objects.spec(claim)
    storage_class = objects.annotations(claim).get(_BETA_CLASS) or spec.get("storageClassName")
    return info(
        ("storageclass", str(storage_class or "")),
        ("volumename", str(spec.get("volumeName") or "")),
        ("volumemode", str(spec.get("volumeMode") or "")),
    )


def _requested(claim: Object) -> Iterable[Sample]:
    size = at(claim, "spec", "resources", "requests", "storage")
    return one(None if size is None else amount(size))


PERSISTENT_VOLUME_CLAIM: Final = Subject(
    resources.PERSISTENT_VOLUME_CLAIM,
    "persistentvolumeclaim",
    namespaced("persistentvolumeclaim"),
    (
        Family("kube_persistentvolumeclaim_info", "Its class and its volume.", _claim),
        created("persistentvolumeclaim"),
        deleted("persistentvolumeclaim"),
        Family(
            "kube_persistentvolumeclaim_status_phase",
            "Its phase.",
            lambda obj: each_of("phase", _CLAIM_PHASES, str(objects.status(obj).get("phase") or "")),
        ),
        Family("kube_persistentvolumeclaim_status_condition", "Its conditions.", condition_statuses),
        Family(
            "kube_persistentvolumeclaim_resource_requests_storage_bytes",
            "The size that it asks for.",
            _requested,
        ),
        Family("kube_persistentvolumeclaim_access_mode", "How it is to be mounted.", _access_modes),
    ),
)


def _storage_class(storage_class: Object) -> Iterable[Sample]:
    return info(
        ("provisioner", str(storage_class.get("provisioner") or "")),
        ("reclaim_policy", str(storage_class.get("reclaimPolicy") or "Delete")),
        ("volume_binding_mode", str(storage_class.get("volumeBindingMode") or "Immediate")),
    )


STORAGE_CLASS: Final = Subject(
    resources.STORAGE_CLASS,
    "storageclass",
    named("storageclass"),
    (Family("kube_storageclass_info", "Who makes its volumes.", _storage_class), created("storageclass")),
)
