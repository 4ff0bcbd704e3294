"""How compose puts Eventing together: what runs in `control`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import kinds
from ondol.eventing.brokers.broker import BrokerReconciler
from ondol.eventing.brokers.trigger import TriggerReconciler
from ondol.eventing.channels.channel import ChannelReconciler
from ondol.eventing.channels.documents import Plane
from ondol.eventing.channels.in_memory import InMemoryChannelReconciler
from ondol.eventing.channels.subscription import SubscriptionReconciler
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.flows.reconciler import PARALLELS, SEQUENCES, FlowReconciler
from ondol.eventing.namespace import NamespaceReconciler
from ondol.eventing.policies.lister import Policies
from ondol.eventing.policies.reconciler import EventPolicyReconciler
from ondol.eventing.requests.reconciler import RequestReplyReconciler
from ondol.eventing.sinks import addressed
from ondol.eventing.sources import wiring as source_wiring
from ondol.eventing.transforms.reconciler import EventTransformReconciler
from ondol.eventing.types.reconciler import EventTypeReconciler
from ondol.sdk import Manager


@dataclass(frozen=True, slots=True)
class EventingConfig:
    """Where the data plane listens, and who is told that it is needed."""

    address: str
    """An address of this machine that pods and the proxy reach."""
    port: int
    demand: Callable[[], None] = lambda: None
    """Called once, when there is the first object that the data plane serves."""
    tls_port: int = 0
    """Where it speaks TLS, if it does."""
    ca_certs: str = ""
    """By whom its certificate is issued (PEM), so that senders may know it."""


def crds() -> list[Object]:
    """The CustomResourceDefinitions that must be served before `add_to` runs."""
    return kinds.definitions()


def add_to(manager: Manager, config: EventingConfig) -> None:
    """Add the controllers of Eventing. Without objects they hold watches of empty kinds, and nothing else."""
    ca_certs = config.ca_certs if config.tls_port else ""
    live, policies = Live(manager, ca_certs=ca_certs), Policies(manager)
    demand, plane = Demand(config.demand), Plane(config.address, config.port, config.tls_port)
    # A letter that is to go is held until the data plane has forgotten it, also when its broker is no more.
    letters = manager.informer(eventing.DEAD_LETTER, metadata_only=True)
    letters.add_handler(lambda _old, new: demand() if new is not None else None)
    manager.add(NamespaceReconciler(manager, live, demand, plane).controller())
    manager.add(BrokerReconciler(manager, live, policies, demand).controller())
    manager.add(TriggerReconciler(manager, live).controller())
    manager.add(InMemoryChannelReconciler(manager, live, policies, demand, plane).controller())
    manager.add(ChannelReconciler(manager, live, policies).controller())
    manager.add(SubscriptionReconciler(manager, live).controller())
    manager.add(FlowReconciler(manager, live, policies, SEQUENCES).controller())
    manager.add(FlowReconciler(manager, live, policies, PARALLELS).controller())
    manager.add(EventPolicyReconciler(manager, live).controller())
    manager.add(EventTypeReconciler(manager, live).controller())
    manager.add(RequestReplyReconciler(manager, live, policies, demand).controller())
    source_wiring.add_to(manager, live, demand)
    manager.add(EventTransformReconciler(manager, live, policies, demand, plane).controller())
    for resource in addressed.SERVICES:
        manager.add(addressed.AddressedSinkReconciler(manager, live, policies, demand, resource).controller())
