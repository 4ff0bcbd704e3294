"""What the process `events` serves beside brokers and channels: sources, sinks and transforms.

Its wiring calls `add_to` and mounts the applications: those of `services` under their names in Eventing's
namespace, `transforms` for the hosts of Services whose name `is_transform` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Resource
from ondol.contracts import cluster, eventing
from ondol.eventing import applications, exchange
from ondol.eventing.exchange import Answer, Handle, Incoming, Sender
from ondol.eventing.intake import Intake
from ondol.eventing.kafka.loading import Load
from ondol.eventing.plane.guard import Guard
from ondol.eventing.shares import Shares
from ondol.eventing.sinks import jobs
from ondol.eventing.sinks.job_sink import JobSinks, sink_key
from ondol.eventing.sinks.kafka_sink import KafkaSinks
from ondol.eventing.sinks.log_sink import LogSinks
from ondol.eventing.sources import webhook_source, wiring
from ondol.eventing.sources.outbox import Outbox
from ondol.eventing.sources.webhook_source import WebhookSources
from ondol.eventing.transforms.adapter import TransformServer
from ondol.eventing.transforms.evaluator import ProcessEvaluator
from ondol.eventing.transforms.transforming import Transforms
from ondol.sdk import Manager
from ondol.web.application import Asgi

_REQUESTS_MAX: Final = 1024
_BYTES_MAX: Final = 256 << 20
"""Of all of them together; one kind alone may have two thirds (`shares`)."""


@dataclass(frozen=True, slots=True)
class Beside:
    """`evaluator` is closed when the process ends; `outbox` counts what sources sent."""

    services: Mapping[str, Asgi]
    transforms: Asgi
    outbox: Outbox
    evaluator: ProcessEvaluator


def add_to(manager: Manager, sender: Sender, guard: Guard, kafka: Load) -> Beside:
    """Add the adapters of sources and the server of transforms; `sender` is the way out.

    `guard` says who may send events to sinks and transforms. Whoever calls a webhook is known by its secret.
    `kafka` loads the client of Kafka, once there is something for it to do.
    """
    evaluator = ProcessEvaluator(manager.clock)
    outbox = wiring.add_adapters_to(manager, sender, kafka)
    manager.add(TransformServer(manager, evaluator).controller())
    transforms = Transforms(manager, evaluator, sender)
    sinks, hooks = JobSinks(manager), WebhookSources(manager, sender, manager.rng)
    logs, topics = LogSinks(manager), KafkaSinks(manager, kafka)
    manager.add(topics.controller())
    manager.add_runnable(topics.run, "kafka sinks")

    intake = Intake(manager.clock, Shares(count_max=_REQUESTS_MAX, bytes_max=_BYTES_MAX))

    def served(name: str, handle: Handle, bytes_max: int = applications.EVENT_BYTES_MAX) -> Asgi:
        return applications.application(handle, intake, name=name, bytes_max=bytes_max)

    def sink(kind: Resource, handle: Handle) -> Asgi:
        return served(kind.kind, guard.protecting(handle, kind, sink_key))

    def transform_of(service: Key | None) -> Key | None:
        transform = transforms.find(service) if service is not None else None
        return objects.key(transform) if transform is not None else None

    def transforming(service_of: Callable[[Incoming], Key | None]) -> Asgi:
        async def handle(incoming: Incoming) -> Answer:
            service = service_of(incoming)
            if service is None:
                return exchange.words(404, f"{incoming.header(b'host')!r} is the host of no EventTransform")
            return await transforms.handle(service, incoming)

        kind = eventing.EVENT_TRANSFORM
        protected = guard.protecting(handle, kind, lambda incoming: transform_of(service_of(incoming)))
        return served(kind.kind, protected)

    services = {
        eventing.JOB_SINK_SERVICE: sink(eventing.JOB_SINK, sinks.handle),
        eventing.INTEGRATION_SINK_SERVICE: sink(eventing.INTEGRATION_SINK, logs.handle),
        eventing.KAFKA_SINK_SERVICE: sink(eventing.KAFKA_SINK, topics.handle),
        eventing.WEBHOOK_SERVICE: served(eventing.WEBHOOK_SERVICE, hooks.handle, webhook_source.BYTES_MAX),
        eventing.TRANSFORM_SERVICE: transforming(_by_path),
    }
    return Beside(services, transforming(_by_host), outbox, evaluator)


def _by_host(incoming: Incoming) -> Key | None:
    """The Service whose host was called, in whichever of its forms."""
    return cluster.service_of(incoming.header(b"host"))


def _by_path(incoming: Incoming) -> Key | None:
    """The Service of the transform of `/<namespace>/<name>`."""
    key = jobs.sink_of(incoming.path)
    return Key(key.namespace, eventing.transform_service(key.name)) if key is not None else None
