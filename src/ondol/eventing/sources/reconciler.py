"""Reconciles sources whose events the data plane sends: resolves the sink, and says what is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.contracts import eventing
from ondol.eventing import addressing, verdicts
from ondol.eventing.configuration import features
from ondol.eventing.configuration.live import Live
from ondol.eventing.demand import Demand
from ondol.eventing.destinations import Address, Unresolved
from ondol.eventing.destinations.resolver import Resolver
from ondol.eventing.identities import Identities
from ondol.eventing.kafka import records
from ondol.eventing.reporting import DEAD_LETTER_FIELDS, Reporter
from ondol.eventing.sources import changes, pings, status, webhooks, wellknown
from ondol.eventing.sources.status import View
from ondol.eventing.verdicts import Verdict
from ondol.sdk import Controller, Manager, Result

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Examination:
    """What a kind looks at besides its sink; `again_s` is when to look again."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    fields: Document = field(default_factory=dict)
    again_s: float | None = None


Examine: TypeAlias = Callable[[Object], Awaitable[Examination]]
_NOTHING: Final = Examination()


async def _nothing(_source: Object) -> Examination:
    return _NOTHING


async def address(source: Object) -> Examination:
    """Where a source takes requests."""
    return Examination(fields={"address": Address(webhooks.url(source), name="http").as_addressable()})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source: the events it announces, and what else its status has."""

    resource: Resource
    attributes: Callable[[Document], list[Object]]
    conditions: Iterable[str] = ()
    fields: Iterable[str] = ()


PING: Final = Kind(eventing.PING_SOURCE, pings.ping_attributes)
API_SERVER: Final = Kind(
    eventing.API_SERVER_SOURCE,
    changes.attributes,
    conditions=(wellknown.SUFFICIENT_PERMISSIONS,),
    fields=("namespaces",),
)
WEBHOOK: Final = Kind(eventing.WEBHOOK_SOURCE, webhooks.attributes, fields=("address",))
KAFKA: Final = Kind(
    eventing.KAFKA_SOURCE,
    records.attributes,
    conditions=(wellknown.DEAD_LETTER_SINK_RESOLVED,),
    fields=DEAD_LETTER_FIELDS,
)
TIMER: Final = Kind(eventing.INTEGRATION_SOURCE, pings.timer_attributes)


class SourceReconciler:
    """Writes nothing but statuses, and the identity as which events are sent."""

    def __init__(
        self, manager: Manager, live: Live, demand: Demand, kind: Kind, examine: Examine = _nothing
    ) -> None:
        self._clock = manager.clock
        self._live = live
        self._demand = demand
        self._kind = kind
        self._examine = examine
        self.sources = manager.informer(kind.resource)
        self._controller = Controller(f"eventing-{kind.resource.kind.lower()}", self.reconcile)
        self._resolver = Resolver.of(manager, self._controller)
        self._identities = Identities(manager, kind.resource)
        self._status = Reporter(
            manager,
            kind.resource,
            fields=(*status.FIELDS, *kind.fields),
            conditions=(*status.CONDITIONS, *kind.conditions),
        )

    def controller(self) -> Controller:
        self._controller.watch(self.sources)
        self._live.watch(self._controller, self.sources)
        self._identities.watch(self._controller)
        return self._controller

    async def reconcile(self, key: Key) -> Result | None:
        self._resolver.begin(key)
        source = self.sources.lister.get(key)
        if source is None:
            self._identities.forget(key)
            return None
        if objects.is_deleting(source):
            return None
        self._demand()
        examination = await self._examine(source)
        view = View(
            await self.resolved(source, objects.spec(source).get("sink") or {}),
            await self._identities.ensure(source, self._live.features),
            self._kind.attributes(source),
            examination.verdicts,
            examination.fields,
        )
        desired = status.source_status(self._kind.resource, source, view, now=self._clock.now())
        await self._status.write(source, desired)
        return Result(requeue_after_s=examination.again_s)

    async def resolved(self, source: Object, destination: Document) -> Address | Unresolved:
        """Where a destination that the source names is; its reconciliation began before."""
        group = self._live.features.is_on(features.KREFERENCE_GROUP)
        try:
            return await self._resolver.resolve(objects.key(source), destination, group=group)
        except Unresolved as error:
            return error


class KafkaSourceReconciler(SourceReconciler):
    """Resolves the dead letter sink too, which no other source has."""

    def __init__(self, manager: Manager, live: Live, demand: Demand) -> None:
        super().__init__(manager, live, demand, KAFKA, self._dead_letters)

    async def _dead_letters(self, source: Object) -> Examination:
        sink = addressing.dead_letter_sink(source)
        if sink is None:
            return Examination(fields=addressing.dead_letter_fields(None))
        resolution = await self.resolved(source, sink)
        return Examination(
            {wellknown.DEAD_LETTER_SINK_RESOLVED: verdicts.dead_letter(resolution)},
            addressing.dead_letter_fields(resolution),
        )
