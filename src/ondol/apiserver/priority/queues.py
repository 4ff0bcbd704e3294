"""The queues of one level: flows are dealt a hand of them, and those that took least are served first.

Shuffle sharding: a flow waits in the shortest of a few queues that its name picks, so a flow that fills all
of its own seldom fills all of another's. Start-time fair queuing: each queue's clock advances by the time
that its requests took, and the queue whose clock is furthest behind is next.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Final

import anyio

_GUESS_S: Final = 0.01
"""What a request is taken to cost until it is over."""
_HANDS_MAX: Final = 4096


class Waiter:
    """A request that waits, and what it costs its queue."""

    __slots__ = ("is_seated", "queue", "ready", "started")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.ready = anyio.Event()
        self.is_seated = False
        self.started = 0.0


class Queue:
    """Requests of some flows, in their order; `clock_s` is the time that they had."""

    __slots__ = ("clock_s", "waiting")

    def __init__(self) -> None:
        self.clock_s = 0.0
        self.waiting: deque[Waiter] = deque()


class Queues:
    """The queues of one level; only those that were ever used take memory."""

    def __init__(self, count: int, hand_size: int, length_max: int) -> None:
        self.shape = (count, hand_size, length_max)
        self._queues: dict[int, Queue] = {}
        self._hands: dict[str, tuple[int, ...]] = {}
        self._clock_s = 0.0
        self.waiting = 0

    def join(self, flow: str) -> Waiter | None:
        """Wait in the shortest queue of a flow's hand; None if even that is full."""
        queue = min((self._queue(place) for place in self._hand(flow)), key=lambda each: len(each.waiting))
        if len(queue.waiting) >= self.shape[2]:
            return None
        if not queue.waiting:
            queue.clock_s = max(queue.clock_s, self._clock_s)  # who was away has saved nothing
        waiter = Waiter(queue)
        queue.waiting.append(waiter)
        self.waiting += 1
        return waiter

    def next(self, now: float) -> Waiter | None:
        """Who has a seat from now on; None if nobody waits."""
        busy = [queue for queue in self._queues.values() if queue.waiting]
        if not busy:
            return None
        queue = min(busy, key=lambda each: each.clock_s)
        self._clock_s = queue.clock_s
        queue.clock_s += _GUESS_S
        waiter = queue.waiting.popleft()
        self.waiting -= 1
        waiter.is_seated, waiter.started = True, now
        waiter.ready.set()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """It waits no longer, without a seat."""
        waiter.queue.waiting.remove(waiter)
        self.waiting -= 1

    def over(self, waiter: Waiter, now: float) -> None:
        """It gave its seat back: its queue pays for the time, not for the guess."""
        waiter.queue.clock_s += now - waiter.started - _GUESS_S

    def _queue(self, place: int) -> Queue:
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = Queue()
        return queue

    def _hand(self, flow: str) -> tuple[int, ...]:
        cards = self._hands.get(flow)
        if cards is None:
            if len(self._hands) >= _HANDS_MAX:
                self._hands.clear()
            cards = self._hands[flow] = hand(flow, self.shape[0], self.shape[1])
        return cards


def hand(flow: str, count: int, size: int) -> tuple[int, ...]:
    """Some of so many queues, different ones, by a flow's name alone.

    >>> len(set(hand("ann", 64, 6)))
    6
    """
    number = int.from_bytes(hashlib.sha256(flow.encode()).digest())
    cards: list[int] = []
    for dealt in range(min(size, count)):
        number, card = divmod(number, count - dealt)
        for taken in sorted(cards):
            card += card >= taken
        cards.append(card)
    return tuple(cards)
