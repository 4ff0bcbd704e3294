"""Reconciles Triggers: whom they send to, whether their broker and their dependency are ready."""

from __future__ import annotations

import json

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.brokers import status
from ondol.eventing.brokers.status import Document, TriggerView
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.destinations import Address, Unresolved, reference
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.identities import Identities
from ondol.eventing.reporting import DEAD_LETTER_FIELDS, Reporter
from ondol.eventing.verdicts import Resolution, Verdict
from ondol.sdk import Controller, Manager

_BY_BROKER = "broker"


class TriggerReconciler:
    """A Trigger may precede its Broker; one of a broker of another class is left alone."""

    def __init__(self, manager: Manager, live: Live) -> None:
        self._clock = manager.clock
        self._live = live
        self._triggers = manager.informer(eventing.TRIGGER)
        self._brokers = manager.informer(eventing.BROKER)
        self._triggers.add_index(_BY_BROKER, lambda trigger: [str(named_broker(trigger))])
        self._controller = Controller("eventing-trigger", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._identities = Identities(manager, eventing.TRIGGER)
        self._status = Reporter(
            manager,
            eventing.TRIGGER,
            fields=(
                "subscriberUri",
                "subscriberCACerts",
                "subscriberAudience",
                "auth",
                *DEAD_LETTER_FIELDS,
            ),
            conditions=status.TRIGGER_CONDITIONS,
        )

    def controller(self) -> Controller:
        controller = self._controller
        controller.watch(self._triggers)
        controller.watch(self._brokers, self._of_broker)
        self._live.watch(controller, self._triggers)
        self._identities.watch(controller)
        return controller

    def _of_broker(self, broker: Object) -> list[Key]:
        index = str(objects.key(broker))
        return [objects.key(trigger) for trigger in self._triggers.lister.by_index(_BY_BROKER, index)]

    async def reconcile(self, key: Key) -> None:
        self._resolver.begin(key)
        trigger = self._triggers.lister.get(key)
        if trigger is None:
            self._identities.forget(key)
            return
        if objects.is_deleting(trigger):
            return
        broker_key = named_broker(trigger)
        broker = self._brokers.lister.get(broker_key)
        if broker is not None and not status.is_ours(broker):
            return
        view = await self._view(key, trigger, broker_key.name, broker)
        await self._status.write(trigger, status.trigger_status(trigger, view, now=self._clock.now()))

    async def _view(self, key: Key, trigger: Object, name: str, broker: Object | None) -> TriggerView:
        identity = await self._identities.ensure(trigger, self._live.features)
        dead_letter, failure = await self._dead_letter(key, trigger, broker)
        return TriggerView(
            broker_name=name,
            broker=broker,
            subscriber=await self._resolve(key, objects.spec(trigger).get("subscriber") or {}),
            dead_letter=dead_letter,
            dead_letter_failure=failure,
            dependency=await self._dependency(key, trigger),
            identity=identity.verdict,
            service_account=identity.service_account,
        )

    async def _resolve(self, key: Key, destination: Document) -> Address | Unresolved:
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        try:
            return await self._resolver.resolve(key, destination, group=group)
        except Unresolved as error:
            return error

    async def _dead_letter(self, key: Key, trigger: Object, broker: Object | None) -> tuple[Resolution, str]:
        """The trigger's own dead letter sink, else its broker's; and the reason if there should be one."""
        sink = addressing.dead_letter_sink(trigger)
        if sink is not None:
            return await self._resolve(key, sink), "Unable to get the dead letter sink's URI"
        name = objects.name(broker or {})
        return status.dead_letter_of_broker(broker), f"Broker {name} didn't set status.deadLetterSinkURI"

    async def _dependency(self, key: Key, trigger: Object) -> Verdict:
        text = objects.annotations(trigger).get(wellknown.DEPENDENCY)
        if text is None:
            return verdicts.OK
        try:
            ref = reference(json.loads(text), key.namespace)
        except (ValueError, AttributeError) as error:
            message = f"Unable to unmarshal objectReference from dependency annotation of trigger: {error}"
            return verdicts.failed("ReferenceError", message)
        try:
            return status.dependency_verdict(await self._resolver.find(key, ref))
        except Unresolved as error:
            return verdicts.failed("DependencyDoesNotExist", f"Dependency does not exist: {error}")


def named_broker(trigger: Document) -> Key:
    """The broker that a Trigger names, which is one of its own namespace."""
    spec = objects.spec(trigger)
    name = spec.get("broker") or (spec.get("brokerRef") or {}).get("name")
    return Key(objects.namespace(trigger), str(name or ""))
