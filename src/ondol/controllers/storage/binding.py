"""What is written to bind a claim and a volume, and what a claim's status then is. Pure.

The volume comes first: its `claimRef`, written on the version that was looked at, is what no two claims can
have. The claim follows.
"""

from __future__ import annotations

from ondol.api import objects, volumes
from ondol.api.objects import Object
from ondol.contracts import storage

_YES = "yes"


def reservation(volume: Object, claim: Object) -> Object | None:
    """The patch that gives the volume to the claim; None if it is the claim's already."""
    reference = volumes.claim_ref(volume)
    if reference is not None and reference.get("uid") == objects.uid(claim):
        return None
    metadata = version_of(volume)
    if reference is None:
        metadata["annotations"] = {volumes.BOUND_BY_CONTROLLER: _YES}
    return {"metadata": metadata, "spec": {"claimRef": volumes.reference_to(claim)}}


def pointing(claim: Object, volume: Object) -> Object | None:
    """The patch that has the claim name its volume; None if it does."""
    if volumes.is_bound(claim) and volumes.volume_name(claim) == objects.name(volume):
        return None
    annotations = {volumes.BIND_COMPLETED: _YES}
    if not volumes.volume_name(claim):
        annotations[volumes.BOUND_BY_CONTROLLER] = _YES
    metadata = version_of(claim) | {"annotations": annotations}
    return {"metadata": metadata, "spec": {"volumeName": objects.name(volume)}}


def release(volume: Object) -> Object:
    """The patch that takes the volume back from a claim that has another one.

    What a person reserved stays reserved to a claim of that name.
    """
    metadata = version_of(volume)
    if volumes.BOUND_BY_CONTROLLER not in objects.annotations(volume):
        return {"metadata": metadata, "spec": {"claimRef": {"uid": None}}}
    metadata["annotations"] = {volumes.BOUND_BY_CONTROLLER: None}
    return {"metadata": metadata, "spec": {"claimRef": None}}


def bound_status(claim: Object, volume: Object) -> Object:
    """Of a claim that has its volume.

    A provisioner of others says itself what a volume holds by now; what is made here has its size at once.
    """
    status = objects.status(claim)
    capacity = objects.spec(volume).get("capacity")
    is_own = objects.annotations(volume).get(volumes.PROVISIONED_BY) == storage.PROVISIONER
    if status.get("phase") == "Bound" and status.get("capacity") and not is_own:
        capacity = status["capacity"]
    modes = list(objects.spec(volume).get("accessModes") or ())
    return {"phase": "Bound", "accessModes": modes, "capacity": capacity}


def version_of(obj: Object) -> Object:
    """What has a patch refused if the object is another by now."""
    return {"uid": objects.uid(obj), "resourceVersion": objects.resource_version(obj)}
