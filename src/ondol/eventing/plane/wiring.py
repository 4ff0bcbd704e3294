"""How compose puts the data plane together: what runs in the process `events`."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key
from ondol.base import errors, metrics
from ondol.base.listeners import NONE, Listeners
from ondol.base.metrics import Collector, Family
from ondol.base.signal import Signal
from ondol.contracts import eventing
from ondol.eventing import wellknown
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.configuration.live import Live
from ondol.eventing.journal.jetstream import JetStream
from ondol.eventing.journal.room import Room
from ondol.eventing.journal.wire import Address
from ondol.eventing.plane.burials import DeadLetterServer
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.depths import Depths
from ondol.eventing.plane.dialing import Dialing
from ondol.eventing.plane.dispatch import Shared
from ondol.eventing.plane.dispatcher import Dispatcher
from ondol.eventing.plane.event_types import EventTypes
from ondol.eventing.plane.front import Certified, Front
from ondol.eventing.plane.guard import Guard
from ondol.eventing.plane.hosts import Hosts
from ondol.eventing.plane.ingress import Desk, Entrance, Entrances, Ingress
from ondol.eventing.plane.names import Resolver
from ondol.eventing.plane.own_senders import OwnSenders
from ondol.eventing.plane.replays import ReplayServer
from ondol.eventing.plane.request_replies import Correlations, RequestReplies, RequestReplyServer
from ondol.eventing.plane.reviews import Reviews
from ondol.eventing.plane.routes import Route
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.eventing.plane.serving import BrokerServer, ChannelServer, Services, TriggerServer
from ondol.eventing.plane.sweeper import Sweeper
from ondol.eventing.plane.tracing import Tracer
from ondol.eventing.plane.trimmer import Trimmer
from ondol.eventing.tokens import Tokens
from ondol.sdk import Controller, Manager
from ondol.web import spans
from ondol.web.application import Asgi
from ondol.web.calling import Caller, Place

_CHANNEL: Final = eventing.IN_MEMORY_CHANNEL.kind


@dataclass(frozen=True, slots=True)
class PlaneConfig:
    """Where the data plane listens, where the journal is, and by which ways events leave.

    `outbound` is the folder of the mesh's sockets, one a port; `observe` the socket that takes spans;
    `name_server` the address and port of the platform's DNS.
    """

    address: str
    port: int
    journal: Address
    outbound: Path | None = None
    observe: Path | None = None
    name_server: tuple[str, int] | None = None
    may_dial: Callable[[str], bool] | None = None
    """Which addresses events may be sent to: whoever names one would reach what is this machine's alone."""
    sampling_percent: float = 100.0
    tls: Certified | None = None
    """Where it speaks TLS, and with which certificate; without, `transport-encryption` has no effect."""
    journal_dir: Path | None = None
    """The folder of the journal's server, if it is on this machine: its disk is kept from filling."""


@dataclass(frozen=True, slots=True)
class Plane:
    """What the data plane counts, how it sends, whom it lets in, and how it ends once another is there.

    `mount` serves an application beside the brokers, under the name of a service of Eventing's namespace;
    `mount_others` one for the hosts of services of other namespaces that are no channels'.
    """

    metrics: Collector
    mount: Callable[[str, Asgi], None]
    mount_others: Callable[[Asgi], None]
    sender: HttpSender
    guard: Guard
    dial: Dialing
    retire: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What is between ingress and way out; `controllers` serve Brokers, Triggers and channels."""

    counts: Counts
    trimmer: Trimmer
    brokers: Entrances
    channels: Entrances
    controllers: list[Controller]


def add_plane_to(
    manager: Manager, config: PlaneConfig, rng: random.Random, listeners: Listeners = NONE
) -> Plane:
    """Add ingress and deliveries to a manager; `listeners` keep the port for the next process."""
    clock = manager.clock
    room = Room(config.journal_dir, clock=clock) if config.journal_dir else None
    journal = JetStream(config.journal, clock=clock, rng=rng, room=room)
    caller = Caller(config.may_dial)
    resolver = Resolver(*config.name_server, clock=clock, rng=rng) if config.name_server else None
    ways = Ways(config.outbound, resolver.resolve if resolver else None)
    live = Live(manager, ca_certs=config.tls.ca_certs if config.tls else "")
    sender = _sender(manager, caller, ways, live)
    guard = Guard(manager, live, Reviews(manager.client, clock))
    own, correlations = OwnSenders(guard), Correlations()
    export = spans.to_socket(caller, config.observe) if config.observe else None
    tracer = Tracer(export, clock=clock, rng=rng, sampling_percent=config.sampling_percent)
    shared = Shared(
        journal,
        sender,
        clock,
        tracer,
        Signal(),
        kept=correlations.kept,
        may_return=own.may_return,
        is_asked=lambda: guard.is_on,
    )
    deliveries = add_deliveries_to(manager, shared)
    trimmer, types = deliveries.trimmer, EventTypes(manager)

    def observe(entrance: Entrance, event: Event) -> None:
        trimmer.touch(entrance.stream)
        types.observe(entrance, event)

    desk = Desk(journal, clock, tracer, observe=observe, kept=correlations.kept, admit=guard.admit)
    brokers, channels = deliveries.brokers, deliveries.channels
    hosts = Hosts(
        {
            eventing.BROKER_INGRESS: Ingress(desk, brokers.by_path),
            eventing.CHANNEL_DISPATCHER: Ingress(desk, channels.channel_by_path),
        },
        Ingress(desk, channels.by_host),
        lambda: live.features.transport,
    )
    requests = RequestReplies(manager, desk, brokers, correlations, own.may_request)
    hosts.mount(eventing.REQUEST_REPLY_SERVICE, requests)
    manager.add(RequestReplyServer(manager).controller())
    front = Front(hosts, Place(config.address, config.port), config.tls, listeners, clock)
    for runnable, name in (
        (journal.run, "journal"),
        (_Reviver(manager, journal, deliveries.controllers, trimmer).run, "journal's return"),
        (tracer.run, "spans"),
        (types.run, "event types"),
        (front.run, "ingress"),
    ):
        manager.add_runnable(runnable, name)
    dial = Dialing(ways.resolve, config.may_dial)
    metrics = _collector(deliveries.counts, trimmer)
    return Plane(metrics, hosts.mount, hosts.mount_others, sender, guard, dial, front.retire)


def add_deliveries_to(manager: Manager, shared: Shared) -> Deliveries:
    """Add what has the journal keep events, and delivers them; who hears of dead letters is settled here."""
    journal, clock = shared.journal, shared.clock
    counts, trimmer = Counts(), Trimmer(journal, clock)
    undertakers: dict[str, DeadLetterServer] = {}

    def buried(route: Route, size_bytes: int) -> None:
        trimmer.touch(route.dead_stream, size_bytes)
        kind = eventing.BROKER.kind if route.source.kind == eventing.TRIGGER.kind else _CHANNEL
        undertakers[kind].buried(Key(route.source.namespace, route.source.parent))

    def dropped(kind: str, parent: Key, count: int) -> None:
        undertakers[kind].dropped(parent, count)

    dispatcher = Dispatcher(shared._replace(buried=buried), counts)
    brokers, channels = Entrances(), Entrances()
    services = Services(journal, dispatcher, counts, trimmer, dropped)
    controllers = [
        BrokerServer(manager, services, brokers).controller(),
        TriggerServer(manager, services).controller(),
        ChannelServer(manager, services, channels).controller(),
    ]
    replays = ReplayServer(manager, services)
    for resource in (eventing.BROKER, eventing.IN_MEMORY_CHANNEL):
        undertakers[resource.kind] = DeadLetterServer(manager, services, resource)
    others = [replays.controller(), *(each.controller() for each in undertakers.values())]
    for controller in (*controllers, *others):
        manager.add(controller)
    for runnable, name in (
        (dispatcher.run, "dispatcher"),
        (trimmer.run, "trimmer"),
        (Depths(journal, dispatcher, counts, clock).run, "depths"),
        (Sweeper(manager, journal).run, "sweeper"),
        (replays.run, "replays"),
        *((each.run, f"redeliveries of a {kind}") for kind, each in undertakers.items()),
    ):
        manager.add_runnable(runnable, name)
    return Deliveries(counts, trimmer, brokers, channels, controllers)


def _sender(manager: Manager, caller: Caller, ways: Ways, live: Live) -> HttpSender:
    """The way out, with tokens of Eventing's own accounts and trust in whom bundles name."""
    accounts = manager.informer(resources.SERVICE_ACCOUNT, label_selector=f"{wellknown.OIDC_LABEL}=enabled")
    tokens = Tokens(manager.client, manager.clock, lambda account: accounts.lister.get(account) is not None)
    accounts.add_handler(tokens.changed)
    return HttpSender(caller, ways, tokens, lambda: live.trusted)


def _collector(counts: Counts, trimmer: Trimmer) -> Collector:
    """Everything that is counted."""

    def collect() -> Iterator[Family]:
        yield from counts.collect()
        lost = {(stream,): float(count) for stream, count in trimmer.lost.items()}
        yield metrics.gauge(
            "event_journal_lost_messages", "Acknowledged messages that a stream lost.", lost, ("stream",)
        )

    return collect


class _Reviver:
    """When the journal is back, everything that it refused is tried again at once."""

    def __init__(
        self, manager: Manager, journal: JetStream, controllers: list[Controller], trimmer: Trimmer
    ) -> None:
        self._journal = journal
        self._trimmer = trimmer
        self._pairs = [
            (manager.informer(resource), controller)
            for resource, controller in zip(
                (eventing.BROKER, eventing.TRIGGER, eventing.IN_MEMORY_CHANNEL), controllers, strict=True
            )
        ]

    async def run(self) -> None:
        changed = self._journal.changed
        while True:
            await changed.wait()
            changed.clear()
            if not self._journal.is_connected:
                continue
            for informer, controller in self._pairs:
                for obj in informer.lister.list():
                    controller.enqueue(objects.key(obj))
            with contextlib.suppress(errors.ApiError):  # it will be asked again when it is back
                self._trimmer.damaged(await self._journal.lost())
