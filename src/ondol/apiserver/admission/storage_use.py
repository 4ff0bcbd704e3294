"""What keeps claims and volumes that are in use, and who may let a claim grow.

`StorageObjectInUseProtection` and `PersistentVolumeClaimResize` of Kubernetes: the finalizers are taken off
by a controller once nobody is in the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api import objects, resources, volumes
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors


def admit_claim(parts: Parts, context: Context, request: Request) -> None:
    """Have a new claim stay until no pod uses it."""
    del parts, context
    _protect(request, volumes.CLAIM_PROTECTION)


def admit_volume(parts: Parts, context: Context, request: Request) -> None:
    """Have a new volume stay until no claim has it."""
    del parts, context
    _protect(request, volumes.VOLUME_PROTECTION)


def _protect(request: Request, finalizer: str) -> None:
    if request.operation != "create" or request.subresource:
        return
    finalizers = objects.finalizers(request.new)
    if finalizer not in finalizers:
        metadata = {**objects.metadata(request.new), "finalizers": [*finalizers, finalizer]}
        request.new["metadata"] = metadata


def check_growth(parts: Parts, context: Context, request: Request) -> None:
    """Refuse a larger size where the claim's class does not let it grow."""
    del context
    old, new = request.old, request.new
    if request.operation != "update" or request.subresource or old is None:
        return
    if volumes.requested_bytes(new) <= volumes.requested_bytes(old):
        return
    if volumes.phase(old) != "Bound":
        raise _refused(request, "Only bound persistent volume claims can be expanded")
    name = volumes.class_name(new)
    storage_class = parts.state.lookup(resources.STORAGE_CLASS, "", name) if name else None
    if name != volumes.class_name(old) or not (storage_class or {}).get("allowVolumeExpansion"):
        raise _refused(
            request,
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc "
            "must support resize",
        )


def _refused(request: Request, why: str) -> errors.Forbidden:
    name: str = objects.name(request.old or request.new)
    details: Mapping[str, Any] = {"name": name, "kind": "persistentvolumeclaims"}
    return errors.Forbidden(f'persistentvolumeclaims "{name}" is forbidden: {why}', details=dict(details))
