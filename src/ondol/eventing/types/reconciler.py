"""Reconciles EventTypes: whether what one refers to is there."""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import verdicts
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import Unresolved, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.reporting import Reporter
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Controller, Manager

REFERENCE_EXISTS: Final = "ReferenceExists"
_FIELDS: Final = ("apiVersion", "group", "kind", "name", "namespace", "address")


class EventTypeReconciler:
    """Writes nothing but the status."""

    def __init__(self, manager: Manager, live: Live) -> None:
        self._clock = manager.clock
        self._live = live
        self._types = manager.informer(eventing.EVENT_TYPE)
        self._controller = Controller("eventing-event-type", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._status = Reporter(manager, eventing.EVENT_TYPE, fields=(), conditions=(REFERENCE_EXISTS,))

    def controller(self) -> Controller:
        self._controller.watch(self._types)
        return self._controller

    async def reconcile(self, key: Key) -> None:
        self._resolver.begin(key)
        event_type = self._types.lister.get(key)
        if event_type is None or objects.is_deleting(event_type):
            return
        own = {REFERENCE_EXISTS: await self._exists(key, event_type)}
        now = self._clock.now()
        desired = {
            "observedGeneration": objects.generation(event_type),
            "conditions": verdicts.with_ready(event_type, own, of_ready=tuple(own), now=now),
        }
        await self._status.write(event_type, desired)

    async def _exists(self, key: Key, event_type: Object) -> Verdict:
        ref = objects.spec(event_type).get("reference") or {}
        if not any(ref.get(field) for field in _FIELDS):
            return Verdict("True", "ReferenceNotSet", "spec.reference is not set")
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        try:
            await self._resolver.find(key, reference(ref, key.namespace), group=group)
        except Unresolved:
            message = "Resource in spec.reference does not exist"
            return verdicts.failed("ResourceDoesNotExist", message)
        return verdicts.OK
