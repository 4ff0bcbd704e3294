"""YAML: what bodies mean, which are refused, and that what is written is read as the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.apiserver import yaml_text
from ondol.base import errors

DEPTH_MAX = 50


def parse(text: str) -> Any:
    return yaml_text.parse(text.encode(), DEPTH_MAX).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("- ~\n- null\n-\n- ''", [None, None, None, ""]),
        (
            "[yes, No, on, off, y, true, FALSE, 'yes', yes!]",
            [True, False, True, False, True, True, False, "yes", "yes!"],
        ),
        ("[1, -3, +4, 0x1f, 017, 0o17, 0b11, 1_000, 0, 00]", [1, -3, 4, 31, 15, 15, 3, 1000, 0, 0]),
        ("[1.5, .5, 1e3, 6.e-1, 08]", [1.5, 0.5, 1000.0, 0.6, 8.0]),
        (
            "[12:30, 2001-01-01, 1.2.3, 0x_, -, +, 10Gi]",
            ["12:30", "2001-01-01", "1.2.3", "0x_", "-", "+", "10Gi"],
        ),
        ("[! 12, !!str 12, !!int '12', !!float 1, !!null '']", ["12", "12", 12, 1, None]),
        ("{1: a, true: b, 1.5: c}", {"1": "a", "true": "b", "1.5": "c"}),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y", {"a": "x\ny\n", "b": "x y"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: {<<: [{b: 1}, {b: 2, c: 3}]}", {"a": {"b": 1, "c": 3}}),
        ("'<<': 1", {"<<": 1}),
    ],
)
def test_scalars_and_references(text: str, value: Any) -> None:
    """As kubectl reads the same text."""
    assert parse(text) == value
    assert str(parse(text)) == str(value), "types count: True is not 1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "did not find"),
        ("a: *b", "line 1: unknown anchor 'b' referenced"),
        ("a: &b [*b]", "unknown anchor"),
        ("--- 1\n--- 2", "one document"),
        ("? [1]\n: 2", "a key must be a scalar"),
        ("<<: x", "line 1: map merge requires map or sequence of maps as the value"),
        ("a: .nan", ".nan has no JSON form"),
        ("a: -.inf", "-.inf has no JSON form"),
        ("a: !!binary eA==", "binary has no JSON form"),
        ("a: !!int x", "cannot decode !!str `x` as a !!int"),
        ("[" * (DEPTH_MAX + 1), f"nested more than {DEPTH_MAX} deep"),
        ("- " * (DEPTH_MAX + 1), f"nested more than {DEPTH_MAX} deep"),
        ("? " * (DEPTH_MAX + 1), f"nested more than {DEPTH_MAX} deep"),
        ("[" + "x," * yaml_text.VALUES_MAX + "]", f"more than {yaml_text.VALUES_MAX} values"),
    ],
)
def test_what_has_no_json_form_or_no_end(text: str, why: str) -> None:
    """Refused with the place or the bound; nothing is recursed into, so nothing overflows."""
    with pytest.raises(errors.BadRequest) as refused:
        parse(text)
    assert "error converting YAML to JSON: " in refused.value.message
    assert why in refused.value.message


@pytest.mark.parametrize("item", ["x", "x" * 1000])
def test_aliases_of_aliases_are_bounded(item: str) -> None:
    """A few lines that stand for gigabytes are refused before they are written out."""
    lines = [f"a0: &a0 [{', '.join([item] * 10)}]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(20)]
    with pytest.raises(errors.BadRequest, match="excessive aliasing"):
        parse("\n".join(lines))


@pytest.mark.parametrize(("aliases", "is_refused"), [(99, False), (100, True)])
def test_aliases_are_counted_in_values(aliases: int, is_refused: bool) -> None:
    """Many small values cost more than their bytes: no more are copied than a body may have of its own."""
    items = yaml_text.VALUES_MAX // 100
    text = f"a: &a [{', '.join('x' * items)}]\nb: [{', '.join(['*a'] * aliases)}]"
    if is_refused:
        with pytest.raises(errors.BadRequest, match="excessive aliasing"):
            parse(text)
    else:
        assert len(parse(text)["b"]) == aliases


def test_an_alias_is_a_copy() -> None:
    """What stands in two places may be changed in one of them."""
    value = parse("a: &x {b: [1]}\nc: *x")
    value["a"]["b"].append(2)
    assert value["c"] == {"b": [1]}


def test_repeated_keys_are_told_with_their_line() -> None:
    """The last one counts, as for Go; a key of its own beside a merged one is no repetition."""
    parsed = yaml_text.parse(b"a: 1\nb: &x {c: 1}\nd: {<<: *x, c: 2}\na: 2\n", DEPTH_MAX)
    assert parsed.value == {"a": 2, "b": {"c": 1}, "d": {"c": 2}}
    assert parsed.repeated == ['line 4: key "a" already set in map']


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(
        ["y", "no", "~", "1e3", "12:30", "0x1f", "<<", ".inf", ".nan", "-", "0o7", "1_0", "=", "null"]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(VALUES)
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    """Text stays text, whatever it looks like."""
    parsed = yaml_text.parse(yaml_text.dump(value), 1000).value
    assert parsed == value
    if isinstance(value, float):
        assert math.copysign(1, parsed) == math.copysign(1, value)
