"""Back-off: growth, bounds and jitter."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ondol.base.backoff import Backoff


def test_waits_double_up_to_the_maximum() -> None:
    """The first failure waits the initial time, later ones longer, none beyond the maximum."""
    backoff = Backoff(initial_s=1.0, maximum_s=10.0)
    assert [backoff.delay_s(n) for n in (1, 2, 3, 4, 5, 1000)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.delay_s(0) == 1.0


@given(st.integers(1, 10**6), st.integers())
def test_jitter_only_adds_and_is_bounded(failures: int, seed: int) -> None:
    """Jitter spreads waits upwards by at most its share, and is reproducible from its source."""
    backoff = Backoff(initial_s=0.5, maximum_s=60.0, jitter=0.2)
    plain = backoff.delay_s(failures)
    waited = backoff.delay_s(failures, random.Random(seed))
    assert plain <= waited <= plain * 1.2
    assert waited == backoff.delay_s(failures, random.Random(seed))
