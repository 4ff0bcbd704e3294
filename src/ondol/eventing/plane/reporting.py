"""The conditions that are the data plane's, and how it says them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import conditions
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.contracts import eventing
from ondol.eventing.journal.port import Damaged, Full
from ondol.sdk import Manager, status

FIELD_MANAGER: Final = "ondol-events"


class Reporter:
    """Writes the data plane's conditions of one kind, and the `fields` that are its own."""

    def __init__(self, manager: Manager, resource: Resource, *, fields: tuple[str, ...] = ()) -> None:
        self._clock: Clock = manager.clock
        self._types = eventing.PLANE_CONDITIONS[resource]
        self._writer = status.Writer(
            manager.client, resource, field_manager=FIELD_MANAGER, fields=fields, conditions=self._types
        )

    async def ready(self, obj: Object, fields: Mapping[str, Any] | None = None) -> None:
        """Every condition is true."""
        listed = conditions.of(obj)
        for type_ in self._types:
            listed = conditions.set(listed, type_, conditions.TRUE, now=self._clock.now())
        await self._writer.write(obj, {**(fields or {}), "conditions": listed})

    async def failed(
        self, obj: Object, error: errors.ApiError, fields: Mapping[str, Any] | None = None
    ) -> None:
        """None is, for this reason."""
        listed = conditions.of(obj)
        for type_ in self._types:
            listed = conditions.set(
                listed,
                type_,
                conditions.FALSE,
                reason=reason(error),
                message=error.message,
                now=self._clock.now(),
            )
        await self._writer.write(obj, {**(fields or {}), "conditions": listed})


def reason(error: errors.ApiError) -> str:
    """The word for why the journal does not serve."""
    if isinstance(error, Damaged):
        return "JournalDamaged"
    if isinstance(error, Full):
        return "JournalFull"
    if isinstance(error, errors.Unavailable | errors.Timeout):
        return "JournalUnavailable"
    return "JournalFailed"
