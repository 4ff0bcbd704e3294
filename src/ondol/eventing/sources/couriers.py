"""Delivers events that wait elsewhere until they are taken: none is ever given up.

An event that is not taken is sent again by its source's policy, then goes to the dead letter sink. Where
there is none, or it does not take the event either, it is sent again and again: whoever has it keeps it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.delivery import deadletters, outcome, policy
from ondol.eventing.delivery.policy import Policy
from ondol.eventing.exchange import Answer, Sender, Target
from ondol.eventing.sources import attempts
from ondol.eventing.sources.outbox import Counts

_PAUSE_MIN_S: Final = 1.0
_PAUSE_MAX_S: Final = 60.0
"""Between attempts once the policy's are used up."""
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """Where events go, how they are tried, and where those go that are not taken."""

    target: Target
    policy: Policy
    letters: Target | None = None


def terms(delivery: Mapping[str, Any] | None, target: Target, letters: Target | None) -> Terms:
    """The terms of a source with this `delivery`; what it does not set is as by default."""
    tried = policy.of({**policy.SOURCE_DEFAULT, **(delivery or {})})

    def by_policy(place: Target) -> Target:
        return replace(place, timeout_s=tried.timeout_s, is_structured=tried.is_structured)

    return Terms(by_policy(target), tried, by_policy(letters) if letters is not None else None)


class Courier:
    """For the events of one source. `tell` is called with the reason once for each event that stays."""

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        rng: random.Random,
        agreed: Terms,
        *,
        counts: Counts,
        tell: Callable[[str], None],
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._rng = rng
        self._terms = agreed
        self._counts = counts
        self._tell = tell
        self._changed = Signal()

    def change(self, agreed: Terms) -> None:
        """From now on by these terms, which what waits is tried by at once."""
        if agreed != self._terms:
            self._terms = agreed
            self._changed.set()

    async def deliver(self, event: Event) -> None:
        """Returns once somebody has the event."""
        failures, is_over = 0, False
        while True:
            upcoming, agreed = self._changed.next, self._terms
            answer, reason = await attempts.attempt(self._sender, event, agreed.target)
            if answer.is_accepted:
                self._counts.sent += 1
                return
            failures += 1
            was_over = is_over
            is_refused = attempts.is_refused(answer)
            is_over = is_over or is_refused or failures > agreed.policy.retries
            if is_over and agreed.letters is not None:
                reason = await self._bury(event, agreed.target, agreed.letters, answer)
                if not reason:
                    return
            if is_over and not was_over:
                self._tell(reason)
            pause_s = self._pause_s(agreed.policy, failures, answer, is_over=is_over)
            with self._clock.move_on_after(pause_s):
                await upcoming.wait()
                failures, is_over = 0, False

    async def _bury(self, event: Event, target: Target, letters: Target, answer: Answer) -> str:
        """Why the dead letter sink did not take the event; nothing if it did."""
        code = outcome.UNREACHABLE if answer.status == attempts.NO_ANSWER else answer.status
        letter = deadletters.letter(event, target.url, code, answer.body)
        answer, reason = await attempts.attempt(self._sender, letter, letters)
        if not answer.is_accepted:
            return f"the dead letter sink: {reason}"
        self._counts.dead_lettered += 1
        return ""

    def _pause_s(self, tried: Policy, failures: int, answer: Answer, *, is_over: bool) -> float:
        asked_s = outcome.retry_after_s(answer.status, answer.headers, self._clock.now())
        pause_s = policy.pause_s(tried, failures, asked_s)
        if is_over:
            pause_s = min(max(pause_s, _PAUSE_MIN_S), _PAUSE_MAX_S)
        return pause_s * (1.0 + _JITTER * self._rng.random())
