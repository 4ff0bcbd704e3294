"""Writes the statuses of Eventing's objects, with an event when readiness turns. Its controllers use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions
from ondol.api.objects import Object, Resource
from ondol.contracts import eventing
from ondol.eventing.wellknown import FIELD_MANAGER
from ondol.sdk import Manager, status

DEAD_LETTER_FIELDS: Final = ("deadLetterSinkUri", "deadLetterSinkCACerts", "deadLetterSinkAudience")
ADDRESS_FIELDS: Final = ("address", "addresses", "policies")


class Reporter:
    """The status of one kind as far as it is the control plane's: `fields`, `conditions` and Ready."""

    def __init__(
        self,
        manager: Manager,
        resource: Resource,
        *,
        fields: Iterable[str],
        conditions: Iterable[str],
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        self._kind = resource.kind
        self._recorder = manager.recorder
        self._writer = status.Writer(
            manager.client,
            resource,
            field_manager=field_manager,
            fields=("observedGeneration", *fields),
            conditions=(*conditions, eventing.READY),
        )

    async def write(self, obj: Object, desired: Mapping[str, Any]) -> None:
        """Make the status so; an object that is gone needs none."""
        if await self._writer.write(obj, desired) is not None:
            self._announce(obj, desired)

    def _announce(self, obj: Object, desired: Mapping[str, Any]) -> None:
        before = conditions.get(obj, eventing.READY) or {}
        after = conditions.find(desired.get("conditions") or (), eventing.READY) or {}
        if before.get("status") == after.get("status"):
            return
        if after.get("status") == conditions.TRUE:
            self._recorder.event(obj, "Normal", f"{self._kind}Ready", f"{self._kind} is ready")
        elif after.get("status") == conditions.FALSE:
            reason, message = str(after.get("reason") or "NotReady"), str(after.get("message") or "")
            self._recorder.event(obj, "Warning", reason.replace(" ", "").replace("'", ""), message)
