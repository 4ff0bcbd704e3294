"""Reconciles InMemoryChannels: the Service each is reached by, its dead letter sink and policies."""

from __future__ import annotations

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts, wellknown
from ondol.eventing.addressing import Surroundings
from ondol.eventing.channels import documents, status
from ondol.eventing.channels.documents import Plane
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.destinations import Unresolved
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.parents import require_current
from ondol.eventing.policies.lister import Policies
from ondol.eventing.reporting import ADDRESS_FIELDS, DEAD_LETTER_FIELDS, Reporter
from ondol.eventing.verdicts import Resolution, Verdict
from ondol.sdk import Children, Controller, Manager, Result, children, controller_key


class InMemoryChannelReconciler:
    """`status.subscribers` and DispatcherReady are the data plane's."""

    def __init__(
        self, manager: Manager, live: Live, policies: Policies, demand: Demand, plane: Plane
    ) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._live = live
        self._policies = policies
        self._demand = demand
        self._plane = plane
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)
        self._channels = manager.informer(eventing.IN_MEMORY_CHANNEL)
        self._services = manager.informer(resources.SERVICE)
        self._slices = manager.informer(resources.ENDPOINT_SLICE)
        self._controller = Controller("eventing-in-memory-channel", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._status = Reporter(
            manager,
            eventing.IN_MEMORY_CHANNEL,
            fields=(*ADDRESS_FIELDS, *DEAD_LETTER_FIELDS),
            conditions=status.IN_MEMORY_CONDITIONS,
        )

    def controller(self) -> Controller:
        controller, resource = self._controller, eventing.IN_MEMORY_CHANNEL
        owner = controller_key(resource.api_version, resource.kind)
        controller.watch(self._channels)
        controller.watch(self._services, owner)
        controller.watch(self._slices, owner)
        self._policies.watch(controller, resource, self._channels)
        self._live.watch(controller, self._channels)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        self._resolver.begin(key)
        channel = self._channels.lister.get(key)
        if channel is None:
            self._children.forget(key)
            return None
        if objects.is_deleting(channel):
            return None
        self._demand()
        service = await self._serve(channel)
        around = Surroundings(
            self._live.features,
            self._policies.about(eventing.IN_MEMORY_CHANNEL, channel),
            self._clock.now(),
        )
        dead_letter = await self._dead_letter(key, channel)
        await self._status.write(channel, status.in_memory_status(channel, service, dead_letter, around))
        return None if service.is_true else Result(wellknown.RETRY_S)

    async def _serve(self, channel: Object) -> Verdict:
        """Keep the Service and its endpoints; the condition ChannelServiceReady."""
        family = self._children.of(channel)
        service, slice_ = documents.channel_objects(channel, self._plane)
        place = objects.key(service)
        live = self._services.lister.get(place), self._slices.lister.get(place)
        await require_current(self._client, eventing.IN_MEMORY_CHANNEL, channel, *live)
        try:
            await family.apply(resources.SERVICE, service, live[0])
            await family.apply(resources.ENDPOINT_SLICE, slice_, live[1])
        except children.NotOwned:
            why = f'inmemorychannel: {objects.key(channel)} does not own Service: "{place.name}"'
        except (errors.Invalid, errors.BadRequest, errors.Forbidden) as error:
            why = error.message
        else:
            return verdicts.OK
        return verdicts.failed("ChannelServiceFailed", f"Channel Service failed: {why}")

    async def _dead_letter(self, key: Key, channel: Object) -> Resolution:
        sink = addressing.dead_letter_sink(channel)
        if sink is None:
            return None
        try:
            return await self._resolver.resolve(key, sink)
        except Unresolved as error:
            return error
