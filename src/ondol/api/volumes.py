"""What claims and volumes say of each other: classes, modes, sizes, and who is bound to whom. Pure.

The words are those of Kubernetes' `component-helpers/storage/volume`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from ondol.api import objects, pod_references
from ondol.api.objects import Key, Object
from ondol.api.validation.claims import CLASS_ANNOTATION
from ondol.base import quantity

BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
STORAGE_PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
STORAGE_PROVISIONER_BETA: Final = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
CLAIM_PROTECTION: Final = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION: Final = "kubernetes.io/pv-protection"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
FIRST_CONSUMER: Final = "WaitForFirstConsumer"


def class_name(obj: Mapping[str, Any]) -> str:
    """The storage class of a claim or a volume; empty for none."""
    earlier = objects.annotations(obj).get(CLASS_ANNOTATION)
    return str(earlier if earlier is not None else objects.spec(obj).get("storageClassName") or "")


def names_class(claim: Mapping[str, Any]) -> bool:
    """Whether the claim says anything of its class; the empty name asks for none."""
    return CLASS_ANNOTATION in objects.annotations(claim) or (
        objects.spec(claim).get("storageClassName") is not None
    )


def access_modes(obj: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(objects.spec(obj).get("accessModes") or ())


def volume_mode(obj: Mapping[str, Any]) -> str:
    return str(objects.spec(obj).get("volumeMode") or "Filesystem")


def requested(claim: Mapping[str, Any]) -> Any:
    """The size as it is written."""
    return ((objects.spec(claim).get("resources") or {}).get("requests") or {}).get("storage") or "0"


def requested_bytes(claim: Mapping[str, Any]) -> Fraction:
    return quantity.parse(requested(claim))


def capacity_bytes(volume: Mapping[str, Any]) -> Fraction:
    return quantity.parse((objects.spec(volume).get("capacity") or {}).get("storage") or "0")


def phase(obj: Mapping[str, Any]) -> str:
    return str(objects.status(obj).get("phase") or "Pending")


def volume_name(claim: Mapping[str, Any]) -> str:
    return str(objects.spec(claim).get("volumeName") or "")


def claim_ref(volume: Mapping[str, Any]) -> Mapping[str, Any] | None:
    reference: Mapping[str, Any] | None = objects.spec(volume).get("claimRef")
    return reference


def claim_key(volume: Mapping[str, Any]) -> Key | None:
    """The claim a volume is bound or reserved to."""
    reference = claim_ref(volume)
    if reference is None:
        return None
    return Key(str(reference.get("namespace") or ""), str(reference.get("name") or ""))


def is_bound_to(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """Whether the volume is the claim's, or reserved to a claim of its name."""
    reference = claim_ref(volume)
    if reference is None or claim_key(volume) != objects.key(claim):
        return False
    return not reference.get("uid") or reference["uid"] == objects.uid(claim)


def reference_to(claim: Mapping[str, Any]) -> Object:
    """The `claimRef` that binds a volume to exactly this claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": objects.namespace(claim),
        "name": objects.name(claim),
        "uid": objects.uid(claim),
        "resourceVersion": objects.resource_version(claim),
    }


def is_bound(claim: Mapping[str, Any]) -> bool:
    """Whether the claim and its volume know of each other."""
    return bool(volume_name(claim)) and BIND_COMPLETED in objects.annotations(claim)


def reclaim_policy(volume: Mapping[str, Any]) -> str:
    return str(objects.spec(volume).get("persistentVolumeReclaimPolicy") or "Retain")


def own_claim_name(pod: Mapping[str, Any], volume: Mapping[str, Any]) -> str:
    """The name of the claim that is made for an `ephemeral` volume of the pod."""
    return f"{objects.name(pod)}-{volume['name']}"


def is_for_pod(claim: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the claim was made for a volume of this pod."""
    return objects.namespace(claim) == objects.namespace(pod) and objects.is_controlled_by(claim, pod)


def not_for_pod(claim: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    """What is said of one that was not."""
    return f"PVC {objects.key(claim)} was not created for pod {objects.key(pod)} (pod is not owner)"


def claims_of(pod: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The names of the claims that a pod's volumes are, and whether each is made for the pod alone."""
    for volume in objects.spec(pod).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield str(volume["persistentVolumeClaim"].get("claimName") or ""), False
        elif volume.get("ephemeral") is not None:
            yield own_claim_name(pod, volume), True


def uses(pod: Mapping[str, Any], claim_name: str) -> bool:
    return claim_name in pod_references.claims(objects.name(pod), objects.spec(pod))
