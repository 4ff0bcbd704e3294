"""What becomes of a StatefulSet's claims: whose they are says when they are collected. Pure.

`spec.persistentVolumeClaimRetentionPolicy` says Retain or Delete for when the set is deleted (`whenDeleted`:
the set owns the claim, which goes with it) and for when it shrinks (`whenScaled`: the pod that goes owns it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.controllers.workloads.statefulset import identity

DELETE: Final = "Delete"


def references(stateful_set: Object, pod: Object, claim: Object) -> list[Object] | None:
    """The owners the claim should have; None where they are right, or are another's affair.

    Stale references (to a set or pod of the name that is gone) are the garbage collector's; beside another
    controller the set and its pod are no owners.
    """
    if _is_stale(claim, stateful_set) or _is_stale(claim, pod):
        return None
    listed = [dict(each) for each in objects.owner_references(claim)]
    others = [each for each in listed if not (_names(each, stateful_set) or _names(each, pod))]
    owner = None if has_other_controller(stateful_set, pod, claim) else _owner(stateful_set, pod)
    if owner is None:
        return others if len(others) != len(listed) else None
    own = [each for each in listed if each not in others]
    if len(own) == 1 and own[0].get("controller") and own[0].get("uid") == objects.uid(owner):
        return None
    return [*others, objects.controller_reference(owner)]


def first_references(stateful_set: Object) -> list[Object]:
    """The owners of a claim that is created, for a pod there should be."""
    return [objects.controller_reference(stateful_set)] if _policy(stateful_set, "whenDeleted") else []


def has_other_controller(stateful_set: Object, pod: Object, claim: Object) -> bool:
    """Whether another controller has the claim, which matters only where claims are deleted at all."""
    if not (_policy(stateful_set, "whenDeleted") or _policy(stateful_set, "whenScaled")):
        return False
    return any(
        each.get("controller") and not _names(each, stateful_set) and not _names(each, pod)
        for each in objects.owner_references(claim)
    )


def is_leaving(stateful_set: Object, pod: Object, claim: Object) -> bool:
    """Whether the claim goes with an earlier pod of the name: the next one waits, lest its data vanish."""
    return _policy(stateful_set, "whenScaled") and _is_stale(claim, pod)


def _owner(stateful_set: Object, pod: Object) -> Object | None:
    if identity.ordinal(pod) not in identity.ordinals(stateful_set) and _policy(stateful_set, "whenScaled"):
        return {"apiVersion": resources.POD.api_version, "kind": resources.POD.kind, **pod}
    return stateful_set if _policy(stateful_set, "whenDeleted") else None


def _policy(stateful_set: Mapping[str, Any], field: str) -> bool:
    policy = objects.spec(stateful_set).get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get(field) == DELETE)


def _names(reference: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Whether the reference has the kind and the name of the owner, be it of this one or an earlier one."""
    kind = owner.get("kind") or resources.POD.kind
    return (reference.get("kind"), reference.get("name")) == (kind, objects.name(owner))


def _is_stale(claim: Object, owner: Object) -> bool:
    return any(
        _names(each, owner) and each.get("uid") != objects.uid(owner)
        for each in objects.owner_references(claim)
    )
