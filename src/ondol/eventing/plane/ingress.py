"""Where events come in: to brokers by path, to channels by host. 202 is said once the journal has the event.

What cannot be kept now is refused with 503 and a time to try again, and its sender keeps it; an event that
was in doubt and comes again is found to be the same, and kept once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from ondol.api.objects import Key, Resource
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.contracts import cluster, eventing
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import ttl
from ondol.eventing.intake import Gone, Intake, Place
from ondol.eventing.journal.port import Journal
from ondol.eventing.plane import records
from ondol.eventing.plane.answers import Answered, answer, refusal
from ondol.eventing.plane.counts import Arrivals
from ondol.eventing.plane.guard import FORBIDDEN, Allows, Headers, anybody
from ondol.eventing.plane.tracing import Tracer, continued
from ondol.eventing.shares import Shares
from ondol.web.application import Receive, Scope, Send

EVENT_BYTES_MAX: Final = 1 << 20
_BATCH_MAX: Final = 1000
_IN_FLIGHT_MAX: Final = 1536
_IN_FLIGHT_BYTES_MAX: Final = 96 << 20
"""Of all brokers and channels together; one alone may have two thirds (`shares`)."""
ALLOW: Final = (b"allow", b"POST, OPTIONS")
GREETING: Final = Answered(
    200, "", (ALLOW, (b"webhook-allowed-origin", b"*"), (b"webhook-allowed-rate", b"*"))
)
_ACCEPTED: Final = Answered(202, "", (ALLOW,))
_EXPIRED: Final = Answered(400, f"the event has gone round too often: {ttl.ATTRIBUTE} is used up", (ALLOW,))

_RESOURCES: Final = {each.kind: each for each in (eventing.BROKER, eventing.IN_MEMORY_CHANNEL)}

Find = Callable[[Scope], "Entrance | Answered"]
Observe = Callable[["Entrance", Event], None]
Kept = Callable[[str, Event], None]
"""Called with the stream and the event once it is kept."""
Admit = Callable[[Resource, Key, Headers], Awaitable[Allows | Answered]]
"""What a request to an object may send, or why it may not send at all."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A broker or channel that takes events; `is_open` says whether its stream is there."""

    kind: str
    key: Key
    uid: str
    stream: str
    counts: Arrivals
    is_open: bool = True

    @property
    def is_broker(self) -> bool:
        return self.kind == eventing.BROKER.kind

    @property
    def resource(self) -> Resource:
        return _RESOURCES[self.kind]


class Entrances:
    """The brokers or channels of a process, by name."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Entrance] = {}
        self._by_service: dict[Key, Entrance] = {}

    def open(self, entrance: Entrance) -> None:
        """Have events come in here."""
        self.by_key[entrance.key] = self._by_service[_service(entrance.key)] = entrance

    def close(self, key: Key) -> Entrance | None:
        """What was the entrance of this name."""
        self._by_service.pop(_service(key), None)
        return self.by_key.pop(key, None)

    def by_path(self, scope: Scope, *, kind: str = "broker") -> Entrance | Answered:
        """The broker (or channel) of `/<namespace>/<name>`."""
        key = key_of(scope["path"], kind)
        if isinstance(key, Answered):
            return key
        return self.by_key.get(key) or Answered(404, f"there is no {kind} {key}", (ALLOW,))

    def channel_by_path(self, scope: Scope) -> Entrance | Answered:
        """The channel of `/<namespace>/<name>`: so those are called whose host has no certificate."""
        return self.by_path(scope, kind="channel")

    def by_host(self, scope: Scope) -> Entrance | Answered:
        """The channel of `<name>-kn-channel.<namespace>`, which takes events at its root."""
        if scope["path"] not in ("/", ""):
            return Answered(400, "a channel takes events at /", (ALLOW,))
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        service = cluster.service_of(host.decode("latin-1"))
        if service is None or not eventing.is_channel_service(service.name):
            return Answered(404, "this is no channel's host", (ALLOW,))
        return self._by_service.get(service) or Answered(
            404, f"no channel has the service {service}", (ALLOW,)
        )


def key_of(path: str, kind: str) -> Key | Answered:
    """Namespace and name of `/<namespace>/<name>`, or what is wrong with the path."""
    words = f"a {kind}'s path is /<namespace>/<name>"
    if path == "/":
        return Answered(404, words, (ALLOW,))
    parts = path.rstrip("/").split("/")
    return Key(parts[1], parts[2]) if len(parts) == 3 else Answered(400, words, (ALLOW,))


def _service(key: Key) -> Key:
    """What a channel of this name is called by: of a long name, its service has only a part."""
    return Key(key.namespace, eventing.channel_service(key.name))


async def _admit_all(_resource: Resource, _key: Key, _headers: Headers) -> Allows:
    return anybody


def _room() -> Shares:
    return Shares(count_max=_IN_FLIGHT_MAX, bytes_max=_IN_FLIGHT_BYTES_MAX)


@dataclass(slots=True)
class Desk:
    """What every ingress of a process shares: the journal, bounds, and who wants to know."""

    journal: Journal
    clock: Clock
    tracer: Tracer
    observe: Observe = lambda _entrance, _event: None
    kept: Kept = lambda _stream, _event: None
    admit: Admit = _admit_all
    bytes_max: int = EVENT_BYTES_MAX
    shares: Shares = field(default_factory=_room)
    _intake: Intake = field(init=False)

    def __post_init__(self) -> None:
        self._intake = Intake(self.clock, self.shares)

    def enter(self, owner: str, scope: Scope) -> Place:
        """A place for a request, to be left whatever comes of it; `TooLarge` or `Unavailable`."""
        return self._intake.enter(owner, scope["headers"], self.bytes_max)

    def leave(self, place: Place) -> None:
        self._intake.leave(place)

    async def events(
        self, place: Place, resource: Resource, key: Key, scope: Scope, receive: Receive
    ) -> list[Event] | Answered:
        """The events of a request to an object, if it may send them: who it is, is asked before its body."""
        allows = await self.admit(resource, key, scope["headers"])
        if isinstance(allows, Answered):
            return allows
        content = await self._intake.body(place, receive)
        events = http.decode(scope["headers"], content, batches=True)
        if len(events) > _BATCH_MAX:
            raise errors.TooLarge(f"a batch may have at most {_BATCH_MAX} events")
        if allows is not anybody and not all(map(allows, events)):
            return FORBIDDEN
        return events


class Ingress:
    """An ASGI application that takes events for the entrance that `find` answers."""

    def __init__(self, desk: Desk, find: Find) -> None:
        self._desk = desk
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS":
            await answer(send, GREETING)
            return
        if method != "POST":
            await answer(send, Answered(405, f"{method} is not served: POST an event", (ALLOW,)))
            return
        entrance = self._find(scope)
        if isinstance(entrance, Answered):
            await answer(send, entrance)
            return
        began_s = self._desk.clock.monotonic()
        try:
            answered = await self._take(entrance, scope, receive)
        except Gone:
            return
        entrance.counts.answered(answered.status, (self._desk.clock.monotonic() - began_s) * 1000)
        await answer(send, answered)

    async def _take(self, entrance: Entrance, scope: Scope, receive: Receive) -> Answered:
        desk = self._desk
        try:
            place = desk.enter(entrance.uid, scope)
        except errors.ApiError as error:
            return refusal(error)
        try:
            events = await desk.events(place, entrance.resource, entrance.key, scope, receive)
            if isinstance(events, Answered):
                return events
            if not entrance.is_open:
                raise errors.Unavailable(f"{entrance.kind} {entrance.key} is not ready", retry_after_s=1)
            return await self._keep(entrance, scope, events)
        except errors.ApiError as error:
            return refusal(error)
        finally:
            desk.leave(place)

    async def _keep(self, entrance: Entrance, scope: Scope, events: list[Event]) -> Answered:
        admitted = events
        if entrance.is_broker:
            counted = [ttl.admitted(event) for event in events]
            admitted = [event for event in counted if event is not None]
            if len(admitted) < len(events):
                return _EXPIRED
        if not admitted:
            return _ACCEPTED
        handed_on = records.forwarded(scope["headers"])
        desk = self._desk
        span = desk.tracer.begin("server", handed_on)
        if span is not None:
            span.name = f"receive {entrance.key}"
            span.of_event(
                f"{entrance.kind.lower()}:{entrance.key.name}.{entrance.key.namespace}", admitted[0]
            )
        code = 503
        try:
            await self._publish(entrance, admitted, continued(handed_on, span))
            code = 202
        finally:
            desk.tracer.end(span, code)
        for event in admitted:
            desk.kept(entrance.stream, event)
            desk.observe(entrance, event)
        return _ACCEPTED

    async def _publish(self, entrance: Entrance, events: list[Event], handed_on: records.Pairs) -> None:
        """All of them, side by side; the first error if any was not kept: those that were are found again."""
        journal = self._desk.journal
        if len(events) == 1:
            await journal.publish(entrance.stream, records.message(events[0], handed_on))
            return
        refusals: list[errors.ApiError] = []

        async def publish(event: Event) -> None:
            try:
                await journal.publish(entrance.stream, records.message(event, handed_on))
            except errors.ApiError as error:
                refusals.append(error)

        async with anyio.create_task_group() as tasks:
            for event in events:
                tasks.start_soon(publish, event)
        if refusals:
            raise refusals[0]
