"""What the node does, counted where it happens: calls of the runtime, steps, starts and evictions, probes."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from ondol.api import objects
from ondol.base.clock import Clock
from ondol.base.metrics import Histogram
from ondol.node.pods.model import Spec

_STEP_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The kubelet's bounds for steps of pods and calls of the runtime."""
_START_S: Final = (
    *(0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0),
    *(120.0, 180.0, 240.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
)
"""The kubelet's for starts, and some below its least: most starts here take less than that."""
_PROBE_TYPES: Final = {"liveness": "Liveness", "readiness": "Readiness", "startup": "Startup"}


class Activity:
    """Counts of one node, from its start on."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str]] = Counter()
        self.failed_calls: Counter[tuple[str]] = Counter()
        self.call_s: dict[tuple[str], Histogram] = defaultdict(lambda: Histogram(_STEP_S))
        self.step_s: dict[tuple[str], Histogram] = defaultdict(lambda: Histogram(_STEP_S))
        self.start_s = Histogram(_START_S)
        self.started_containers: Counter[tuple[str]] = Counter()
        self.evictions: Counter[tuple[str]] = Counter()
        """For what the machine was short of, by signal."""
        self.probes: Counter[tuple[str, ...]] = Counter()
        """By type, result, container, pod, namespace and uid."""

    @contextlib.contextmanager
    def call(self, operation: str, clock: Clock) -> Iterator[None]:
        """Count what the block does as one call of the runtime."""
        key, began_at = (operation,), clock.monotonic()
        self.calls[key] += 1
        try:
            yield
        except Exception:
            self.failed_calls[key] += 1
            raise
        finally:
            self.call_s[key].observe(clock.monotonic() - began_at)

    def probed(self, pod: Spec, container: str, kind: str, result: str) -> None:
        """A probe was answered; `result` is `successful`, `failed` or `unknown`."""
        whose = (container, objects.name(pod), objects.namespace(pod), objects.uid(pod))
        self.probes[(_PROBE_TYPES[kind], result, *whose)] += 1

    def forget(self, uid: str) -> None:
        """Nobody asks for the probes of this pod any more."""
        for key in [key for key in self.probes if key[-1] == uid]:
            del self.probes[key]
