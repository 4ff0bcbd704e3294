"""Writes the status of Serving objects, with an event when readiness turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.sdk import Manager, status
from ondol.serverless.serving.children import FIELD_MANAGER

_READY: Final = "Ready"


class Reporter:
    """The status of one kind, all of which belongs to Serving but for the conditions of others."""

    def __init__(
        self,
        manager: Manager,
        resource: Resource,
        conditions: Iterable[str],
        *,
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        """`conditions` are the types that are set here, `Ready` aside."""
        self._recorder = manager.recorder
        self._writer = status.Writer(
            manager.client, resource, field_manager=field_manager, conditions=(*conditions, _READY)
        )

    async def write(self, obj: Object, desired: Mapping[str, Any], *, announce: bool = True) -> None:
        """Replace the status by `desired`; an object that is gone needs none."""
        others: Object = dict.fromkeys(objects.status(obj))
        written = await self._writer.write(obj, others | dict(desired))
        if written is not None and announce:
            self._announce(obj, desired)

    def _announce(self, obj: Object, desired: Mapping[str, Any]) -> None:
        before = conditions.get(obj, _READY) or {}
        after = conditions.find(desired.get("conditions") or (), _READY) or {}
        if before.get("status") == after.get("status"):
            return
        if after.get("status") == "True":
            self._recorder.event(obj, "Normal", "Ready", f"{obj['kind']} is ready")
        elif after.get("status") == "False":
            reason, message = str(after.get("reason") or "NotReady"), str(after.get("message") or "")
            self._recorder.event(obj, "Warning", reason, message)
