"""How sources are put together: their controllers in `control`, their adapters in `events`."""

from __future__ import annotations

from collections.abc import Callable

from ondol.contracts import eventing
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.exchange import Sender
from ondol.eventing.kafka import loading
from ondol.eventing.kafka.loading import Load
from ondol.eventing.sources import reconciler, ticking
from ondol.eventing.sources.adapters import Adapter
from ondol.eventing.sources.container_source import ContainerSourceReconciler
from ondol.eventing.sources.kafka_source import KafkaSources
from ondol.eventing.sources.outbox import Outbox, Source
from ondol.eventing.sources.permissions import Permissions
from ondol.eventing.sources.reconciler import KafkaSourceReconciler, SourceReconciler
from ondol.eventing.sources.sink_binding import SinkBindingReconciler
from ondol.eventing.sources.watching import Watches
from ondol.eventing.sources.webhook_source import Listening
from ondol.sdk import Manager


def add_to(manager: Manager, live: Live, demand: Demand) -> None:
    """Add the controllers of sources."""
    for kind in (reconciler.PING, reconciler.TIMER):
        manager.add(SourceReconciler(manager, live, demand, kind).controller())
    hooks = SourceReconciler(manager, live, demand, reconciler.WEBHOOK, reconciler.address)
    manager.add(hooks.controller())
    manager.add(KafkaSourceReconciler(manager, live, demand).controller())
    permissions = Permissions(manager)
    watching = SourceReconciler(manager, live, demand, reconciler.API_SERVER, permissions.examine)
    controller = watching.controller()
    permissions.watch(controller, watching.sources)
    manager.add(controller)
    manager.add(SinkBindingReconciler(manager, live).controller())
    manager.add(ContainerSourceReconciler(manager, live).controller())


def add_adapters_to(manager: Manager, sender: Sender, kafka: Load = loading.missing) -> Outbox:
    """Add what sends the events of sources; the outbox that most of them use."""
    outbox = Outbox(sender, manager.clock, manager.rng, lost=_teller(manager))
    manager.add_runnable(outbox.run, "outbox")
    pings = ticking.Pings(outbox, manager.clock, manager.rng)
    timers = ticking.Timers(outbox, manager.clock, manager.rng)
    watches = Watches(manager, outbox, manager.rng)
    manager.add_runnable(watches.run, "watches")
    manager.add(Adapter(manager, eventing.PING_SOURCE, pings, outbox).controller())
    manager.add(Adapter(manager, eventing.API_SERVER_SOURCE, watches, outbox).controller())
    manager.add(Adapter(manager, eventing.INTEGRATION_SOURCE, timers, outbox).controller())
    manager.add(Adapter(manager, eventing.WEBHOOK_SOURCE, Listening(), outbox).controller())
    kafka_sources = KafkaSources(manager, sender, outbox, kafka, manager.rng)
    manager.add_runnable(kafka_sources.run, "kafka")
    manager.add(kafka_sources.controller())
    return outbox


def _teller(manager: Manager) -> Callable[[Source, str], None]:
    """Tells an event that is given up on the object of its source."""

    def tell(source: Source, reason: str) -> None:
        resource, key = source
        obj = manager.informer(resource).lister.get(key)
        if obj is not None:
            manager.recorder.event(obj, "Warning", "EventNotSent", reason)

    return tell
