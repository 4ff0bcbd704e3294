"""Reconcilers of the data plane: each Broker and channel has its streams, each subscriber its consumer.

They write nothing but the data plane's own conditions. Whatever the journal refuses is said there, and tried
again soon, and at once when the journal is back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.contracts import eventing
from ondol.eventing.journal.port import Journal
from ondol.eventing.plane import planning
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.dispatcher import Dispatcher
from ondol.eventing.plane.ingress import Entrance, Entrances
from ondol.eventing.plane.reporting import Reporter
from ondol.eventing.plane.trimmer import Trimmer
from ondol.sdk import Controller, Manager

RETRIES: Final = Backoff(initial_s=0.1, maximum_s=10.0, jitter=0.2)
_BY_BROKER: Final = "plane-broker"
Dropped = Callable[[str, Key, int], None]
"""Called with the kind and name of a Broker or channel, and how many of its dead letters were dropped."""


class Services:
    """What the reconcilers of a process share; `dropped` hears of the dead letters there was no room for."""

    def __init__(
        self, journal: Journal, dispatcher: Dispatcher, counts: Counts, trimmer: Trimmer, dropped: Dropped
    ) -> None:
        self.journal = journal
        self.dispatcher = dispatcher
        self.counts = counts
        self.trimmer = trimmer
        self.dropped = dropped


_KEPT: Final = "eventing.ondol.dev/kept"
"""Annotation of a status: there are streams in the journal, or there were."""


class _Streams:
    """The streams of the objects of one kind, and their entrances."""

    def __init__(
        self, manager: Manager, resource: Resource, services: Services, entrances: Entrances
    ) -> None:
        self._kind = resource.kind
        self._served = eventing.PLANE_CONDITIONS[resource][0]
        self._recorder = manager.recorder
        self._log = log.get("streams")
        self._were_there: set[str] = set()
        """Uids of the objects that have their streams, or had them when this process began."""
        self._services = services
        self._entrances = entrances

    async def ensure(self, obj: Object) -> None:
        """Have the object's streams; its entrance is closed while they cannot be had."""
        key, uid = objects.key(obj), objects.uid(obj)
        stream, dead = planning.stream(self._kind, uid), planning.dead_stream(uid)
        if conditions.is_true(obj, self._served) or _KEPT in (objects.status(obj).get("annotations") or {}):
            self._were_there.add(uid)
        former = self._entrances.by_key.get(key)
        if former is not None and former.uid != uid:
            await self.remove(key)
        journal = self._services.journal
        try:
            new = [
                name
                for name in (stream, dead)
                if await journal.create_stream(name, bytes_max=planning.bytes_max(obj))
            ]
        except errors.ApiError:
            if key not in self._entrances.by_key:
                self._open(key, uid, stream, is_open=False)
            raise
        if new and uid in self._were_there:
            self._tell_lost(obj, new)
        self._were_there.add(uid)
        trimmer = self._services.trimmer
        trimmer.keep(stream, planning.history(obj))
        trimmer.keep(dead, planning.dead_letters(obj), lambda count: self._dropped(key, count))
        self._open(key, uid, stream, is_open=True)

    def mark(self, obj: Object) -> Object:
        """What the object's status says of its streams: that it had them, whatever becomes of its conditions.

        A data plane that begins while the journal is away would else take what it lacks for what was never
        there.
        """
        had_them = objects.uid(obj) in self._were_there
        return {"annotations": {_KEPT: "true"} if had_them else None}

    def _tell_lost(self, obj: Object, streams: Sequence[str]) -> None:
        """It was served before, and what was kept for it is not there: damaged, or not in a backup."""
        what = " and ".join(
            "its dead letters" if planning.is_dead(name) else "its events" for name in streams
        )
        message = (
            f"the event journal does not have {what} any more: see the log of the part nats, and the disk"
        )
        self._log.error("streams_lost", kind=self._kind, name=str(objects.key(obj)), streams=streams)
        self._recorder.event(obj, "Warning", "EventsLost", message)

    def _dropped(self, key: Key, count: int) -> None:
        """So many dead letters had no room."""
        self._services.counts.arrivals(key.namespace, self._kind, key.name).dropped_letters += count
        self._services.dropped(self._kind, key, count)

    def _open(self, key: Key, uid: str, stream: str, *, is_open: bool) -> None:
        arrivals = self._services.counts.arrivals(key.namespace, self._kind, key.name)
        self._entrances.open(Entrance(self._kind, key, uid, stream, arrivals, is_open))

    async def remove(self, key: Key) -> None:
        """The object is gone, and what it kept with it."""
        entrance = self._entrances.close(key)
        if entrance is None:
            return
        self._were_there.discard(entrance.uid)
        self._services.counts.forget_arrivals(key.namespace, self._kind, key.name)
        self._services.trimmer.drop(entrance.stream)
        self._services.trimmer.drop(planning.dead_stream(entrance.uid))
        for route in self._services.dispatcher.streams().get(entrance.stream, ()):
            self._services.dispatcher.forget(route.consumer)
        await self._services.journal.delete_stream(entrance.stream)
        await self._services.journal.delete_stream(planning.dead_stream(entrance.uid))


def is_ours(broker: Mapping[str, Any]) -> bool:
    """Whether the broker is of a class that is served here."""
    return objects.annotations(broker).get(eventing.BROKER_CLASS) in eventing.CLASSES


class BrokerServer:
    """Serves Brokers."""

    def __init__(self, manager: Manager, services: Services, entrances: Entrances) -> None:
        self._brokers = manager.informer(eventing.BROKER)
        self._streams = _Streams(manager, eventing.BROKER, services, entrances)
        self._status = Reporter(manager, eventing.BROKER, fields=("annotations",))

    def controller(self) -> Controller:
        controller = Controller("events-broker", self.reconcile, backoff=RETRIES)
        controller.watch(self._brokers)
        return controller

    async def reconcile(self, key: Key) -> None:
        broker = self._brokers.lister.get(key)
        if broker is None or not is_ours(broker):
            await self._streams.remove(key)
            return
        if objects.is_deleting(broker):
            return
        try:
            await self._streams.ensure(broker)
        except errors.ApiError as error:
            await self._status.failed(broker, error, self._streams.mark(broker))
            raise
        await self._status.ready(broker, self._streams.mark(broker))


class TriggerServer:
    """Serves Triggers, once their Broker is served."""

    def __init__(self, manager: Manager, services: Services) -> None:
        self._services = services
        self._brokers = manager.informer(eventing.BROKER)
        self._triggers = manager.informer(eventing.TRIGGER)
        self._triggers.add_index(_BY_BROKER, lambda trigger: [str(named_broker(trigger))])
        self._served: dict[Key, tuple[str, str]] = {}
        """Stream and consumer of each Trigger that has one."""
        self._status = Reporter(manager, eventing.TRIGGER)

    def controller(self) -> Controller:
        controller = Controller("events-trigger", self.reconcile, backoff=RETRIES)
        controller.watch(self._triggers)
        controller.watch(self._brokers, self._of_broker)
        return controller

    def _of_broker(self, broker: Object) -> list[Key]:
        listed = self._triggers.lister.by_index(_BY_BROKER, str(objects.key(broker)))
        return [objects.key(trigger) for trigger in listed]

    async def reconcile(self, key: Key) -> None:
        trigger = self._triggers.lister.get(key)
        broker = self._brokers.lister.get(named_broker(trigger)) if trigger is not None else None
        if trigger is None or broker is None or not is_ours(broker):
            await self._remove(key)
            return
        if objects.is_deleting(trigger) or objects.is_deleting(broker):
            return
        if not conditions.is_true(broker, eventing.TRIGGER_CHANNEL_READY):
            return  # it comes again when its broker has its stream
        route = planning.of_trigger(trigger, broker)
        if self._served.get(key, (route.stream, route.consumer)) != (route.stream, route.consumer):
            await self._remove(key)
        try:
            await self._services.dispatcher.ensure(route)
        except errors.ApiError as error:
            await self._status.failed(trigger, error)
            raise
        self._served[key] = (route.stream, route.consumer)
        await self._status.ready(trigger)

    async def _remove(self, key: Key) -> None:
        if (served := self._served.get(key)) is not None:
            await self._services.dispatcher.remove(*served)
            del self._served[key]


class ChannelServer:
    """Serves InMemoryChannels and their subscribers."""

    def __init__(self, manager: Manager, services: Services, entrances: Entrances) -> None:
        self._services = services
        self._channels = manager.informer(eventing.IN_MEMORY_CHANNEL)
        self._subscriptions = manager.informer(eventing.SUBSCRIPTION)
        self._subscriptions.add_index("plane-uid", lambda subscription: [objects.uid(subscription)])
        self._streams = _Streams(manager, eventing.IN_MEMORY_CHANNEL, services, entrances)
        self._status = Reporter(manager, eventing.IN_MEMORY_CHANNEL, fields=("subscribers", "annotations"))
        self._entrances = entrances

    def controller(self) -> Controller:
        controller = Controller("events-channel", self.reconcile, backoff=RETRIES)
        controller.watch(self._channels)
        controller.watch(self._subscriptions, self._of_subscription)
        return controller

    def _of_subscription(self, subscription: Object) -> list[Key]:
        """The channels of its namespace that have it: annotations of a Subscription say how it is served."""
        uid = objects.uid(subscription)
        return [
            objects.key(channel)
            for channel in self._channels.lister.list(objects.namespace(subscription))
            if any(entry.get("uid") == uid for entry in objects.spec(channel).get("subscribers") or ())
        ]

    async def reconcile(self, key: Key) -> None:
        channel = self._channels.lister.get(key)
        if channel is None:
            await self._streams.remove(key)
            return
        if objects.is_deleting(channel):
            return
        entries: list[Object] = list(objects.spec(channel).get("subscribers") or ())
        try:
            await self._streams.ensure(channel)
            await self._subscribe(channel, entries)
        except errors.ApiError as error:
            listed = [_entry(each, error.message) for each in entries]
            await self._status.failed(channel, error, {"subscribers": listed, **self._streams.mark(channel)})
            raise
        listed = [_entry(each) for each in entries]
        await self._status.ready(channel, {"subscribers": listed or None, **self._streams.mark(channel)})

    async def _subscribe(self, channel: Object, entries: list[Object]) -> None:
        dispatcher = self._services.dispatcher
        stream = planning.stream(eventing.IN_MEMORY_CHANNEL.kind, objects.uid(channel))
        current = {str(entry.get("uid")) for entry in entries}
        for name in await self._services.journal.consumers(stream):
            if name not in current and not name.startswith(planning.REPLAY_PREFIX):
                await dispatcher.remove(stream, name)
        for entry in entries:
            named = self._subscriptions.lister.by_index("plane-uid", str(entry.get("uid")))
            await dispatcher.ensure(planning.of_subscriber(channel, entry, next(iter(named), None)))


def _entry(subscriber: Mapping[str, Any], failure: str = "") -> Object:
    """What the status says of a subscriber."""
    entry: Object = {
        "uid": subscriber.get("uid"),
        "observedGeneration": subscriber.get("generation"),
        "ready": conditions.FALSE if failure else conditions.TRUE,
    }
    if failure:
        entry["message"] = failure
    return {field: value for field, value in entry.items() if value is not None}


def named_broker(trigger: Mapping[str, Any]) -> Key:
    """The broker that a Trigger names, which is one of its own namespace."""
    spec = objects.spec(trigger)
    name = spec.get("broker") or (spec.get("brokerRef") or {}).get("name")
    return Key(objects.namespace(trigger), str(name or ""))
