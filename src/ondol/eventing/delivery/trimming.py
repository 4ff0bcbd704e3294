"""What a stream may forget: what every consumer has settled, beyond the history that is kept for replay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ondol.eventing.journal.port import StreamState


@dataclass(frozen=True, slots=True)
class History:
    """How much that was delivered is kept: up to so many bytes, and for so long."""

    bytes_max: int = 256 << 20
    age_max_s: float = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a stream ended at some time."""

    sequence: int
    at_s: float


def below(
    state: StreamState, floors: Iterable[int], history: History, marks: Iterable[Mark], now_s: float
) -> int | None:
    """The sequence before which the stream may be trimmed; None if nothing is to go.

    Nothing beyond the lowest floor goes, whatever its size and age: it was not delivered yet.
    """
    if not state.messages:
        return None
    lowest = min(floors, default=state.last)
    limit = max(_beyond_size(state, history), _beyond_age(state, history, marks, now_s))
    bound = min(lowest + 1, limit)
    return bound if bound > state.first else None


def _beyond_size(state: StreamState, history: History) -> int:
    """By the average size of a message: what stays is as large as the bound, or a little less."""
    excess = state.size_bytes - history.bytes_max
    if excess <= 0:
        return state.first
    span = state.last - state.first + 1
    return state.first + math.ceil(span * excess / state.size_bytes)


def _beyond_age(state: StreamState, history: History, marks: Iterable[Mark], now_s: float) -> int:
    oldest_s = now_s - history.age_max_s
    if state.last_time_ns / 1e9 < oldest_s:
        return state.last + 1
    return max((mark.sequence + 1 for mark in marks if mark.at_s < oldest_s), default=state.first)
