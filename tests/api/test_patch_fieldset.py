"""Field sets: the algebra, the wire form, and how paths are named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.patch import fieldset

_ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"x"', "v:1", "i:0"])
_PATHS = st.frozensets(st.lists(_ELEMENTS, min_size=1, max_size=3).map(tuple), max_size=6)


def _set(paths: frozenset[tuple[str, ...]]) -> fieldset.FieldSet:
    return fieldset.from_paths(sorted(paths))


def _members(fields: fieldset.FieldSet) -> frozenset[tuple[str, ...]]:
    return frozenset(fieldset.paths(fields))


@given(_PATHS, _PATHS)
def test_the_algebra_is_that_of_sets_of_paths(
    left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]
) -> None:
    """Union, intersection and difference agree with Python's sets on the members."""
    a, b = _set(left), _set(right)
    assert _members(fieldset.union(a, b)) == left | right
    assert _members(fieldset.intersection(a, b)) == left & right
    assert _members(fieldset.difference(a, b)) == left - right
    below = {p for p in left if any(p[: len(q)] == q for q in right)}
    assert _members(fieldset.difference(a, b, below=True)) == left - below


@given(_PATHS)
def test_membership_is_exact(paths: frozenset[tuple[str, ...]]) -> None:
    """A parent on the way to a member is no member itself."""
    fields = _set(paths)
    assert all(fieldset.has(fields, path) for path in paths)
    assert all(fieldset.has(fields, path[:-1]) is (path[:-1] in paths) for path in paths)
    assert not fieldset.has(fields, ())


@given(_PATHS)
def test_the_wire_form_round_trips(paths: frozenset[tuple[str, ...]]) -> None:
    """Encoding, sending and decoding keep every member."""
    sent = msgspec.json.encode(fieldset.encode(_set(paths)))
    assert _members(fieldset.decode(msgspec.json.decode(sent))) == paths


@given(_PATHS, _PATHS)
def test_equal_sets_encode_to_equal_bytes(
    left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]
) -> None:
    """The order of operations does not show on the wire."""
    one = fieldset.encode(fieldset.union(_set(left), _set(right)))
    other = fieldset.encode(fieldset.union(_set(right), _set(left)))
    assert msgspec.json.encode(one) == msgspec.json.encode(other)


@pytest.mark.parametrize(
    ("document", "canonical"),
    [
        ({'k:{"b":1,"a":"x"}': {}}, {'k:{"a":"x","b":1}': {}}),
        ({'k:{ "port" : 80.0 }': {".": {}, "f:x": {}}}, {'k:{"port":80}': {".": {}, "f:x": {}}}),
        ({"v:1.0": {}}, {"v:1": {}}),
        ({"i:01": {}}, {"i:1": {}}),
        ({"z:new": {}, "f:a": {}}, {"f:a": {}}),
    ],
)
def test_decoding_makes_one_spelling(document: dict[str, Any], canonical: dict[str, Any]) -> None:
    """Two clients' spellings of one key are one element; unknown element types are dropped."""
    assert fieldset.decode(document) == canonical


@pytest.mark.parametrize(
    "document", [[], "f:a", {"a": {}}, {"f:a": 1}, {"k:[]": {}}, {"v:{": {}}, {"i:x": {}}]
)
def test_a_malformed_set_is_an_error(document: Any) -> None:
    """The caller decides what to do with it; it is never half read."""
    with pytest.raises((ValueError, msgspec.DecodeError)):
        fieldset.decode(document)


def test_paths_are_named_as_conflicts_name_them() -> None:
    """Fields by dot, keyed elements by their keys, set elements by value."""
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', 'v:"x"', "v:true", "i:2")
    assert fieldset.render(path) == '.spec.ports[port=80,protocol="TCP"][="x"][=true][2]'
