"""Delivering the events of one consumer: filter, send, retry, dead letters; in order, if that is asked for.

Unordered, an event that has to wait for its next attempt is given back to the journal. Ordered, it stays in
hand, and those behind it of the same key wait.

What is put off has not failed: an event whose subscriber is not known, or whose reply or dead letter cannot
be kept now, waits in hand; one whose subscriber asks to be spared comes again then. The journal remembers how
often it has given an event out, which after a crash is all that is known of its failures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import anyio.abc

from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import deadletters, order, outcome, policy, ttl
from ondol.eventing.delivery.order import Lanes, Settled
from ondol.eventing.delivery.outcome import Outcome
from ondol.eventing.exchange import Target
from ondol.eventing.journal.port import Delivery, Journal, Message, Stored, Subscription
from ondol.eventing.plane import letters, records
from ondol.eventing.plane.counts import Deliveries
from ondol.eventing.plane.letters import Origin
from ondol.eventing.plane.routes import Route
from ondol.eventing.plane.sending import Sender
from ondol.eventing.plane.tracing import TRACEPARENT, Tracer, continued

_PREFER_REPLY: Final = (b"prefer", b"reply")
_NOT_ALLOWED: Final = b"no EventPolicy of the broker allows this reply"
_IDLE_MAX: Final = 16
_SETTLED_MAX: Final = 1024
_JOURNAL_AGAIN_S: Final = 2.0
"""After the journal was not reachable for a reply or a dead letter."""
_SPARED_MIN_S: Final = 1.0
"""Who asks to be spared for less has just failed."""
_PATIENCE_S: Final = 24 * 3600.0
"""So long a subscriber is spared at its own wish without that being a failure."""


class Attempt(NamedTuple):
    """What one attempt came to; of an answer its code and body, 0 and words where there was none."""

    outcome: Outcome
    destination: str = ""
    code: int = 0
    body: bytes = b""
    retry_after_s: float | None = None


class Shared(NamedTuple):
    """What all dispatches of a process share."""

    journal: Journal
    sender: Sender
    clock: Clock
    tracer: Tracer
    busy: Signal
    """Set when an event is taken in hand."""
    buried: Callable[[Route, int], None] = lambda _route, _size_bytes: None
    """Called when an event has become a dead letter of so many bytes."""
    kept: Callable[[str, Event], None] = lambda _stream, _event: None
    """Called with the stream when a reply has come back to it."""
    may_return: Callable[[Route, Event], bool] = lambda _route, _event: True
    """Whether policies let the route's account send a reply to its broker."""
    is_asked: Callable[[], bool] = lambda: False
    """Whether who sends events is asked who it is: then who is not believed at first may be so soon."""


@dataclass(slots=True)
class _Item:
    """An event to be delivered, and how often that has failed."""

    event: Event
    handed_on: records.Pairs
    sequence: int
    time_ns: int
    since_s: float
    """From when on its subscriber may ask to be spared."""
    failures: int = 0
    is_taken: bool = False


@dataclass(slots=True)
class _InHand:
    """An event that the journal waits for."""

    delivery: Delivery
    item: _Item


class Dispatch:
    """One consumer's deliveries, while `run` runs. `route` may be changed meanwhile, by `follow`."""

    def __init__(self, route: Route, shared: Shared, counts: Deliveries) -> None:
        self.route = route
        self._journal = shared.journal
        self._sender = shared.sender
        self._clock = shared.clock
        self._tracer = shared.tracer
        self._busy = shared.busy
        self._shared = shared
        self._counts = counts
        self._in_hand: dict[int, _InHand] = {}
        """What is in hand, by sequence."""
        self._put_off: dict[int, _Item] = {}
        """What the journal will bring again: at most as many as it lets be unsettled."""
        self._resolved = Signal()
        """Set while there is a subscriber."""
        self._queue: deque[int | str] = deque()
        """What waits for a worker: sequences, or in order the lanes that were free."""
        self._workers = 0
        self._idle: list[anyio.Event] = []
        """Wake the workers that have nothing to do."""
        self._lanes: Lanes[int] = Lanes()
        self._settled = Settled()
        self._newest_ns = 0
        self._subscription: Subscription | None = None
        self._arrived = Signal()
        self._is_running = False
        self._is_stopped = False
        self._scope = anyio.CancelScope()
        self._log = log.get("dispatch").bind(
            kind=route.source.kind, name=f"{route.source.namespace}/{route.source.name}"
        )

    @property
    def in_hand(self) -> int:
        """Events in hand."""
        return len(self._in_hand)

    async def run(self) -> None:
        """Take events and deliver them, until `stop`; then let go of what is in hand."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    self._is_running = True
                    self.follow(self.route)
                    await self._start_workers(tasks)
        finally:
            self._is_running = False
            self._pause()
            self._let_go()

    def _let_go(self) -> None:
        """Give back what is in hand; in order, its next reader begins at the consumer's floor anyway."""
        if not self.route.is_ordered:
            for in_hand in self._in_hand.values():
                in_hand.delivery.retry(0)
        self._in_hand.clear()

    def stop(self) -> None:
        """Take no more from now on, not even until `run` ends: another may read the consumer by then."""
        self._is_running = False
        self._is_stopped = True
        self._pause()
        self._scope.cancel()

    def follow(self, route: Route) -> None:
        """Deliver by this route from now on; while it has no subscriber, events wait in the journal."""
        self.route = route
        if route.subscriber is None:
            self._resolved.clear()
            self._pause()
            return
        self._resolved.set()
        if self._subscription is None and self._is_running:
            self._subscription = self._journal.subscribe(
                route.stream, route.consumer, self._take, window=route.window
            )

    def beat(self) -> None:
        """Have the journal know that what is in hand is still being worked on."""
        for in_hand in self._in_hand.values():
            in_hand.delivery.working()

    def _pause(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    # Taking

    def _take(self, delivery: Delivery) -> None:
        """Have it in hand. The journal calls this outside of any task, so it only leaves word."""
        sequence = delivery.sequence
        late = self._in_hand.get(sequence)
        if late is not None and late.delivery.time_ns != delivery.time_ns:
            # A damaged stream ends earlier than before, and gives its numbers anew. This one has to wait.
            delivery.retry(_JOURNAL_AGAIN_S)
            return
        if late is not None:
            # The journal has heard nothing of it for too long. It is still in hand.
            late.delivery.forget()
            late.delivery = delivery
            return
        item = self._item(delivery)
        event = item.event
        if not self.route.predicate(event) or self._is_settled(delivery):
            delivery.ack()
            return
        self._newest_ns = max(self._newest_ns, delivery.time_ns)
        self._in_hand[sequence] = _InHand(delivery, item)
        if not self._busy.is_set:
            self._busy.set()
        if not self.route.is_ordered:
            self._queue.append(sequence)
        elif self._lanes.add(lane := order.key(event), sequence):
            self._queue.append(lane)
        else:
            return
        if self._idle:
            self._idle.pop().set()
        elif not self._arrived.is_set and self._workers < self.route.window:
            self._arrived.set()

    def _item(self, delivery: Delivery) -> _Item:
        """The event as it was given back, or as it is when it is seen first."""
        item = self._put_off.pop(delivery.sequence, None)
        if item is not None and item.time_ns == delivery.time_ns:
            return item
        return _Item(
            records.event(delivery.headers, delivery.data),
            records.handed_on(delivery.headers),
            delivery.sequence,
            delivery.time_ns,
            since_s=delivery.time_ns / 1e9,
            failures=delivery.attempt - 1,
        )

    def _is_settled(self, delivery: Delivery) -> bool:
        """Whether it was delivered in order before, and the journal did not hear of it.

        One that is newer than all of those is another event, whose number a damaged stream has given anew.
        """
        if not self.route.is_ordered or delivery.time_ns > self._newest_ns:
            return False
        return delivery.sequence in self._settled

    async def _start_workers(self, tasks: anyio.abc.TaskGroup) -> None:
        """A worker for whatever waits, as many as may be."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            for _ in range(min(len(self._queue), self.route.window - self._workers)):
                self._workers += 1
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        """Deliver what waits. A few workers then stay, for to begin one costs as much as it saves."""
        try:
            while self._queue or await self._is_woken():
                if not self._queue:
                    continue
                waiting = self._queue.popleft()
                if isinstance(waiting, int):
                    await self._deliver(waiting)
                else:
                    await self._work_off(waiting)
        finally:
            self._workers -= 1

    async def _is_woken(self) -> bool:
        """Whether this worker stays; returns when there is something to do."""
        if len(self._idle) >= _IDLE_MAX:
            return False
        woken = anyio.Event()
        self._idle.append(woken)
        await woken.wait()
        return True

    async def _work_off(self, lane: str) -> None:
        """Deliver everything of a lane, one after the other."""
        while True:
            sequence = self._lanes.first(lane)
            await self._deliver_in_order(sequence)
            self._settled.add(sequence)
            if len(self._settled) >= _SETTLED_MAX:
                self._settled.forget_below(min(self._in_hand, default=sequence) - 1)
            if not self._lanes.advance(lane):
                return

    # Delivering

    async def _deliver(self, sequence: int) -> None:
        in_hand = self._in_hand[sequence]
        pause_s = await self._once(in_hand.item)
        del self._in_hand[sequence]
        if pause_s is None:
            self._settle(in_hand)
        else:
            self._counts.retried += 1
            self._put_off[sequence] = in_hand.item
            in_hand.delivery.retry(pause_s)

    async def _deliver_in_order(self, sequence: int) -> None:
        in_hand = self._in_hand[sequence]
        while (pause_s := await self._once(in_hand.item)) is not None:
            self._counts.retried += 1
            await self._clock.sleep(pause_s)
        del self._in_hand[sequence]
        self._settle(in_hand)

    def _settle(self, in_hand: _InHand) -> None:
        """It is done with."""
        if in_hand.item.is_taken:
            self._counts.age_s.observe(max(0.0, self._clock.now() - in_hand.item.time_ns / 1e9))
        in_hand.delivery.ack()

    async def _once(self, item: _Item) -> float | None:
        """One attempt, once there is a subscriber: how long until the next; None if that was the last."""
        await self._resolved.wait()
        route = self.route
        attempt = await self._attempt(route, item.event, item.handed_on)
        if attempt.outcome is Outcome.DELIVERED:
            item.is_taken = True
            return None
        if self._is_spared(attempt, route.policy, item.since_s):
            return policy.pause_s(route.policy, item.failures, attempt.retry_after_s)
        item.failures += 1
        if attempt.outcome is Outcome.RETRY and item.failures <= route.policy.retries:
            return policy.pause_s(route.policy, item.failures, attempt.retry_after_s)
        origin = Origin(item.sequence, item.time_ns, item.failures)
        await self._bury(route, item.event, item.handed_on, origin, attempt)
        return None

    def _is_spared(self, attempt: Attempt, terms: policy.Policy, since_s: float) -> bool:
        """Whether whom it was sent to asks to be spared for a while, and is granted that."""
        if attempt.outcome is not Outcome.RETRY:
            return False
        spared_s = min(attempt.retry_after_s or 0.0, terms.retry_after_max_s or 0.0)
        return spared_s >= _SPARED_MIN_S and self._clock.now() - since_s < _PATIENCE_S

    async def attempt(self, event: Event, handed_on: records.Pairs) -> Attempt:
        """Send an event that the journal does not wait for, once."""
        return await self._attempt(self.route, event, handed_on)

    async def replayed(self, event: Event, stored: Stored) -> bool | None:
        """Deliver an event of the history, with retries: whether it was taken, None if it is not wanted."""
        if not self.route.predicate(event):
            return None
        item = _Item(
            event, records.handed_on(stored.headers), stored.sequence, stored.time_ns, self._clock.now()
        )
        pause_s: float | None = 0.0
        while pause_s is not None:
            await self._clock.sleep(pause_s)
            await self._require_served()
            pause_s = await self._once(item)
        return item.is_taken

    async def _require_served(self) -> None:
        """Wait for the subscriber; `Unavailable` once somebody else delivers, or nobody."""
        while not self._is_stopped and self.route.subscriber is None:
            await self._clock.sleep(_JOURNAL_AGAIN_S)
        if self._is_stopped:
            raise errors.Unavailable("the trigger is served otherwise now, or not any more")

    async def _attempt(self, route: Route, event: Event, handed_on: records.Pairs) -> Attempt:
        if route.subscriber is None:
            return Attempt(Outcome.RETRY, body=b"the subscriber is not resolved")
        outgoing = event.without(ttl.ATTRIBUTE) if ttl.ATTRIBUTE in event.attributes else event
        span = self._tracer.begin("client", handed_on)
        if span is not None:
            source = route.source
            span.name = f"send {route.subscriber.url}"
            span.of_event(f"{source.kind.lower()}:{source.name}.{source.namespace}", event)
        headers = continued(handed_on, span)
        began_s = self._clock.monotonic()
        attempt = Attempt(Outcome.RETRY)
        try:
            attempt, answer = await self._call(route.subscriber, outgoing, [_PREFER_REPLY, *headers])
            if answer is not None:
                attempt = await self._reply(route, event, attempt, answer, headers)
        finally:
            self._tracer.end(span, attempt.code)
            self._counts.answered(attempt.code, (self._clock.monotonic() - began_s) * 1000)
        return attempt

    async def _call(
        self, target: Target, event: Event, headers: records.Pairs
    ) -> tuple[Attempt, tuple[records.Pairs, bytes] | None]:
        """Send to one address; the second is what may be a reply."""
        try:
            answer = await self._sender.send(target, event, headers)
        except errors.ApiError as error:
            return Attempt(Outcome.RETRY, target.url, 0, f"dispatch error: {error.message}".encode()), None
        came_to = outcome.of(answer.status)
        if answer.status == outcome.UNAUTHORIZED and self._shared.is_asked():
            came_to = Outcome.RETRY
        attempt = Attempt(
            came_to,
            target.url,
            answer.status,
            answer.body,
            outcome.retry_after_s(answer.status, answer.headers, self._clock.now()),
        )
        if answer.is_cut and attempt.outcome is Outcome.DELIVERED:
            words = b"the reply is larger than is read"
            return attempt._replace(outcome=Outcome.RETRY, code=outcome.NOT_AN_EVENT, body=words), None
        return attempt, (answer.headers, answer.body) if outcome.may_reply(answer.status) else None

    # Replies

    async def _reply(
        self,
        route: Route,
        event: Event,
        attempt: Attempt,
        answer: tuple[records.Pairs, bytes],
        headers: records.Pairs,
    ) -> Attempt:
        """What the delivery comes to with its reply sent, if there is one."""
        own_headers, body = answer
        if http.mode(own_headers) is None:
            if route.is_strict and body:
                return attempt._replace(outcome=Outcome.RETRY, code=outcome.NOT_AN_EVENT)
            return attempt
        try:
            (reply,) = http.decode(own_headers, body)
        except errors.ApiError as error:
            if not route.is_strict:
                return attempt
            words = error.message.encode()
            return attempt._replace(outcome=Outcome.RETRY, code=outcome.NOT_AN_EVENT, body=words)
        if route.reply_stream:
            if not self._shared.may_return(route, reply):
                return attempt._replace(outcome=Outcome.REFUSED, code=outcome.FORBIDDEN, body=_NOT_ALLOWED)
            try:
                await self._return(route, event, reply, headers)
            except errors.TooLarge as error:
                words = error.message.encode()
                return attempt._replace(outcome=Outcome.RETRY, code=outcome.NOT_AN_EVENT, body=words)
            return attempt
        if route.reply is None:
            return attempt
        forwarded = [pair for pair in records.forwarded(own_headers) if pair[0] != TRACEPARENT]
        trace = [pair for pair in headers if pair[0] == TRACEPARENT]
        replied = await self._tried(route.reply, reply, [*trace, *forwarded], route.policy)
        return attempt if replied.outcome is Outcome.DELIVERED else replied

    async def _return(self, route: Route, event: Event, reply: Event, headers: records.Pairs) -> None:
        """Give a reply back to the broker, with what is left of the event's own rounds."""
        rounds = event.attributes.get(ttl.ATTRIBUTE)
        admitted = ttl.admitted(reply.with_attributes({ttl.ATTRIBUTE: rounds}) if rounds else reply)
        if admitted is None:
            self._counts.expired += 1
            self._log.warning("reply_dropped", id=reply.id, why=f"{ttl.ATTRIBUTE} is used up")
            return
        await self._keep(route.reply_stream, records.message(admitted, headers))
        self._shared.kept(route.reply_stream, admitted)

    async def _keep(self, stream: str, message: Message) -> None:
        """Have the journal keep a message, however long that takes; `TooLarge` if it never will.

        What came of the attempt is not forgotten meanwhile: nobody is called anew for the journal's sake.
        """
        is_logged = False
        while True:
            try:
                await self._journal.publish(stream, message)
            except errors.ApiError as error:
                if isinstance(error, errors.TooLarge):
                    raise
                if not is_logged:
                    self._log.warning("delivery_put_off", stream=stream, error=error.message)
                is_logged = True
                await self._clock.sleep(_JOURNAL_AGAIN_S)
            else:
                return

    async def _tried(
        self, target: Target, event: Event, headers: records.Pairs, terms: policy.Policy
    ) -> Attempt:
        """Send until it is delivered, refused, or the retries end; the last attempt."""
        failures, since_s = 0, self._clock.now()
        while True:
            attempt, _ = await self._call(target, event, headers)
            if not self._is_spared(attempt, terms, since_s):
                failures += 1
                if attempt.outcome is not Outcome.RETRY or failures > terms.retries:
                    return attempt
            await self._clock.sleep(policy.pause_s(terms, failures, attempt.retry_after_s))

    # Dead letters

    async def _bury(
        self, route: Route, event: Event, handed_on: records.Pairs, origin: Origin, last: Attempt
    ) -> None:
        """Have what cannot be delivered go to its dead letter sink, or else be kept."""
        code = last.code or outcome.UNREACHABLE
        if route.dead_letter_sink is not None:
            letter = deadletters.letter(event.without(ttl.ATTRIBUTE), last.destination, code, last.body)
            sent = await self._tried(route.dead_letter_sink, letter, handed_on, route.policy)
            if sent.outcome is Outcome.DELIVERED:
                self._counts.dead_lettered += 1
                return
        if route.dead_stream:
            fate = letters.Fate(last.destination, code, last.body)
            message = letters.message(route, event, handed_on, origin, fate)
            try:
                await self._keep(route.dead_stream, message)
            except errors.TooLarge:  # what came with the event is the lesser loss
                message = letters.message(route, event, [], origin, fate._replace(answer=b""))
                await self._keep(route.dead_stream, message)
            self._counts.kept_dead += 1
            self._shared.buried(route, len(message.headers) + len(message.data))
            self._log.warning("event_is_dead", id=event.id, type=event.type, code=code, sink=last.destination)
