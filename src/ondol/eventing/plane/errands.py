"""Long works of the data plane, beside the reconcilers that begin them: replays, redeliveries.

A reconcile begins one and is done; it ends one whose object is gone. When one has ended the object is
reconciled again: later, and ever later, where it failed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.abc

from ondol.api.objects import Key
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.sdk import Retry

Work = Callable[[], Awaitable[None]]
Ended = Callable[[float], None]
"""Called when a work has ended, with the seconds after which to look again."""

_RETRIES: Final = Backoff(initial_s=0.5, maximum_s=30.0, jitter=0.2)


class Errands:
    """At most `at_once` are under way, those that were begun first; `run` does them."""

    def __init__(self, clock: Clock, rng: random.Random, *, at_once: int) -> None:
        self._clock = clock
        self._rng = rng
        self._places = anyio.Semaphore(at_once)
        self._scopes: dict[Key, tuple[str, anyio.CancelScope]] = {}
        self._failures: dict[Key, int] = {}
        self._begun: deque[tuple[Key, Work, Ended, anyio.CancelScope]] = deque()
        self._signal = Signal()
        self._log = log.get("errands")

    def begin(self, key: Key, uid: str, work: Work, ended: Ended) -> None:
        """Have the work done for this object, unless it is under way; a former one of its name is let be."""
        former = self._scopes.get(key)
        if former is not None and former[0] == uid:
            return
        self.end(key)
        scope = anyio.CancelScope()
        self._scopes[key] = (uid, scope)
        # The tasks are those of `run`: what they write is no part of the reconcile that asks for it.
        self._begun.append((key, work, ended, scope))
        self._signal.set()

    def end(self, key: Key) -> None:
        """Let be what is under way for this object."""
        self._failures.pop(key, None)
        if (former := self._scopes.pop(key, None)) is not None:
            former[1].cancel()

    async def run(self) -> None:
        """Do what is begun, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._signal.wait()
                self._signal.clear()
                while self._begun:
                    tasks.start_soon(self._do, *self._begun.popleft())

    async def _do(self, key: Key, work: Work, ended: Ended, scope: anyio.CancelScope) -> None:
        again_s = 0.0
        with scope:
            async with self._places:
                again_s = await self._tried(key, work)
        current = self._scopes.get(key)
        if current is not None and current[1] is scope:
            del self._scopes[key]
            ended(again_s)

    async def _tried(self, key: Key, work: Work) -> float:
        """The seconds after which it may be worth another look."""
        try:
            await work()
        except Retry as retry:
            return retry.after_s
        except errors.ApiError as error:
            self._log.warning("errand_failed", key=str(key), error=error.message)
        except Exception as error:  # noqa: BLE001 - as in a reconcile: a bug in one must not stop the others
            self._log.error("errand_failed", key=str(key), error=str(error), exc_info=error)
        else:
            self._failures.pop(key, None)
            return 0.0
        self._failures[key] = self._failures.get(key, 0) + 1
        return _RETRIES.delay_s(self._failures[key], self._rng)
