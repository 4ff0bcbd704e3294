"""Writes a status when it differs from what is there, and says in an event when readiness turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.client import PatchType
from ondol.sdk import Manager

_READY: Final = "Ready"


async def write_status(
    manager: Manager, resource: Resource, obj: Object, wanted: Mapping[str, Any], *, announce: bool = True
) -> None:
    """Replace the status by `wanted`; an object that is gone needs none."""
    present = objects.status(obj)
    if present == wanted:
        return
    patch: dict[str, Any] = {**wanted, **{key: None for key in present if key not in wanted}}
    try:
        await manager.client.patch(
            resource,
            objects.name(obj),
            objects.namespace(obj),
            patch={"metadata": {"uid": objects.uid(obj)}, "status": patch},
            patch_type=PatchType.MERGE,
            subresource="status",
        )
    except (errors.NotFound, errors.Conflict):
        return  # deleted or replaced in the meantime: the next event tells
    if announce:
        _announce(manager, obj, wanted)


def _announce(manager: Manager, obj: Object, wanted: Mapping[str, Any]) -> None:
    before = conditions.get(obj, _READY) or {}
    after = conditions.find(wanted.get("conditions") or (), _READY) or {}
    if before.get("status") == after.get("status"):
        return
    if after.get("status") == "True":
        manager.recorder.event(obj, "Normal", "Ready", f"{obj['kind']} is ready")
    elif after.get("status") == "False":
        reason, message = str(after.get("reason") or "NotReady"), str(after.get("message") or "")
        manager.recorder.event(obj, "Warning", reason, message)
