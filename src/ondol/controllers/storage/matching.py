"""Which volume a claim may have, and which of several is best. Pure.

The rules of Kubernetes' `pkg/controller/volume/persistentvolume`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ondol.api import labels, node_selectors, objects, volumes
from ondol.api.objects import Object


def mismatch(claim: Object, volume: Object) -> str:
    """Why the claim cannot have the volume that it names; empty if it can."""
    if objects.is_deleting(volume):
        return f'the volume is marked for deletion "{objects.name(volume)}"'
    if volumes.capacity_bytes(volume) < volumes.requested_bytes(claim):
        return "requested PV is too small"
    if volumes.class_name(volume) != volumes.class_name(claim):
        return "storageClassName does not match"
    if _attributes_class(volume) != _attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if volumes.volume_mode(volume) != volumes.volume_mode(claim):
        return "incompatible volumeMode"
    if not volumes.access_modes(claim) <= volumes.access_modes(volume):
        return "incompatible accessMode"
    return ""


def reaches(volume: Object, node: Object) -> bool:
    """Whether the volume can be had on the node."""
    required = (objects.spec(volume).get("nodeAffinity") or {}).get("required")
    return required is None or node_selectors.matches(required, node)


def best(
    claim: Object,
    listed: Iterable[Object],
    *,
    node: Object | None = None,
    is_delayed: bool = False,
    taken: Collection[str] = (),
) -> Object | None:
    """The volume for a claim that names none: one reserved to it, else of those that do the smallest.

    `is_delayed`: the claim waits for a node, so that without one nothing but a reserved volume is for it.
    `taken` are names of volumes that are somebody else's already.
    """
    if objects.is_deleting(claim):
        return None
    possible = [v for v in listed if objects.name(v) not in taken and _is_possible(claim, v)]
    for volume in possible:
        if volumes.claim_ref(volume) is not None:
            return volume if node is None or reaches(volume, node) else None
    if node is None and is_delayed:
        return None
    fitting = [v for v in possible if _is_fitting(claim, v) and (node is None or reaches(v, node))]
    return min(fitting, key=_order, default=None)


def _is_possible(claim: Object, volume: Object) -> bool:
    """Of its size and form, and nobody else's."""
    if volumes.claim_ref(volume) is not None and not volumes.is_bound_to(volume, claim):
        return False
    return (
        not objects.is_deleting(volume)
        and volumes.capacity_bytes(volume) >= volumes.requested_bytes(claim)
        and volumes.volume_mode(volume) == volumes.volume_mode(claim)
        and _attributes_class(volume) == _attributes_class(claim)
    )


def _is_fitting(claim: Object, volume: Object) -> bool:
    selector = objects.spec(claim).get("selector")
    return (
        volumes.phase(volume) == "Available"
        and (selector is None or labels.from_document(selector).matches(objects.labels(volume)))
        and volumes.class_name(volume) == volumes.class_name(claim)
        and volumes.access_modes(claim) <= volumes.access_modes(volume)
    )


def _order(volume: Object) -> tuple[int, object, str]:
    """One that can do no more than is asked for stays out of nobody's way."""
    return len(volumes.access_modes(volume)), volumes.capacity_bytes(volume), objects.name(volume)


def _attributes_class(obj: Object) -> str:
    return str(objects.spec(obj).get("volumeAttributesClassName") or "")
