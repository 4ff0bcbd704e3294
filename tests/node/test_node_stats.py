"""Usage of the node, its pods and their containers: rates from counters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ondol.node import stats
from ondol.node.runtime import cgroups
from ondol.sdk.testing.clock import LoopClock, simulate

SECOND_NS = 1_000_000_000
REFERENCE = {"name": "cart", "namespace": "shop", "uid": "u"}


def test_a_rate_needs_two_readings() -> None:
    """The first tells nothing, the second what was used in between."""
    rates = stats.Rates()
    assert rates.read("a", 5 * SECOND_NS, 100.0) is None
    assert not rates.has("a", 100.0)
    assert rates.has("a", 101.0)
    assert rates.read("a", 5 * SECOND_NS + SECOND_NS // 2, 101.0) == stats.Rate(SECOND_NS // 2, 1.0)


def test_a_rate_is_over_ten_seconds_or_more_where_it_can_be() -> None:
    """Readings at short intervals do not shorten it, and it is not longer than it need be."""
    rates = stats.Rates()
    windows = [rate.window_s if (rate := rates.read("a", 0, float(at))) else 0.0 for at in range(40)]
    assert windows[:3] == [0.0, 1.0, 2.0]
    assert all(10.0 <= window < 20.0 for window in windows[10:])


def test_readings_of_long_ago_are_no_base() -> None:
    """A load of now is not spread over a silence of an hour."""
    rates = stats.Rates()
    rates.read("a", 0, 0.0)
    assert not rates.has("a", 3600.0)
    assert rates.read("a", SECOND_NS, 3600.0) is None
    assert rates.read("a", 2 * SECOND_NS, 3601.0) == stats.Rate(SECOND_NS, 1.0)


def test_a_counter_that_fell_tells_of_no_use() -> None:
    """As that of a group which was made anew under the same name."""
    rates = stats.Rates()
    rates.read("a", 5 * SECOND_NS, 0.0)
    assert rates.read("a", 0, 2.0) == stats.Rate(0, 2.0)


def test_what_is_gone_is_forgotten() -> None:
    """A node that runs for months does not remember every container it had."""
    rates = stats.Rates()
    rates.read("a", 0, 0.0)
    rates.read("b", 0, 0.0)
    rates.retain({"b"})
    assert (rates.has("a", 1.0), rates.has("b", 1.0)) == (False, True)


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the groups have used, by name; the machine's under the empty one."""
    used: dict[str, int] = {"": 0, "/pod": 0, "/pod/main": 0}
    monkeypatch.setattr(cgroups, "usage", lambda group: cgroups.Usage(used[group], 4096, 2048))
    monkeypatch.setattr(cgroups, "machine_usage", lambda: cgroups.Usage(used[""], 8192, 8000))
    return used


def test_the_first_who_asks_waits_a_second(counters: dict[str, int]) -> None:
    """And whoever asks next does not, as long as that is not long ago."""

    async def asked() -> tuple[float, Any, float]:
        clock = LoopClock()
        of_node = stats.Stats(
            "n1", clock, lambda: [stats.PodGroups(REFERENCE, "/pod", {"main": "/pod/main"})]
        )
        first = clock.monotonic()
        await of_node.settle()
        waited_s = clock.monotonic() - first
        counters.update({"": SECOND_NS, "/pod": SECOND_NS // 2, "/pod/main": SECOND_NS // 4})
        summary = json.loads(json.dumps(of_node.summary()))
        await clock.sleep(15.0)
        again = clock.monotonic()
        await of_node.settle()
        return waited_s, summary, clock.monotonic() - again

    waited_s, summary, again_s = simulate(asked)
    assert waited_s == pytest.approx(1.0)
    assert again_s == 0.0
    assert summary["node"]["nodeName"] == "n1"
    assert summary["node"]["cpu"]["usageNanoCores"] == SECOND_NS
    (pod,) = summary["pods"]
    assert (pod["podRef"], pod["cpu"]["usageNanoCores"]) == (REFERENCE, SECOND_NS // 2)
    assert pod["containers"][0]["cpu"]["usageNanoCores"] == SECOND_NS // 4
    assert pod["containers"][0]["cpu"]["windowSeconds"] == pytest.approx(1.0)
    assert (pod["memory"]["usageBytes"], pod["memory"]["workingSetBytes"]) == (4096, 2048)


def test_the_machine_as_a_whole() -> None:
    """From the kernel's own books: some of its processors' time is used, and some of its memory."""
    used = cgroups.machine_usage()
    assert used.cpu_ns > 0
    assert 0 < used.working_set_bytes <= used.memory_bytes
