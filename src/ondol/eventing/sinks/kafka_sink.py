"""KafkaSinks in the process `events`: an event that is posted is a record, once every replica has it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import anyio

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import exchange
from ondol.eventing.exchange import Answer, Incoming
from ondol.eventing.kafka import records, settings
from ondol.eventing.kafka.loading import Load, Missing
from ondol.eventing.kafka.port import Cluster, Connection, Producer
from ondol.eventing.sinks import posting
from ondol.eventing.sources.adapters import FIELD_MANAGER
from ondol.eventing.verdicts import OK, Verdict, failed
from ondol.sdk import Controller, Manager, Result, status

_AGAIN_S: Final = 30.0
_LATER: Final = (b"retry-after", b"5")


@dataclass(slots=True)
class _Line:
    """The producer of a sink; opened by one request at a time."""

    sink: Object
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    stack: AsyncExitStack | None = None
    producer: Producer | None = None

    async def close(self) -> None:
        stack, self.stack, self.producer = self.stack, None, None
        if stack is not None:
            await stack.aclose()


class KafkaSinks:
    """Answers `POST /<namespace>/<name>`: 202, or 503 with Retry-After while Kafka does not take records."""

    def __init__(self, manager: Manager, load: Load) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._load = load
        self._lines: dict[Key, _Line] = {}
        self._sinks = manager.informer(eventing.KAFKA_SINK)
        self._writer = status.Writer(
            manager.client,
            eventing.KAFKA_SINK,
            field_manager=FIELD_MANAGER,
            conditions=(eventing.TOPIC_READY,),
        )

    def controller(self) -> Controller:
        controller = Controller("events-kafkasinks", self.reconcile)
        controller.watch(self._sinks)
        return controller

    async def run(self) -> None:
        """Keep producers until cancelled."""
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for line in list(self._lines.values()):
                    await line.close()

    async def reconcile(self, key: Key) -> Result | None:
        sink = self._sinks.lister.get(key)
        line = self._lines.get(key)
        if line is not None and (sink is None or _version(line.sink) != _version(sink)):
            del self._lines[key]
            await line.close()
        if sink is None or objects.is_deleting(sink):
            return None
        verdict = await self._verdict(key, sink)
        listed = conditions.set(
            conditions.of(sink),
            eventing.TOPIC_READY,
            verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            now=self._clock.now(),
        )
        await self._writer.write(sink, {"conditions": listed})
        return None if verdict.is_true else Result(requeue_after_s=_AGAIN_S)

    async def _verdict(self, key: Key, sink: Object) -> Verdict:
        try:
            producer = await self._producer(key, sink)
            await producer.check(str(objects.spec(sink).get("topic")))
        except Missing as error:
            return failed("KafkaClientMissing", str(error))
        except settings.Unusable as error:
            return failed("Unusable", str(error))
        except errors.ApiError as error:
            return failed("TopicNotPresentOrInvalid", error.message)
        return OK

    async def handle(self, incoming: Incoming) -> Answer:
        taken = posting.posted(incoming, eventing.KAFKA_SINK, self._sinks.lister)
        if isinstance(taken, Answer):
            return taken
        key, sink, event = taken
        spec = objects.spec(sink)
        mode: records.ContentMode = "structured" if spec.get("contentMode") == "structured" else "binary"
        record_key, value, headers = records.encode(event, mode)
        try:
            producer = await self._producer(key, sink)
            try:
                await producer.send(str(spec.get("topic")), record_key, value, headers)
            except errors.Unavailable:
                await self._give_up(key, producer)
                raise
        except (Missing, settings.Unusable) as error:
            return exchange.words(503, str(error), _LATER)
        except errors.Unavailable as error:
            return exchange.words(503, error.message, _LATER)
        return Answer(202)

    async def _give_up(self, key: Key, producer: Producer) -> None:
        """Open another one for the next event, by what the Secret then has."""
        line = self._lines.get(key)
        if line is not None and line.producer is producer:
            await line.close()

    async def _producer(self, key: Key, sink: Object) -> Producer:
        """The producer of a sink, with its topic made if that is asked for."""
        line = self._lines.setdefault(key, _Line(sink))
        async with line.lock:
            if line.producer is None:
                cluster = self._load()
                connection = await settings.of_sink(sink, self._client)
                await self._make_topic(cluster, sink, connection)
                async with AsyncExitStack() as stack:
                    line.producer = await stack.enter_async_context(cluster.produce(connection))
                    line.stack = stack.pop_all()
            producer = line.producer
            if self._lines.get(key) is not line:  # the sink became another meanwhile: nobody else closes it
                await line.close()
                raise errors.Unavailable(f"KafkaSink {key} has changed: try again")
            return producer

    async def _make_topic(self, cluster: Cluster, sink: Object, connection: Connection) -> None:
        spec = objects.spec(sink)
        if spec.get("numPartitions"):
            copies = int(spec.get("replicationFactor") or 1)
            await cluster.create_topic(connection, str(spec["topic"]), int(spec["numPartitions"]), copies)


def _version(sink: Object | None) -> tuple[str, int]:
    return (objects.uid(sink), objects.generation(sink)) if sink is not None else ("", 0)
