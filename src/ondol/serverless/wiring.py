"""How compose puts the serverless parts together: what runs in `control`, what in `gateway`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.api.objects import Object
from ondol.base.listeners import NONE, Listeners
from ondol.base.metrics import Collector
from ondol.client import Client
from ondol.sdk import Manager
from ondol.serverless.activator import coldstart
from ondol.serverless.activator.activator import Activator
from ondol.serverless.autoscaler.metrics import ProxyMetrics
from ondol.serverless.autoscaler.reconciler import PodAutoscalerReconciler
from ondol.serverless.config import install as maps
from ondol.serverless.config import live
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import crds as definitions
from ondol.serverless.serving.collection import CollectionReconciler
from ondol.serverless.serving.configuration import ConfigurationReconciler
from ondol.serverless.serving.domainmapping import DomainMappingReconciler
from ondol.serverless.serving.revision import RevisionReconciler
from ondol.serverless.serving.route import RouteReconciler
from ondol.serverless.serving.service import ServiceReconciler
from ondol.web import spans
from ondol.web.calling import Caller
from ondol.web.spans import Exporter

_GATHER_S: Final = 0.1
"""How long spans of held requests are gathered: those of one cold start end together."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where the activator listens, and what holds where neither a ConfigMap nor a revision says otherwise."""

    address: str
    base: ServingConfig = field(default_factory=ServingConfig)
    asks_from: str = ""
    """From where pods that start are asked, if that matters to them."""
    traces: Path | None = None
    """The socket that takes spans in."""


def crds() -> list[Object]:
    """The CustomResourceDefinitions that must be served before `add_to` and `add_gateway_to` run."""
    return definitions.definitions()


async def install(client: Client) -> None:
    """Make the namespace `knative-serving` and its ConfigMaps, where they are not there yet."""
    await maps.install(client)


def add_to(manager: Manager, base: ServingConfig) -> None:
    """Add the Serving controllers; `base` is what holds where no ConfigMap says otherwise."""
    config = live.of(manager, base)
    manager.add(live.ConfigReconciler(manager, base).controller())
    manager.add(ServiceReconciler(manager).controller())
    manager.add(ConfigurationReconciler(manager, config).controller())
    manager.add(RevisionReconciler(manager, config).controller())
    manager.add(RouteReconciler(manager, config).controller())
    manager.add(CollectionReconciler(manager, config).controller())
    manager.add(DomainMappingReconciler(manager, config).controller())


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
    exporter = None
    if config.traces is not None:
        export = spans.to_socket(Caller(), config.traces)
        exporter = Exporter(export, manager.clock, service=coldstart.SERVICE, gather_s=_GATHER_S)
    pokes: list[PodAutoscalerReconciler] = []
    activator = Activator(
        config.address,
        on_demand=lambda revision: pokes[0].poke(revision),  # noqa: PLW0108 - filled below
        clock=manager.clock,
        rng=rng,
        listeners=listeners,
        sink=exporter,
        asks_from=config.asks_from,
    )
    if exporter is not None:
        manager.add_runnable(exporter.run, "spans")
    reconciler = PodAutoscalerReconciler(manager, activator, proxy, live.of(manager, config.base))
    pokes.append(reconciler)
    manager.add(reconciler.controller())
    manager.add_runnable(activator.run, "activator")
    manager.add_runnable(reconciler.sample, "samples")
    return Gateway(activator.metrics, activator.retire)
