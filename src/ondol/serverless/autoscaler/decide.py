"""The decision itself: samples and readiness in, a number of replicas out. No I/O and no clock.

The rules are those of knative/serving `pkg/autoscaler/scaling/autoscaler.go`; each is named where
it is applied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ondol.serverless.autoscaler.window import MaximumWindow, Window


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a revision asks of the autoscaler; durations in seconds, 0 as `max_scale` is no limit."""

    metric: str = "concurrency"
    target: float = 100.0
    utilization: float = 0.7
    container_concurrency: int = 0
    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    activation_scale: int = 0
    window_s: int = 60
    panic_window_percent: float = 10.0
    panic_threshold: float = 2.0
    burst_capacity: float = 0.0
    scale_down_delay_s: float = 0.0
    retention_s: float = 0.0
    progress_deadline_s: float = 600.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    autoscaler_class: str = "kpa.autoscaling.knative.dev"
    rps_target: float = 200.0
    max_scale_limit: int = 0
    allow_zero_initial: bool = False
    to_zero: bool = True
    grace_s: float = 30.0
    """How long to wait, at most, for the proxy to confirm that it would ask the activator."""

    @property
    def total(self) -> float:
        """What one replica can take before utilisation is applied."""
        if self.metric == "concurrency" and self.container_concurrency > 0:
            return min(self.target, float(self.container_concurrency))
        return self.target

    @property
    def target_value(self) -> float:
        """What one replica should take: the divisor of every decision."""
        return max(0.01, self.total * self.utilization)

    @property
    def panic_window_s(self) -> int:
        # Halves go up, as in Go; Python's own rounding would take them to the even side.
        return max(1, math.floor(self.window_s * self.panic_window_percent / 100.0 + 0.5))


@dataclass(frozen=True, slots=True)
class Decision:
    """The replicas wanted, and the burst capacity left over (negative: keep the activator in the path)."""

    replicas: int
    excess_burst_capacity: float
    panicking: bool


@dataclass(frozen=True, slots=True)
class _Panic:
    until_s: float = -math.inf
    most_replicas: int = 0


class Decider:
    """One revision's memory between decisions: two windows, the panic, the delayed scale-down."""

    def __init__(self, scaling: Scaling, *, now_s: float = 0.0, ready: int = 0) -> None:
        self.scaling = scaling
        self._stable = Window(scaling.window_s)
        self._burst = Window(scaling.panic_window_s)
        self._delayed = MaximumWindow(scaling.scale_down_delay_s)
        # A fresh memory over a running revision must not shrink it before it has seen a window.
        self._panic = _Panic(now_s + scaling.window_s, ready) if ready > 1 else _Panic()

    def record(self, now_s: float, value: float) -> None:
        """Take in one sample of the metric (requests in flight, or requests a second)."""
        self._stable.record(now_s, value)
        self._burst.record(now_s, value)

    def quiet(self, now_s: float) -> bool:
        """Whether a whole stable window passed without any traffic."""
        average = self._stable.average(now_s)
        return average is None or average == 0.0

    def decide(self, now_s: float, ready: int, *, reachable: bool = True) -> Decision | None:
        """The decision now, or None while there is nothing to decide on."""
        stable, burst = self._stable.average(now_s), self._burst.average(now_s)
        if stable is None or burst is None:
            return None
        by_stable = self._replicas_for(stable, ready, reachable)
        by_burst = self._replicas_for(burst, ready, reachable)
        over = self._raw(burst) / max(1, ready) >= self.scaling.panic_threshold
        self._panic = self._next_panic(now_s, over)
        panicking = self._panic.until_s > now_s
        replicas = by_stable
        if panicking:
            replicas = max(by_stable, by_burst, self._panic.most_replicas)
            self._panic = replace(self._panic, most_replicas=replicas)
        if reachable and self.scaling.scale_down_delay_s > 0:
            replicas = self._delayed.record(now_s, replicas)
        return Decision(self._bounded(replicas, reachable), self._excess(ready, burst), panicking)

    def _raw(self, value: float) -> int:
        return math.ceil(value / self.scaling.target_value)

    def _replicas_for(self, value: float, ready: int, reachable: bool) -> int:
        most = math.ceil(self.scaling.max_scale_up_rate * max(1, ready))
        least = math.floor(max(1, ready) / self.scaling.max_scale_down_rate) if reachable else 0
        replicas = min(max(self._raw(value), least), most)
        return max(replicas, self.scaling.activation_scale) if replicas > 0 else replicas

    def _next_panic(self, now_s: float, over: bool) -> _Panic:
        if over:
            return _Panic(now_s + self.scaling.window_s, self._panic.most_replicas)
        return self._panic if self._panic.until_s > now_s else _Panic()

    def _excess(self, ready: int, burst: float) -> float:
        if self.scaling.burst_capacity == 0:
            return 0.0
        if self.scaling.burst_capacity < 0:
            return -1.0
        return math.floor(ready * self.scaling.total - self.scaling.burst_capacity - burst)

    def _bounded(self, replicas: int, reachable: bool) -> int:
        least = self.scaling.min_scale if reachable else 0
        most = self.scaling.max_scale or math.inf
        return int(min(max(replicas, least), most))
