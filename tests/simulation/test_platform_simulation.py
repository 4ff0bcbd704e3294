"""The whole control plane with a node, on virtual time, among faults: what holds all along, and at the end.

`make simulate SEEDS=n` runs more seeds than these; a failure names its seed, and one seed is one history.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import anyio
import pytest
from tests.simulation import happenings, properties
from tests.simulation.platform import Platform, Violated

from ondol.sdk.testing import rough, simulate

_FIRST = int(os.environ.get("ONDOL_FIRST_SEED", "0"))
_SEEDS = range(_FIRST, _FIRST + int(os.environ.get("ONDOL_SEEDS", "60")))
_STEPS = 14


def play(seed: int, change: Callable[[Platform], None] = lambda _: None) -> None:
    """One history; `Violated` or another `AssertionError` names what does not hold."""

    async def main() -> None:
        platform = Platform(seed=seed, faults=rough(), checks=properties.CHECKS)
        platform.faults.latency_s = 0.5
        change(platform)
        async with platform:
            with anyio.fail_after(100_000):
                await _history(platform, random.Random(seed))

    simulate(main, seed=seed)


async def _history(platform: Platform, rng: random.Random) -> None:
    await platform.start_parts()
    await happenings.begin(platform)
    for _ in range(_STEPS):
        await platform.clock.sleep(rng.choice([0.0, 0.5, 3.0, 10.0]))
        platform.history.append(await happenings.happen(platform, rng))
    platform.faults.heal()
    await happenings.mend(platform)
    await _settle(platform)
    await properties.as_asked_for(platform)
    writes = platform.writes_besides_heartbeats
    await platform.clock.sleep(500.0)
    assert platform.writes_besides_heartbeats == writes, f"writes went on: {list(platform.recent_writes)}"


async def _settle(platform: Platform) -> None:
    try:
        await platform.run_until_stable(quiet_s=150, limit_s=3_000)
    except AssertionError as error:
        raise Violated(f"{error}; the last writes: {list(platform.recent_writes)}") from error


@pytest.mark.parametrize("seed", _SEEDS)
def test_whatever_happens_it_becomes_what_was_asked_for(seed: int) -> None:
    """And at every step on the way no promise is broken."""
    play(seed)
