"""How long a shortage is told of: some time beyond its end, so that pods do not come and go with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ondol.api.eviction_thresholds import SIGNALS, Threshold

Seen: TypeAlias = Mapping[str, float]
"""When each condition of the Node was last true, by its name; seconds of a monotonic clock."""


def seen(before: Seen, met: Iterable[Threshold], now: float) -> Seen:
    return {**before, **{SIGNALS[threshold.signal].condition: now for threshold in met}}


def lasting(seen: Seen, now: float, transition_s: float) -> frozenset[str]:
    """The conditions that are told of: true now, or less than the transition period ago."""
    return frozenset(name for name, at in seen.items() if now - at < transition_s or now == at)
