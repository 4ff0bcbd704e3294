"""Exponential back-off as a value: how long to wait after the n-th failure."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits grow from `initial_s` by `factor` up to `maximum_s`; `jitter` adds up to that share."""

    initial_s: float = 0.005
    maximum_s: float = 1000.0
    factor: float = 2.0
    jitter: float = 0.0

    def delay_s(self, failures: int, rng: random.Random | None = None) -> float:
        """Seconds to wait after `failures` failures in a row (the first failure is 1)."""
        exponent = min(max(failures, 1) - 1, 64)
        delay = min(self.initial_s * self.factor**exponent, self.maximum_s)
        if self.jitter and rng is not None:
            delay *= 1.0 + self.jitter * rng.random()
        return delay
