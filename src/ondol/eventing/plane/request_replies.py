"""RequestReplies: a request becomes an event of a broker, and is answered with the event that replies to it.

The request gets an extension that nobody can guess, `<id>:<secret>:0`, where Knative has the id encrypted.
Whoever answers repeats it in the reply's extension. What waits is this process's alone, as the connections
are: a reply that comes when nobody waits any more is an event like others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import iso8601
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import ttl
from ondol.eventing.intake import Gone
from ondol.eventing.plane import records
from ondol.eventing.plane.answers import Answered, answer, refusal
from ondol.eventing.plane.ingress import ALLOW, GREETING, Desk, Entrance, Entrances, key_of
from ondol.eventing.plane.reporting import Reporter
from ondol.eventing.plane.serving import RETRIES, is_ours, named_broker
from ondol.eventing.plane.tracing import continued
from ondol.eventing.shares import Shares
from ondol.sdk import Controller, Manager
from ondol.web.application import Receive, Scope, Send

WAITING_MAX: Final = 1536
"""Requests that wait for a reply, of all RequestReplies; one alone may have two thirds."""
_TIMEOUT_S: Final = 30.0
_SECRET_BYTES: Final = 32
_BY_BROKER: Final = "plane-broker"
_CORRELATION: Final = "correlationid"
_REPLY: Final = "replyid"


@dataclass(slots=True)
class _Waiting:
    """A request, until its reply is there."""

    reply: Event | None = None
    woken: anyio.Event = field(default_factory=anyio.Event)

    def answer(self, reply: Event) -> None:
        self.reply = reply
        self.woken.set()


def ticket(event_id: str) -> str:
    """What a request is known by, once; in Knative's form, which tells the id and a replica's number."""
    return f"{event_id}:{secrets.token_urlsafe(_SECRET_BYTES)}:0"


class Correlations:
    """Who waits for which reply."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], dict[str, _Waiting]] = {}
        """By the stream and the extension in which replies repeat it: the tickets, and who waits."""
        self._attributes: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def wait(self, stream: str, attribute: str, value: str) -> _Waiting:
        """Somebody waits from now on, until `forget`."""
        waiting = self._waiting.setdefault((stream, attribute), {})[value] = _Waiting()
        self._attributes.setdefault(stream, set()).add(attribute)
        return waiting

    def forget(self, stream: str, attribute: str, value: str) -> None:
        waiting = self._waiting[stream, attribute]
        del waiting[value]
        if waiting:
            return
        del self._waiting[stream, attribute]
        self._attributes[stream].discard(attribute)
        if not self._attributes[stream]:
            del self._attributes[stream]

    def kept(self, stream: str, event: Event) -> None:
        """An event has come to a stream: who waits for it has it."""
        for attribute in self._attributes.get(stream, ()):
            value = event.attributes.get(attribute)
            waiting = self._waiting[stream, attribute].get(value) if value is not None else None
            if waiting is not None and waiting.reply is None:
                waiting.answer(event)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A RequestReply, and the broker that its requests go to."""

    obj: Object
    entrance: Entrance

    @property
    def uid(self) -> str:
        return objects.uid(self.obj)

    @property
    def correlation(self) -> str:
        return str(objects.spec(self.obj).get("correlationAttribute") or _CORRELATION)

    @property
    def reply(self) -> str:
        return str(objects.spec(self.obj).get("replyAttribute") or _REPLY)

    @property
    def timeout_s(self) -> float:
        text = objects.spec(self.obj).get("timeout")
        return iso8601.seconds(str(text)) if text else _TIMEOUT_S


MaySend = Callable[[Object, Event], bool]
"""Whether the broker's policies let a RequestReply send it this event."""


class RequestReplies:
    """An ASGI application: `POST /<namespace>/<name>` answers 200 with the reply, or 504."""

    def __init__(
        self, manager: Manager, desk: Desk, brokers: Entrances, correlations: Correlations, may_send: MaySend
    ) -> None:
        self._desk = desk
        self._brokers = brokers
        self._correlations = correlations
        self._may_send = may_send
        self._replies = manager.informer(eventing.REQUEST_REPLY)
        self._shares = Shares(count_max=WAITING_MAX, bytes_max=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await answer(send, GREETING)
            return
        if scope["method"] != "POST":
            await answer(send, Answered(405, f"{scope['method']} is not served: POST an event", (ALLOW,)))
            return
        try:
            outcome = await self._serve(scope, receive)
        except Gone:
            return
        except errors.ApiError as error:
            outcome = refusal(error)
        if isinstance(outcome, Answered):
            await answer(send, outcome)
        else:
            await _respond(send, outcome)

    async def _serve(self, scope: Scope, receive: Receive) -> Answered | Event:
        key = key_of(scope["path"], "RequestReply")
        if isinstance(key, Answered):
            return key
        obj = self._replies.lister.get(key)
        if obj is None or objects.is_deleting(obj):
            return Answered(404, f"there is no RequestReply {key}", (ALLOW,))
        entrance = self._brokers.by_key.get(named_broker(obj))
        if entrance is None or not entrance.is_open:
            raise errors.Unavailable(f"the broker of {key} is not ready", retry_after_s=1)
        asked = _Asked(obj, entrance)
        if not self._shares.enter(asked.uid, 0):
            raise errors.Unavailable("too many requests wait for replies: try again", retry_after_s=1)
        try:
            return await self._ask(asked, scope, receive)
        finally:
            self._shares.leave(asked.uid, 0)

    async def _ask(self, asked: _Asked, scope: Scope, receive: Receive) -> Answered | Event:
        desk, place = self._desk, self._desk.enter(asked.uid, scope)
        value = ""
        stream, attribute = asked.entrance.stream, asked.reply
        try:
            try:
                key = objects.key(asked.obj)
                events = await desk.events(place, eventing.REQUEST_REPLY, key, scope, receive)
                if isinstance(events, Answered):
                    return events
                if len(events) != 1:
                    raise errors.BadRequest("a request is one event")
                value = ticket(events[0].id)
                waiting = self._correlations.wait(stream, attribute, value)
                refused = await self._publish(asked, events[0], value, scope)
                if refused is not None:
                    return refused
            finally:
                desk.leave(place)
            return await self._reply(asked, waiting, receive)
        finally:
            if value:
                self._correlations.forget(stream, attribute, value)

    async def _publish(self, asked: _Asked, event: Event, value: str, scope: Scope) -> Answered | None:
        """Have the broker keep the request; why it does not, if so."""
        admitted = ttl.admitted(event.with_attributes({asked.correlation: value}))
        if admitted is None:
            return Answered(400, f"the event has gone round too often: {ttl.ATTRIBUTE} is used up", (ALLOW,))
        if not self._may_send(asked.obj, admitted):
            return Answered(403, "no EventPolicy of the broker allows the RequestReply to send this event")
        handed_on = records.forwarded(scope["headers"])
        desk = self._desk
        span = desk.tracer.begin("server", handed_on)
        if span is not None:
            span.name = f"request {objects.key(asked.obj)}"
            span.of_event(f"requestreply:{objects.name(asked.obj)}.{objects.namespace(asked.obj)}", admitted)
        code = 503
        try:
            message = records.message(admitted, continued(handed_on, span))
            await desk.journal.publish(asked.entrance.stream, message)
            code = 202
        finally:
            desk.tracer.end(span, code)
        desk.observe(asked.entrance, admitted)
        return None

    async def _reply(self, asked: _Asked, waiting: _Waiting, receive: Receive) -> Answered | Event:
        """The reply, once it is there; `Gone` if who asked does not wait for it."""

        async def leaving() -> None:
            while (await receive())["type"] == "http.request":
                continue
            tasks.cancel_scope.cancel()

        with self._desk.clock.move_on_after(asked.timeout_s):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(leaving)
                await waiting.woken.wait()
                tasks.cancel_scope.cancel()
            if waiting.reply is None:
                raise Gone
        if waiting.reply is None:
            return Answered(504, f"no reply came within {asked.timeout_s:g} seconds", (ALLOW,))
        return waiting.reply.without(ttl.ATTRIBUTE)


async def _respond(send: Send, reply: Event) -> None:
    headers, body = http.encode(reply)
    listed = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": listed})
    await send({"type": "http.response.body", "body": body})


class RequestReplyServer:
    """Says of RequestReplies that their replies are listened for, once their broker is served."""

    def __init__(self, manager: Manager) -> None:
        self._brokers = manager.informer(eventing.BROKER)
        self._replies = manager.informer(eventing.REQUEST_REPLY)
        self._replies.add_index(_BY_BROKER, lambda reply: [str(named_broker(reply))])
        self._status = Reporter(manager, eventing.REQUEST_REPLY)

    def controller(self) -> Controller:
        controller = Controller("events-request-reply", self.reconcile, backoff=RETRIES)
        controller.watch(self._replies)
        controller.watch(self._brokers, self._of_broker)
        return controller

    def _of_broker(self, broker: Object) -> list[Key]:
        listed = self._replies.lister.by_index(_BY_BROKER, str(objects.key(broker)))
        return [objects.key(reply) for reply in listed]

    async def reconcile(self, key: Key) -> None:
        reply = self._replies.lister.get(key)
        broker = self._brokers.lister.get(named_broker(reply)) if reply is not None else None
        if reply is None or objects.is_deleting(reply) or broker is None or not is_ours(broker):
            return
        if conditions.is_true(broker, eventing.TRIGGER_CHANNEL_READY):
            await self._status.ready(reply)
