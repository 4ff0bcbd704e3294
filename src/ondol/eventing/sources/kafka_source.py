"""The adapter of KafkaSources, in the process `events`: members of their groups, and what is said of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.contracts import eventing
from ondol.eventing import addressing
from ondol.eventing.exchange import Sender, Target
from ondol.eventing.kafka.loading import Load, Missing
from ondol.eventing.sources import adapters, couriers, partitions, wellknown
from ondol.eventing.sources import status as statuses
from ondol.eventing.sources.couriers import Courier
from ondol.eventing.sources.kafka_member import Member, Surroundings
from ondol.eventing.sources.outbox import Outbox
from ondol.eventing.verdicts import OK, Verdict, failed, unknown
from ondol.sdk import Controller, Manager, status

Document: TypeAlias = Mapping[str, Any]

CONDITIONS: Final = eventing.PLANE_CONDITIONS[eventing.KAFKA_SOURCE]
FIELDS: Final = ("consumers", "selector", "claims")
_READING: Final = ("bootstrapServers", "net", "topics", "consumerGroup", "initialOffset", "ordering")
"""The fields of which another value has the group read anew."""


@dataclass(slots=True)
class _Group:
    """A source that is served: how its events are delivered, and its members by their numbers."""

    reading: tuple[Any, ...]
    courier: Courier
    source: Object
    members: dict[int, tuple[Member, anyio.CancelScope]]

    def stop(self) -> None:
        for _, scope in self.members.values():
            scope.cancel()
        self.members.clear()


class KafkaSources:
    """Serves KafkaSources: what is read of Kafka stays uncommitted until somebody has its event."""

    def __init__(
        self, manager: Manager, sender: Sender, outbox: Outbox, load: Load, rng: random.Random
    ) -> None:
        self._manager = manager
        self._clock = manager.clock
        self._sender = sender
        self._outbox = outbox
        self._load = load
        self._rng = rng
        self._groups: dict[Key, _Group] = {}
        self._tasks: TaskGroup | None = None
        self._sources = manager.informer(eventing.KAFKA_SOURCE)
        self._controller = Controller("events-kafkasources", self.reconcile)
        self._writer = status.Writer(
            manager.client,
            eventing.KAFKA_SOURCE,
            field_manager=adapters.FIELD_MANAGER,
            fields=FIELDS,
            conditions=CONDITIONS,
        )

    def controller(self) -> Controller:
        self._controller.watch(self._sources)
        return self._controller

    async def run(self) -> None:
        """Read, until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for source in self._sources.lister.list():
                self._controller.enqueue(objects.key(source))
            await anyio.sleep_forever()

    async def reconcile(self, key: Key) -> None:
        source = self._sources.lister.get(key)
        target = None if source is None else statuses.target(source)
        if source is None or objects.is_deleting(source) or target is None:
            self._stop(key)
        if source is None or objects.is_deleting(source):
            return
        own = {type_: unknown("NoSink", "the sink has no address yet") for type_ in CONDITIONS}
        if target is not None:
            own = self._serve(key, source, target)
        await self._report(source, own, self._groups.get(key))

    def _stop(self, key: Key) -> None:
        group = self._groups.pop(key, None)
        if group is not None:
            group.stop()

    def _serve(self, key: Key, source: Object, target: Target) -> dict[str, Verdict]:
        """Have as many members as are asked for; the verdicts on the conditions."""
        try:
            cluster = self._load()
        except Missing as error:
            self._stop(key)
            return dict.fromkeys(CONDITIONS, failed("KafkaClientMissing", str(error)))
        if self._tasks is None:
            return dict.fromkeys(CONDITIONS, unknown("Starting", "the process begins"))
        agreed = couriers.terms(objects.spec(source).get("delivery"), target, _letters(source))
        group = self._groups.get(key)
        if group is None or group.reading != _reading(source):
            self._stop(key)
            courier = Courier(
                self._sender,
                self._clock,
                self._rng,
                agreed,
                counts=self._outbox.count(eventing.KAFKA_SOURCE),
                tell=partial(self._tell, key),
            )
            group = self._groups[key] = _Group(_reading(source), courier, source, {})
        group.source = source
        group.courier.change(agreed)
        count = max(0, int(objects.spec(source).get("consumers", 1)))
        for number in [each for each in group.members if each >= count]:
            group.members.pop(number)[1].cancel()
        for number in range(len(group.members), count):
            member = Member(
                Surroundings(self._manager.client, self._clock, self._rng, cluster),
                group.courier,
                partial(_current, group),
                lambda: self._controller.enqueue(key),
            )
            scope = anyio.CancelScope()
            group.members[number] = (member, scope)
            self._tasks.start_soon(_run, member, scope)
        return _verdicts([member for member, _ in group.members.values()])

    def _tell(self, key: Key, reason: str) -> None:
        source = self._sources.lister.get(key)
        if source is not None:
            message = f"an event waits and is sent again: {reason}"
            self._manager.recorder.event(source, "Warning", "EventNotTaken", message)

    async def _report(self, source: Object, own: Mapping[str, Verdict], group: _Group | None) -> None:
        listed = conditions.of(source)
        for type_, verdict in own.items():
            listed = conditions.set(
                listed,
                type_,
                verdict.status,
                reason=verdict.reason,
                message=verdict.message,
                now=self._clock.now(),
            )
        members = [member for member, _ in group.members.values()] if group is not None else []
        claims = sorted(each for member in members for each in member.partitions)
        fields = {
            "consumers": sum(member.is_connected for member in members),
            "selector": f"{wellknown.KAFKA_SOURCE_LABEL}={objects.name(source)}",
            "claims": partitions.text(claims) or None,
        }
        await self._writer.write(source, {**fields, "conditions": listed})


async def _run(member: Member, scope: anyio.CancelScope) -> None:
    with scope:
        await member.run()


def _current(group: _Group) -> Object:
    return group.source


def _reading(source: Document) -> tuple[Any, ...]:
    return objects.uid(source), *(objects.spec(source).get(field) for field in _READING)


def _letters(source: Document) -> Target | None:
    """The dead letter sink, as the control plane has resolved it."""
    address = addressing.dead_letter_address(objects.status(source))
    target = statuses.target(source)
    if address is None or target is None:
        return None
    return Target(
        address.url,
        ca_certs=address.ca_certs,
        audience=address.audience,
        service_account=target.service_account,
        namespace=target.namespace,
    )


def _verdicts(members: list[Member]) -> dict[str, Verdict]:
    """One for each of `CONDITIONS`."""
    troubles = sorted({member.trouble for member in members if member.trouble})
    connected, begun = OK, OK
    if troubles:
        connected = failed("ConnectionFailed", "; ".join(troubles))
    elif not all(member.is_connected for member in members):
        connected = unknown("Connecting", "not every consumer has joined its group yet")
    if not all(member.has_begun for member in members):
        begun = unknown("OffsetsNotCommitted", "it is not settled yet where reading begins")
    deployed, established, committed = CONDITIONS
    return {deployed: OK, established: connected, committed: begun}
