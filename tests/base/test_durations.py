"""Durations are read as Go's `time.ParseDuration` reads them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.base import durations


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ns", 1),
        ("2us", 2_000),
        ("2µs", 2_000),
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("+1m30s", 90_000_000_000),
        ("1h1m1s1ms1us1ns", 3_661_001_001_001),
        ("0.1ns", Decimal("0.1")),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, nanoseconds: int | Decimal) -> None:
    """Numbers with units add up, exactly."""
    assert durations.nanoseconds(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1d", "-1s", "1 s", "1e3s", "1.2.3s", "1s ", ".s", "inf", "\u0661s"]
)
def test_another_text_is_refused(text: str) -> None:
    """No number without a unit but 0, nothing negative, no days."""
    with pytest.raises(ValueError, match="is not a duration such as"):
        durations.nanoseconds(text)


@given(st.integers(0, 10**15))
def test_whole_nanoseconds_survive(count: int) -> None:
    """A count of nanoseconds reads as itself."""
    assert durations.nanoseconds(f"{count}ns") == count
