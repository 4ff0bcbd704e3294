"""Reconciles Brokers: their address, dead letter sink and policies. Their events are the data plane's."""

from __future__ import annotations

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import addressing
from ondol.eventing.addressing import Surroundings
from ondol.eventing.brokers import status
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.destinations import Unresolved
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, DEAD_LETTER_FIELDS, Reporter
from ondol.eventing.verdicts import Resolution
from ondol.sdk import Controller, Manager


class BrokerReconciler:
    """Writes nothing but statuses: a Broker here has no children."""

    def __init__(self, manager: Manager, live: Live, policies: Policies, demand: Demand) -> None:
        self._clock = manager.clock
        self._live = live
        self._policies = policies
        self._demand = demand
        self._brokers = manager.informer(eventing.BROKER)
        self._controller = Controller("eventing-broker", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._status = Reporter(
            manager,
            eventing.BROKER,
            fields=(*ADDRESS_FIELDS, *DEAD_LETTER_FIELDS),
            conditions=status.BROKER_CONDITIONS,
        )

    def controller(self) -> Controller:
        controller = self._controller
        controller.watch(self._brokers)
        self._policies.watch(controller, eventing.BROKER, self._brokers)
        self._live.watch(controller, self._brokers)
        return controller

    async def reconcile(self, key: Key) -> None:
        self._resolver.begin(key)
        broker = self._brokers.lister.get(key)
        if broker is None or objects.is_deleting(broker) or not status.is_ours(broker):
            return
        self._demand()
        dead_letter = await self._dead_letter(key, broker)
        around = Surroundings(
            self._live.features, self._policies.about(eventing.BROKER, broker), self._clock.now()
        )
        await self._status.write(broker, status.broker_status(broker, dead_letter, around))

    async def _dead_letter(self, key: Key, broker: Object) -> Resolution:
        sink = addressing.dead_letter_sink(broker)
        if sink is None:
            return None
        try:
            return await self._resolver.resolve(key, sink)
        except Unresolved as error:
            return error
