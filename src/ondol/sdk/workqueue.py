"""The work queue: keys, each at most once in the queue and at most once in work.

A key added while it waits is merged; one added while it is worked on waits until `done`. Keys come
out in the order they went in, so none starves. Waiting keys become due by an injected clock, failing
keys after a growing delay. `Controller` owns one; nothing here knows what a key means.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio

from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.sdk.metrics import QueueMetrics

K = TypeVar("K", bound=Hashable)


class Closed(Exception):
    """The queue was closed and is empty: workers may leave."""


class Workqueue(Generic[K]):
    """Add from anywhere in the event loop; `get` and `done` from workers; `run` serves the delays."""

    def __init__(
        self, clock: Clock, *, backoff: Backoff | None = None, rng: random.Random | None = None
    ) -> None:
        self.metrics = QueueMetrics()
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._rng = rng
        self._queue: deque[K] = deque()
        self._dirty: dict[K, float] = {}  # waiting or to be queued again: since when
        self._processing: dict[K, float] = {}  # in work: since when
        self._waiters: deque[anyio.Event] = deque()
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K, Callable[[], bool] | None]] = []
        self._sequence = 0
        self._nap: anyio.CancelScope | None = None
        self._failures: dict[K, int] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Nothing waits to be worked on now and nothing is in work; delayed keys do not count."""
        return not self._dirty and not self._processing

    @property
    def delayed(self) -> int:
        return len(self._timers)

    def use(self, clock: Clock, rng: random.Random | None) -> None:
        """Set the clock and the randomness, before anything is delayed."""
        self._clock = clock
        self._rng = rng

    def add(self, key: K) -> None:
        if key in self._dirty or self._closed:
            return
        self.metrics.adds += 1
        self._dirty[key] = self._clock.monotonic()
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, seconds: float, *, unless: Callable[[], bool] | None = None) -> None:
        """Add the key in `seconds`; of several delays of one key the earliest counts.

        With `unless` the delay stands alone and comes to nothing if `unless()` holds by then.
        """
        if seconds <= 0:
            self.add(key)
            return
        at = self._clock.monotonic() + seconds
        if unless is None:
            if at >= self._due.get(key, float("inf")):
                return
            self._due[key] = at
        self._sequence += 1
        heapq.heappush(self._timers, (at, self._sequence, key, unless))
        if self._timers[0][1] == self._sequence and self._nap is not None:
            self._nap.cancel()

    def add_rate_limited(self, key: K) -> float:
        """Add the key after its back-off, which is returned."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        self.metrics.retries += 1
        delay_s = self._backoff.delay_s(failures, self._rng)
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure starts at the shortest delay."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key, which is then in work until `done`; raises `Closed` when there will be none."""
        while not self._queue:
            if self._closed:
                raise Closed
            await self._wait()
        key = self._queue.popleft()
        now = self._clock.monotonic()
        self.metrics.waited.observe(now - self._dirty.pop(key))
        self._processing[key] = now
        return key

    def done(self, key: K) -> None:
        now = self._clock.monotonic()
        self.metrics.worked.observe(now - self._processing.pop(key))
        if key in self._dirty:
            self._push(key)

    def close(self) -> None:
        """Take no more keys; what is queued is still handed out."""
        self._closed = True
        for waiter in self._waiters:
            waiter.set()

    async def run(self) -> None:
        """Move delayed keys into the queue as they become due, until cancelled."""
        while True:
            self._release()
            with anyio.CancelScope() as self._nap:
                if self._timers:
                    # A clock that never stands still may have passed the key since `_release`.
                    await self._clock.sleep(max(0.0, self._timers[0][0] - self._clock.monotonic()))
                else:
                    await anyio.sleep_forever()

    def _release(self) -> None:
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            at, _, key, unless = heapq.heappop(self._timers)
            if unless is None:
                if self._due.get(key) != at:
                    continue  # an earlier delay took this one's place
                del self._due[key]
                self.add(key)
            elif not unless():
                self.add(key)

    def _push(self, key: K) -> None:
        self._queue.append(key)
        if self._waiters:
            self._waiters.popleft().set()

    async def _wait(self) -> None:
        waiter = anyio.Event()
        self._waiters.append(waiter)
        try:
            await waiter.wait()
        except BaseException:
            if not waiter.is_set():
                self._waiters.remove(waiter)
            elif self._queue and self._waiters:
                self._waiters.popleft().set()  # this worker dies: wake another in its place
            raise
