"""Quantities: values, canonical spelling and rounding."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.base import quantity

_SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "e3", "e-3", "E2"])
_NUMBERS = st.integers(-(10**6), 10**6) | st.decimals(-1000, 1000, places=3, allow_nan=False)
_TEXTS = st.tuples(_NUMBERS, _SUFFIXES).map(lambda pair: f"{pair[0]}{pair[1]}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", Fraction(1, 2)),
        ("64Mi", Fraction(64 * 2**20)),
        ("1.5e3", Fraction(1500)),
        ("1E", Fraction(10**18)),
        ("1E2", Fraction(100)),
        (".5", Fraction(1, 2)),
        ("+3.", Fraction(3)),
        (2, Fraction(2)),
        (0.25, Fraction(1, 4)),
    ],
)
def test_a_quantity_has_an_exact_value(text: str | float, value: Fraction) -> None:
    """Suffixes, exponents and bare numbers are all read exactly."""
    assert quantity.parse(text) == value


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1gi", "1K", "--1", "1e", "0x1", "1.2.3", "1Zi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """The message is the one validation answers with."""
    with pytest.raises(ValueError, match="quantities must match the regular expression"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("0Ki", "0"),
        ("1Ki", "1Ki"),
        ("1024Mi", "1Gi"),
        ("1025024Mi", "1001Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1000M", "1G"),
        ("0.001T", "1G"),
        ("1000000k", "1G"),
        ("1500", "1500"),
        ("1.08", "1080m"),
        ("0.1", "100m"),
        ("1000m", "1"),
        ("1234567M", "1234567M"),
        ("1080000000n", "1080m"),
        (".001e12", "1e9"),
        ("0.001e0", "1e-3"),
        ("1000e-12", "1e-9"),
        ("3e3", "3e3"),
        ("80e-3", "80e-3"),
        ("1e0", "1"),
        (".001Ki", "1024m"),
        (".000001Ki", "1024u"),
        (".000000000001Ki", "2n"),
        ("-.000000000001Ki", "-2n"),
        ("-1024Mi", "-1Gi"),
        ("0.1n", "1n"),
        ("8Ei", "9223372036854775807"),
        ("1025Ki", "1025Ki"),
    ],
)
def test_the_canonical_spelling_is_apimachinerys(text: str, canonical: str) -> None:
    """Two servers must store one amount as one text."""
    assert quantity.canonical(text) == canonical


@given(_TEXTS)
def test_a_canonical_spelling_is_final_and_keeps_the_value(text: str) -> None:
    """Spelling again changes nothing; the value moves by less than a nano-unit, away from zero."""
    spelled = quantity.canonical(text)
    assert quantity.canonical(spelled) == spelled
    moved = abs(quantity.parse(spelled)) - abs(quantity.parse(text))
    assert 0 <= moved < Fraction(1, 10**9)


@given(_TEXTS)
def test_whole_units_are_rounded_up(text: str) -> None:
    """Who asks for some gets some."""
    value = quantity.parse(text)
    assert 0 <= quantity.bytes_of(text) - value < 1
    assert 0 <= quantity.milli_of(text) - value * 1000 < 1
