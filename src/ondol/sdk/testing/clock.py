"""Virtual time for simulations: the event loop's own clock, which trio's MockClock moves."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ondol.base.clock import SystemClock

T = TypeVar("T")


class LoopClock(SystemClock):
    """The time of the event loop; under `simulate` it jumps as soon as everything waits."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start

    def now(self) -> float:
        return self._start + anyio.current_time()

    def monotonic(self) -> float:
        return anyio.current_time()


def simulate(main: Callable[[], Awaitable[T]], *, seed: int = 0) -> T:
    """Run `main` on trio in virtual time, tasks interleaved by `seed`: one seed, one history.

    Needs trio, which only simulations use. Threads would break the replay: keep the store in memory.
    """
    # trio's tests use the same switch; without it the interleaving differs from run to run.
    scheduler = vars(importlib.import_module("trio._core._run"))
    before = scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"]
    scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    scheduler["_r"].seed(seed)
    clock = importlib.import_module("trio.testing").MockClock(autojump_threshold=0)
    try:
        return anyio.run(main, backend="trio", backend_options={"clock": clock})
    finally:
        scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
