"""How compose puts the serverless parts together: what runs in `control`, what in `gateway`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ondol.api.objects import Object
from ondol.base.listeners import NONE, Listeners
from ondol.base.metrics import Collector
from ondol.sdk import Manager
from ondol.serverless.activator.activator import Activator
from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.autoscaler.metrics import ProxyMetrics
from ondol.serverless.autoscaler.reconciler import PodAutoscalerReconciler
from ondol.serverless.serving import crds as definitions
from ondol.serverless.serving.configuration import ConfigurationReconciler
from ondol.serverless.serving.revision import RevisionReconciler
from ondol.serverless.serving.route import RouteConfig, RouteReconciler
from ondol.serverless.serving.service import ServiceReconciler


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where the activator listens, and what holds for revisions that say nothing."""

    address: str
    scaling: Scaling = field(default_factory=Scaling)


def crds() -> list[Object]:
    """The CustomResourceDefinitions that must be served before `add_to` and `add_gateway_to` run."""
    return definitions.definitions()


def add_to(manager: Manager, config: RouteConfig) -> None:
    """Add the Serving controllers (Service, Configuration, Revision, Route)."""
    manager.add(ServiceReconciler(manager).controller())
    manager.add(ConfigurationReconciler(manager).controller())
    manager.add(RevisionReconciler(manager).controller())
    manager.add(RouteReconciler(manager, config).controller())


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the activator counts, and how it ends once another one is there (`Activator.retire`)."""

    metrics: Collector
    retire: Callable[[], Awaitable[None]]


def add_gateway_to(
    manager: Manager,
    proxy: ProxyMetrics,
    config: GatewayConfig,
    rng: random.Random,
    listeners: Listeners = NONE,
) -> Gateway:
    """Add the activator and the autoscaler, which share a process; `listeners` keep its ports for another."""
    pokes: list[PodAutoscalerReconciler] = []
    activator = Activator(
        config.address,
        on_demand=lambda revision: pokes[0].poke(revision),  # noqa: PLW0108 - filled below
        clock=manager.clock,
        rng=rng,
        listeners=listeners,
    )
    reconciler = PodAutoscalerReconciler(manager, activator, proxy, defaults=config.scaling)
    pokes.append(reconciler)
    manager.add(reconciler.controller())
    manager.add_runnable(activator.run, "activator")
    manager.add_runnable(reconciler.sample, "samples")
    return Gateway(activator.metrics, activator.retire)
