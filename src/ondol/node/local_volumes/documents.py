"""Which claims the provisioner is to make a volume for, and what the volume is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api import objects, volumes
from ondol.api.objects import Object
from ondol.contracts import storage


def name_of(claim: Mapping[str, Any]) -> str:
    """Of the volume that is made for the claim, and of its folder."""
    return f"pvc-{objects.uid(claim)}"


def is_asked(claim: Object, node: str) -> bool:
    """Whether the claim waits for a volume of this node's provisioner.

    One that names no node is of a class that binds at once; the binder asks no earlier for any other.
    """
    annotations = objects.annotations(claim)
    return (
        annotations.get(volumes.STORAGE_PROVISIONER) == storage.PROVISIONER
        and annotations.get(volumes.SELECTED_NODE, node) == node
        and not volumes.volume_name(claim)
        and not objects.is_deleting(claim)
    )


def refusal(claim: Object, storage_class: Object) -> str:
    """Why no volume is made for the claim; empty if one is."""
    spec = objects.spec(claim)
    if volumes.volume_mode(claim) != "Filesystem":
        return f"{storage.PROVISIONER} makes no volumes of volumeMode {volumes.volume_mode(claim)}"
    if spec.get("selector") is not None:
        return "claim Selector is not supported"
    if spec.get("dataSource") is not None or spec.get("dataSourceRef") is not None:
        return f"{storage.PROVISIONER} fills volumes from no data source"
    if spec.get("volumeAttributesClassName"):
        return f"{storage.PROVISIONER} knows no volume attributes"
    for field in ("parameters", "mountOptions", "allowedTopologies"):
        if storage_class.get(field):
            return f"{storage.PROVISIONER} knows no {field}"
    return ""


def volume(claim: Object, storage_class: Object, node: str, path: str) -> Object:
    """The volume, bound to this claim and no other from its beginning."""
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name_of(claim),
            "annotations": {volumes.PROVISIONED_BY: storage.PROVISIONER},
            "finalizers": [storage.FINALIZER],
        },
        "spec": {
            "accessModes": list(objects.spec(claim).get("accessModes") or ()),
            "capacity": {"storage": volumes.requested(claim)},
            "claimRef": volumes.reference_to(claim),
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": objects.name(storage_class),
            "volumeMode": "Filesystem",
        },
    }


def is_of(volume: Object, node: str) -> bool:
    """Whether the volume was made by the provisioner of this node."""
    terms = ((objects.spec(volume).get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
    values = [
        value
        for term in terms or ()
        for expression in term.get("matchExpressions") or ()
        for value in expression.get("values") or ()
    ]
    return objects.annotations(volume).get(volumes.PROVISIONED_BY) == storage.PROVISIONER and values == [node]
